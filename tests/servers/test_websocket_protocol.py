"""The JSON protocol of WebSockets: messages, answers and errors."""

from __future__ import annotations

import contextvars
import logging
import threading
from collections.abc import Callable
from typing import Any

import gevent
import pytest
from daebus_runtime import (
    Daebus,
    DaebusHttp,
    DaebusWebSocket,
    WebSocketRequest,
    WebSocketResponse,
    request,
    response,
)
from daebus_runtime.errors import OutsideHandler
from daebus_runtime.servers.websocket.clients import Client
from daebus_runtime.servers.websocket.endpoint import Handshake
from daebus_runtime.servers.websocket.frames import Frame
from daebus_runtime.testing import TestApp


def answers(handler: Callable[[Any, str], Any], data: Any = None) -> dict[str, Any]:
    """Send one message to the handler; the frame that answers it."""
    app = Daebus("one")
    app.attach(DaebusHttp())
    app.attach(DaebusWebSocket())
    app.socket("x")(handler)
    with TestApp(app) as service, service.websocket() as client:
        client.send("x", data)
        return client.receive()


# --- messages and answers


@pytest.mark.parametrize("value", [{"a": 1}, [1, 2], "text", 5, 1.5, True, False, {}, [], "", 0])
def test_a_result_goes_back_as_a_response(value: Any) -> None:
    assert answers(lambda data, client_id: value) == {"type": "response", "data": value}
    assert answers(lambda data, client_id: data, value) == {"type": "response", "data": value}


def test_none_sends_no_frame_and_messages_are_answered_in_order(app: Daebus) -> None:
    @app.socket("maybe")
    def maybe(data: Any, client_id: str) -> Any:
        gevent.sleep(0.01 / data["n"])
        return data["n"] if data["n"] % 2 else None

    with TestApp(app) as service, service.websocket() as client:
        for n in range(1, 10):
            client.send("maybe", {"n": n})
        assert [client.receive()["data"] for _ in range(5)] == [1, 3, 5, 7, 9]


def test_the_id_of_a_message_is_echoed_whatever_it_is(app: Daebus) -> None:
    app.socket("echo")(lambda data, client_id: data)
    app.socket("fail")(lambda data, client_id: 1 / 0)
    app.socket("send")(lambda data, client_id: response.send("sent", "other"))
    with TestApp(app) as service, service.websocket() as client:
        for number in ("a", 7, [1], None, {"b": 2}):
            client.send("echo", 1, id=number)
            assert client.receive() == {"type": "response", "data": 1, "id": number}
        for kind in ("fail", "send", "nowhere"):
            client.send(kind, 1, id="x")
            assert client.receive()["id"] == "x"
        client.send("echo", 1)
        assert "id" not in client.receive()


def test_data_is_an_empty_object_when_there_is_none(app: Daebus) -> None:
    app.socket("echo")(lambda data, client_id: [data, data.data])
    with TestApp(app) as service, service.websocket() as client:
        client.send("echo")
        assert client.receive()["data"] == [{}, {}]


def test_a_message_can_be_read_as_its_data_or_as_a_request() -> None:
    def handler(req: Any, client_id: str) -> Any:
        assert type(req).__mro__[1] is dict
        assert req.get("message") == req.data.get("message") == req.data["message"]
        return [req.type, req.client_id == client_id, request.data == req, request.payload["type"]]

    assert answers(handler, {"message": "hello"})["data"] == ["x", True, True, "x"]
    assert answers(lambda data, client_id: [data.type, data[0], data.data[0]], ["a"])["data"] == ["x", "a", "a"]
    assert answers(lambda data, client_id: [data.type, data + "!", data.data], "a")["data"] == ["x", "a!", "a"]
    assert answers(lambda data, client_id: [data], None)["data"] == [None]


def test_protocol_errors_are_answered(app: Daebus) -> None:
    app.socket("echo")(lambda data, client_id: data)
    app.socket_connect()(lambda data, client_id: None)
    with TestApp(app) as service, service.websocket() as client:
        for text, error in (
            ("nix", "Invalid JSON"),
            ('{"type": "echo", "data": NaN}', "Invalid JSON"),
            ("[" * 100_000, "Invalid JSON"),
            ("[1]", "No message type provided"),
            ('"echo"', "No message type provided"),
            ("{}", "No message type provided"),
            ('{"type": null}', "No message type provided"),
            ('{"type": ""}', "No message type provided"),
            ('{"type": "x"}', "No handler found for message type 'x'"),
            ('{"type": 5}', "No handler found for message type '5'"),
            ('{"type": "connect"}', "No handler found for message type 'connect'"),
            ('{"type": "disconnect"}', "No handler found for message type 'disconnect'"),
            ('{"type": "on_connect"}', "No handler found for message type 'on_connect'"),
        ):
            client.send_text(text)
            assert client.receive() == {"type": "error", "error": error}, text[:20]
        assert client.request("echo", 1) == {"type": "response", "data": 1}


