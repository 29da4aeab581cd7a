"""docs/testing.md: its tests are run by a separate pytest."""

from __future__ import annotations

from tests.docs.drivers import drives
from tests.docs.stage import Stage

PAGE = "testing.md"


@drives(PAGE, "garden", "garden-test", "real-bus", slow=True)
def garden(stage: Stage) -> None:
    stage.save("garden")
    stage.pytest("garden-test", "real-bus")


@drives(PAGE, "stand-in", slow=True)
def stand_in(stage: Stage) -> None:
    stage.pytest("stand-in")
