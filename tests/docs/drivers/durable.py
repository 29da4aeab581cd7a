"""docs/durable.md"""

from __future__ import annotations

from tests.docs.drivers import drives
from tests.docs.stage import Stage

PAGE = "durable.md"


@drives(PAGE, "stock")
def stock(stage: Stage) -> None:
    with stage.service() as service:
        assert service.call("take", {"article": "tea", "pieces": 2}) == {"taken": 2}
        assert service.call("take", {"article": "tea", "pieces": 3}) == {"taken": 3}
        assert service.app.redis.hget("stock", "tea") == "-5"


@drives(PAGE, "planner")
def planner(stage: Stage) -> None:
    module = stage.load()
    with stage.service(module) as service:
        assert service.call("order", {"plant": "sage"}) == {"services": 1}
        service.settle()
        assert [plant for _, plant in module.planned] == ["sage"]


@drives(PAGE, "shop")
def shop(stage: Stage) -> None:
    module = stage.load()
    with stage.service(module):
        assert [module.buy("order-1", "tea") for _ in range(2)] == [{"sold": 1}] * 2
        assert module.buy("order-2", "tea") == {"sold": 2}
        assert module.sold == ["tea", "tea"]
