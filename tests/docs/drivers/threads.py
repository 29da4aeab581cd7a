"""docs/threads.md"""

from __future__ import annotations

from tests.docs.drivers import drives
from tests.docs.stage import Stage
from tests.support.waiting import wait_until
from tests.support.wire import Listener

PAGE = "threads.md"


@drives(PAGE, "poller", slow=True)
def smallest(stage: Stage) -> None:
    with Listener(stage.client(), "poller.values") as heard:
        process = stage.start()
        first, second = heard.wait_for(2)[:2]
        assert 0.9 < second["at"] - first["at"] < 2
        assert process.terminate(5) == 0


@drives(PAGE, "native")
def native(stage: Stage) -> None:
    with stage.service() as service:
        wait_until(lambda: len(service.broadcasts) > 2)
        assert service.broadcasts[0] == ("sensors.room", {"celsius": 21.5})


@drives(PAGE, "control")
def control(stage: Stage) -> None:
    with stage.service(redis_url=stage.redis.url) as service:
        cache = stage.client()
        assert service.call("stop") == {"stopped": True}
        assert service.call("start") == {"started": True}
        wait_until(lambda: int(cache.get("frames") or 0) > 2)
        assert service.call("stop") == {"stopped": True}
        # A thread that was asked to end and still runs cannot be started: this one has ended.
        frames = int(cache.get("frames") or 0)
        assert service.call("start") == {"started": True}
        wait_until(lambda: int(cache.get("frames") or 0) > frames)
        assert service.call("stop") == {"stopped": True}
        assert service.app.start_thread("no such thread") is False
        assert service.app.stop_thread("no such thread") is False


@drives(PAGE, "lock")
def lock(stage: Stage) -> None:
    assert stage.finish() == ""
