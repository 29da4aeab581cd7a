"""docs/commands.md"""

from __future__ import annotations

from tests.docs.drivers import drives
from tests.docs.stage import Stage

PAGE = "commands.md"


@drives(PAGE, "lamp", "lamp-session", "exit-codes", "heater-session", "census", slow=True)
def lamp(stage: Stage) -> None:
    stage.save("lamp")
    stage.program(["daebus", "run", "lamp.py"])
    stage.session("lamp-session")
    stage.session("exit-codes", REDIS=f"redis://127.0.0.1:{stage.redis.port}/0")
    stage.session("heater-session")
    assert "heater 0 0 None\n" in stage.finish("census")