def test_an_exception_is_logged_and_not_shown_to_the_client(app: Daebus, caplog: pytest.LogCaptureFixture) -> None:
    @app.socket("fail")
    def fail(data: Any, client_id: str) -> None:
        raise ValueError("the password is 1234")

    app.socket("unknown")(lambda data, client_id: {"a": object()})
    app.socket("echo")(lambda data, client_id: data)
    with TestApp(app) as service, service.websocket() as client, caplog.at_level(logging.ERROR):
        for kind in ("fail", "unknown"):
            frame = client.request(kind)
            assert (frame["type"], frame["data"]["error"]) == ("error", "Internal Server Error")
            assert set(frame["data"]) == {"error", "id"}
            assert any(frame["data"]["id"] in record.getMessage() for record in caplog.records)
        assert client.request("echo", 1)["data"] == 1, "the connection goes on"
    assert "the password is 1234" in caplog.text


def test_debug_shows_it_to_the_client(app: Daebus, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DAEBUS_DEBUG", "1")
    app.socket("fail")(lambda data, client_id: 1 / 0)
    with TestApp(app) as service, service.websocket() as client:
        assert client.request("fail")["data"]["detail"] == "ZeroDivisionError: division by zero"


def test_a_handler_may_answer_through_response() -> None:
    assert answers(lambda data, client_id: response.send({"a": 1})) == {"type": "response", "data": {"a": 1}}
    assert answers(lambda data, client_id: response.success([1])) == {"type": "response", "data": [1]}
    assert answers(lambda data, client_id: response.send(1, "news")) == {"type": "news", "data": 1}
    assert answers(lambda data, client_id: response.error("no")) == {"type": "error", "data": {"error": "no"}}
    assert answers(lambda data, client_id: response.progress({"step": 1}, 25)) == {
        "type": "progress",
        "data": {"step": 1, "progress_percentage": 25},
    }
    assert answers(lambda data, client_id: request.websocket.send("hi", "greeting") and None) == {
        "type": "greeting",
        "data": "hi",
    }


def test_several_answers_are_sent_in_order(app: Daebus) -> None:
    @app.socket("count")
    def count(data: Any, client_id: str) -> str:
        for n in range(3):
            response.progress({"n": n})
        return "done"

    with TestApp(app) as service, service.websocket() as client:
        client.send("count")
        assert [client.receive()["type"] for _ in range(4)] == ["progress"] * 3 + ["response"]


def test_a_blocking_handler_runs_in_a_thread_with_its_request(app: Daebus) -> None:
    main = threading.get_ident()

    @app.socket("block", blocking=True)
    def block(data: Any, client_id: str) -> Any:
        response.send("first")
        return [request.data["n"], threading.get_ident() != main]

    with TestApp(app) as service, service.websocket() as client:
        client.send("block", {"n": 1})
        assert client.receive()["data"] == "first"
        assert client.receive()["data"] == [1, True]


def test_each_message_has_a_context_of_its_own(app: Daebus) -> None:
    variable = contextvars.ContextVar("variable", default="unset")

    @app.socket("set")
    def set_(data: Any, client_id: str) -> Any:
        before = variable.get()
        variable.set(data)
        gevent.sleep(0.001)
        return [before, gevent.spawn(lambda: request.data).get()]

    with TestApp(app) as service, service.websocket() as one, service.websocket() as two:
        for n in range(5):
            one.send("set", f"one{n}")
            two.send("set", f"two{n}")
        for n in range(5):
            assert one.receive()["data"] == ["unset", f"one{n}"]
            assert two.receive()["data"] == ["unset", f"two{n}"]
        with pytest.raises(OutsideHandler):
            _ = request.data


def test_the_handshake_stays_readable(app: Daebus) -> None:
    app.socket("who")(
        lambda data, client_id: [request.headers["x-USER"], request.query, request.cookies, request.path, request.type]
    )
    headers = {"X-User": "me", "Cookie": "session=abc"}
    with TestApp(app) as service, service.websocket("/live?token=1", headers) as client:
        assert client.request("who")["data"] == ["me", {"token": "1"}, {"session": "abc"}, "/live", "who"]


def test_the_classes_work_without_a_service() -> None:
    message = {"type": "x", "data": {"a": 1}, "id": 5}
    made = WebSocketRequest("me", message, None)
    assert (made.client_id, made.payload, made.data, made.message_type, made.request_id) == (
        "me",
        message,
        {"a": 1},
        "x",
        5,
    )
    client = Client("me", Handshake())
    sent: list[str] = []

    class Socket:
        def receive(self) -> None:
            return None

        def send(self, message: str | bytes | Frame) -> None:
            assert isinstance(message, Frame)
            sent.append(message.payload.decode())

        def close(self, code: int = 1000, message: str = "") -> None:
            pass

    client.open(Socket())
    WebSocketResponse(client, "me").send({"a": 1}, "kind")
    assert sent == ['{"type":"kind","data":{"a":1}}']


def test_messages_are_counted_by_type(app: Daebus) -> None:
    app.socket("divide")(lambda data, client_id: 1 / data)
    with TestApp(app) as service, service.websocket() as client:
        for n in (0, 1, 2):
            client.request("divide", n)
        client.request("nowhere")
        work = app.metrics.work["websocket", "divide"]
        assert (work.count, work.errors) == (3, 1)
        assert ("websocket", "nowhere") not in app.metrics.work
        assert b"daebus_websocket_clients 1.0" in app.metrics.text()
