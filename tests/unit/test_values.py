"""A value arrives unchanged over every transport, with the extra `fast` and without it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from daebus_runtime import Daebus, DaebusHttp, DaebusWebSocket, codec, request
from daebus_runtime.testing import TestApp

from tests.support.waiting import wait_until

VALUES = [2**64, -(2**63) - 1, 123456789012345678901234567890, {"a": [2**64 - 1, 2**70]}, -0.0, 1e300, "\u2028\x85\x7f"]
REFUSED = ["1e999", '"\\ud800"', "NaN", "[" * 255 + "]" * 255]


@pytest.fixture(scope="module", params=["orjson", "standard library"])
def service(request: pytest.FixtureRequest) -> Iterator[TestApp]:
    chosen = codec.plain if request.param == "standard library" else codec.fast
    if chosen is None:
        pytest.skip("orjson, the extra `fast`, is not installed")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(codec, "dumps", chosen.dumps)
        patch.setattr(codec, "loads", chosen.loads)
        with TestApp(make_app()) as running:
            yield running


def make_app() -> Daebus:
    app = Daebus("echo")
    app.attach(DaebusHttp())
    app.attach(DaebusWebSocket())

    @app.action("echo")
    def echo() -> Any:
        return {"payload": request.payload}

    @app.route("/echo", methods=["POST"])
    def post(req: Any) -> Any:
        return {"payload": req.json}

    @app.socket("echo")
    def socket(data: Any, client_id: str) -> Any:
        return {"payload": data}

    return app


@pytest.mark.parametrize("value", VALUES, ids=lambda value: repr(value)[:40])
def test_a_value_comes_back_as_it_was_sent(service: TestApp, value: Any) -> None:
    assert repr(service.call("echo", value if isinstance(value, dict) else [value])["payload"]) in (
        repr(value),
        repr([value]),
    )
    assert repr(service.call("echo", json.dumps(value))["payload"]) == repr(value)  # a text that holds JSON
    text = json.dumps(value)
    posted = service.http("POST", "/echo", body=text, headers={"content-type": "application/json"})
    assert repr(json.loads(posted.content)) == repr({"payload": value})
    with service.websocket() as client:
        client.send_text(f'{{"type": "echo", "data": {text}, "id": {text}}}')
        answer = client.receive()
        assert (repr(answer["data"]["payload"]), repr(answer["id"])) == (repr(value), repr(value))


@pytest.mark.parametrize("value", VALUES, ids=lambda value: repr(value)[:40])
def test_a_request_id_is_echoed_as_it_was_sent(service: TestApp, value: Any) -> None:
    replies: list[bytes] = []
    bus = service.runner.transport
    inbox = bus.subscribe("replies", lambda channel, data: replies.append(data))
    message = {"action": "echo", "reply_to": "replies", "request_id": value}
    bus.publish("echo", json.dumps(message).encode())
    wait_until(lambda: replies)
    inbox.cancel()
    assert repr(json.loads(replies[0])["request_id"]) == repr(value)


@pytest.mark.parametrize("text", REFUSED, ids=lambda text: text[:12])
def test_a_value_that_would_change_is_refused_with_a_reason(service: TestApp, text: str) -> None:
    assert service.call("echo", text)["payload"] == text  # not JSON, so it stays a string
    posted = service.http("POST", "/echo", body=text, headers={"content-type": "application/json"})
    assert (posted.status, posted.json["error"]) == (400, "Bad Request")
    with service.websocket() as client:
        client.send_text(f'{{"type": "echo", "data": {text}}}')
        assert client.receive()["error"] == "Invalid JSON"
