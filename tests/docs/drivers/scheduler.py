"""docs/scheduler.md"""

from __future__ import annotations

import datetime
import time
from zoneinfo import ZoneInfo

import pytest
from daebus_runtime import ConfigurationError
from daebus_runtime.errors import OutsideHandler, RegistrationError

from tests.docs.drivers import drives
from tests.docs.stage import Stage
from tests.support.wire import Listener

PAGE = "scheduler.md"


@drives(PAGE, "heartbeat", "clock", slow=True)
def smallest(stage: Stage) -> None:
    stage.save("heartbeat")
    stage.pytest("clock")
    with Listener(stage.client(), "heartbeats") as heard:
        begun = time.time()
        process = stage.start("heartbeat")
        message = heard.wait_for(1, timeout=20)[0]
        assert 10 <= message["planned"] - begun < 15
        assert process.terminate() == 0


@drives(PAGE, "kinds")
def kinds(stage: Stage) -> None:
    module = stage.load()
    with stage.service(module) as service:
        begun = service.clock.now
        runs = service.clock.advance(3600)
        reports = len(service.broadcasts)
        assert runs == 3600 * 2 + 4 + reports
        berlin = [begun.astimezone(ZoneInfo("Europe/Berlin")) + datetime.timedelta(minutes=n) for n in range(1, 61)]
        due = [when for when in berlin if (when.hour, when.minute) == (6, 30) and when.weekday() < 5]
        assert reports == len(due)
    with pytest.raises(RegistrationError, match="twice"):
        module.app.background("report", 1)(lambda: None)
    for wrong in ({"interval": 0}, {"cron": "x"}, {"cron": "* * * * *", "timezone": "Nowhere"}, {}):
        with pytest.raises(RegistrationError, match="'wrong'"):
            module.app.background("wrong", **wrong)


@drives(PAGE, "reschedule")
def reschedule(stage: Stage) -> None:
    module = stage.load()
    with pytest.raises(ConfigurationError):
        module.app.reschedule("poll", interval=1)

    def asks() -> None:
        with pytest.raises(OutsideHandler):
            module.response.send({})
        assert module.request.name == "asks"
        module.broadcast.send("asked", {})

    module.app.background("asks", 60)(asks)
    with stage.service(module, redis_url=stage.redis.url) as service:
        with pytest.raises(KeyError):
            module.app.reschedule("no such task", interval=1)
        assert service.clock.advance(59) == 0
        assert service.call("hurry") == {"seconds": 1}
        assert service.clock.advance(3) == 1 + 3  # `asks`, and `poll` once a second from then on
        assert service.broadcasts.count(("polls", {})) == 3
        assert ("asked", {}) in service.broadcasts
