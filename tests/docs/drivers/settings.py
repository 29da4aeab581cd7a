"""docs/settings.md"""

from __future__ import annotations

from tests.docs.drivers import drives
from tests.docs.stage import Stage

PAGE = "settings.md"


@drives(PAGE, "kitchen", "bad-value", slow=True)
def kitchen(stage: Stage) -> None:
    stage.save("kitchen")
    stage.session("bad-value")
    done = stage.shell("DAEBUS_DRAIN_SECONDS=soon python kitchen.py")
    assert done.returncode == 1
    process = stage.start("kitchen", DAEBUS_SERVICE="bistro", DAEBUS_PORT="8080")
    process.wait_line("service bistro started")
    assert process.count("http_port is taken from DAEBUS_HTTP_PORT, not from the program's argument") == 1
    assert process.count("service is taken from DAEBUS_SERVICE") == 1
    assert process.count("DAEBUS_PORT is not a setting; did you mean DAEBUS_HTTP_PORT") == 1
    assert "soup" in stage.shell(f"curl {stage.url('/menu')}").stdout
    assert process.terminate() == 0
