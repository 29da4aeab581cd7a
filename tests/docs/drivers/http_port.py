"""docs/http-port.md"""

from __future__ import annotations

from tests.docs.drivers import drives
from tests.docs.stage import Stage

PAGE = "http-port.md"


@drives(PAGE, "onward")
def onward(stage: Stage) -> None:
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    with stage.service() as service:
        sent = {"X-Request-ID": "a-1", "traceparent": f"00-{trace}-00f067aa0ba902b7-01"}
        answer = service.http("GET", "/report", headers=sent)
        assert answer.json["headers"]["X-Request-ID"] == "a-1"
        assert trace in answer.json["headers"]["traceparent"]
        assert 50 < answer.json["timeout"] <= 60
