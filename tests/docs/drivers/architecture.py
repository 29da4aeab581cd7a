"""docs/architecture.md"""

from __future__ import annotations

from tests.docs.drivers import drives
from tests.docs.stage import Stage

PAGE = "architecture.md"


@drives(PAGE, "parts")
def parts(stage: Stage) -> None:
    with stage.service() as service:
        assert service.call("add", [1, 2]) == 3
