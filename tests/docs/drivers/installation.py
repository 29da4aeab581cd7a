"""docs/installation.md"""

from __future__ import annotations

from tests.docs.drivers import drives
from tests.docs.stage import Stage

PAGE = "installation.md"


@drives(PAGE, "greeter", "greeter-session", slow=True)
def greeter(stage: Stage) -> None:
    process = stage.start("greeter")
    process.wait_line(r"service greeter started \(daebus 0\.1\.0, Python 3\.")
    stage.session("greeter-session")
    assert process.terminate() == 0
    # `daebus run` works with and without an app.run() in the file.
    process = stage.program(["daebus", "run", "greeter.py"])
    stage.session("greeter-session")
    assert process.terminate() == 0
