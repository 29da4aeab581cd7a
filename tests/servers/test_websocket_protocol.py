"""The JSON protocol of WebSockets: messages, answers, errors, and the life of a client."""

from __future__ import annotations

import contextvars
import logging
import threading
from collections.abc import Callable
from typing import Any

import gevent
import pytest
from daebus_runtime import (
    Blueprint,
    Daebus,
    DaebusHttp,
    DaebusWebSocket,
    WebSocketRequest,
    WebSocketResponse,
    request,
    response,
)
from daebus_runtime.errors import ConfigurationError, MissingComponent, OutsideHandler, RegistrationError
from daebus_runtime.servers.clients import Client, Handshake
from daebus_runtime.servers.http import check
from daebus_runtime.testing import TestApp

from tests.support.waiting import wait_until


@pytest.fixture
def app() -> Daebus:
    app = Daebus("sockets")
    app.attach(DaebusHttp())
    app.attach(DaebusWebSocket())
    return app


def answers(handler: Callable[[Any, str], Any], data: Any = None) -> dict[str, Any]:
    """The frame that answers one message."""
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


def test_none_is_no_frame_and_messages_are_answered_in_their_order(app: Daebus) -> None:
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


def test_a_message_can_be_read_in_both_ways() -> None:
    def handler(req: Any, client_id: str) -> Any:
        assert type(req).__mro__[1] is dict
        assert req.get("message") == req.data.get("message") == req.data["message"]
        return [req.type, req.client_id == client_id, request.data == req, request.payload["type"]]

    assert answers(handler, {"message": "hello"})["data"] == ["x", True, True, "x"]
    assert answers(lambda data, client_id: [data.type, data[0], data.data[0]], ["a"])["data"] == ["x", "a", "a"]
    assert answers(lambda data, client_id: [data.type, data + "!", data.data], "a")["data"] == ["x", "a!", "a"]
    assert answers(lambda data, client_id: [data], None)["data"] == [None]


def test_protocol_errors_are_told(app: Daebus) -> None:
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


def test_an_exception_is_told_to_the_log_and_not_to_the_client(app: Daebus, caplog: pytest.LogCaptureFixture) -> None:
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


def test_several_answers_are_sent_in_their_order(app: Daebus) -> None:
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


def test_the_classes_work_by_themselves() -> None:
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

        def send(self, message: str | bytes) -> None:
            sent.append(str(message))

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


# --- the life of a client


def test_a_connect_hook_may_refuse_before_the_upgrade(app: Daebus) -> None:
    gone: list[str] = []

    @app.socket_connect()
    def check_token(data: Any, client_id: str) -> Any:
        assert (dict(data), data.client_id) == ({}, client_id)
        with pytest.raises(OutsideHandler):
            response.send("no client yet")
        return request.query.get("token") == "right"

    app.socket_disconnect()(lambda data, client_id: gone.append(client_id))
    with TestApp(app) as service:
        with pytest.raises(ConnectionRefusedError, match="403"), service.websocket("/ws?token=wrong"):
            pass
        assert (app.websocket.get_client_count(), gone) == (0, [])
        with service.websocket("/ws?token=right"):
            wait_until(lambda: app.websocket.get_client_count() == 1)
        wait_until(lambda: len(gone) == 1)


def test_a_failing_connect_hook_refuses_with_500_and_says_nothing(app: Daebus) -> None:
    @app.socket_connect()
    def fail(data: Any, client_id: str) -> None:
        raise ValueError("the password is 1234")

    with (
        TestApp(app) as service,
        pytest.raises(ConnectionRefusedError, match=r"500: .*'id': ") as caught,
        service.websocket(),
    ):
        pass
    assert "1234" not in str(caught.value)


def test_hooks_run_in_their_order_and_their_results_are_sent(app: Daebus) -> None:
    seen: list[Any] = []
    websocket: DaebusWebSocket = app.websocket

    @app.socket_connect()
    def connect(data: Any, client_id: str) -> Any:
        seen.append(("connect", websocket.is_client_connected(client_id)))
        assert websocket.send_to_client(client_id, "early")
        return {"welcome": True}

    @websocket.on_connect
    def opened(client_id: str) -> None:
        seen.append(("on_connect", websocket.is_client_connected(client_id)))
        websocket.send_to_client(client_id, "opened")

    @app.socket_register()
    def register(data: Any, client_id: str) -> Any:
        seen.append(("register", request.type))
        return "registered"

    @app.socket_disconnect()
    def disconnect(data: Any, client_id: str) -> None:
        seen.append(("disconnect", websocket.is_client_connected(client_id)))

    @websocket.on_disconnect
    def closed(client_id: str) -> None:
        seen.append(("on_disconnect", client_id.startswith("user_")))

    with TestApp(app) as service:
        with service.websocket() as client:
            frames = [client.receive() for _ in range(4)]
        wait_until(lambda: len(seen) == 5)
    assert [frame["data"] for frame in frames] == ["early", {"welcome": True}, "opened", "registered"]
    assert seen == [
        ("connect", False),
        ("on_connect", True),
        ("register", "register"),
        ("disconnect", False),
        ("on_disconnect", True),
    ]


def test_a_failing_hook_after_the_upgrade_ends_nothing(app: Daebus) -> None:
    app.socket_register()(lambda data, client_id: 1 / 0)
    app.websocket.on_connect(lambda client_id: 1 / 0)
    app.socket("echo")(lambda data, client_id: data)
    with TestApp(app) as service, service.websocket() as client:
        assert client.request("echo", 1) == {"type": "response", "data": 1}


def test_a_client_may_register_again_with_data(app: Daebus) -> None:
    app.socket_register()(lambda data, client_id: {"name": data.get("name")})
    with TestApp(app) as service, service.websocket() as client:
        assert client.receive()["data"] == {"name": None}
        assert client.request("register", {"name": "me"}) == {"type": "response", "data": {"name": "me"}}


def test_clients_are_named_by_the_generator(app: Daebus) -> None:
    app.websocket.set_client_id_generator(lambda websocket, path: f"{path}-{websocket.query['name']}")
    app.socket("who")(lambda data, client_id: client_id)
    with TestApp(app) as service, service.websocket("/chat?name=me") as client:
        assert client.request("who")["data"] == "/chat-me"
        assert app.websocket.get_clients() == ["/chat-me"]
        with pytest.raises(ConnectionRefusedError, match="500"), service.websocket("/chat"):
            pass
        app.websocket.set_client_id_generator(lambda websocket, path: None)
        with service.websocket() as unnamed:
            assert unnamed.request("who")["data"].startswith("user_")


def test_a_client_that_comes_back_replaces_its_old_connection(app: Daebus) -> None:
    seen: list[str] = []
    app.websocket.set_client_id_generator(lambda websocket, path: "kiosk")
    app.socket("echo")(lambda data, client_id: data)
    app.websocket.on_connect(lambda client_id: seen.append("on"))
    app.websocket.on_disconnect(lambda client_id: seen.append("off"))
    with TestApp(app) as service:
        with service.websocket() as old:
            old.request("echo")
            with service.websocket() as new:
                assert new.request("echo", 1)["data"] == 1
                assert old.closed is not None
                assert old.closed[0] == 4001
                assert seen == ["on", "off", "on"]
                assert app.websocket.get_client_count() == 1
                assert app.websocket.send_to_client("kiosk", "to the new one")
                assert new.receive()["data"] == "to the new one"
        wait_until(lambda: seen == ["on", "off", "on", "off"])
        assert app.websocket.get_client_count() == 0


def test_websockets_leave_a_share_of_the_connections_to_http(app: Daebus, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DAEBUS_CONNECTION_LIMIT", "10")
    app.socket("echo")(lambda data, client_id: data)
    with TestApp(app) as service:
        sockets = [service.websocket() for _ in range(8)]
        for socket in sockets:
            socket.__enter__().request("echo")
        with pytest.raises(ConnectionRefusedError, match=r"503.*too many connections"), service.websocket():
            pass
        sockets.pop().__exit__(None, None, None)
        with service.websocket() as client:
            assert client.request("echo", 1)["data"] == 1
        for socket in sockets:
            socket.__exit__(None, None, None)
        assert app.metrics.dropped == {"websocket_limit": 1}


# --- declaring


def test_the_order_of_attaching_and_declaring_does_not_matter() -> None:
    app, blueprint, websocket = Daebus("late"), Blueprint("chat"), DaebusWebSocket()
    app.socket("one")(lambda data, client_id: 1)
    websocket.socket("two")(lambda data, client_id: 2)
    app.attach(websocket)
    app.attach(DaebusHttp())
    app.register_blueprint(blueprint)
    blueprint.socket("three")(lambda data, client_id: 3)
    with TestApp(app) as service, service.websocket() as client:
        assert [client.request(kind)["data"] for kind in ("one", "two", "three")] == [1, 2, 3]


def test_what_cannot_work_is_refused_at_once(app: Daebus) -> None:
    async def never(*args: Any) -> None:
        pass

    for declare in (
        app.socket("a"),
        app.socket_connect(),
        app.websocket.socket("b"),
        app.websocket.on_connect,
        app.websocket.on_disconnect,
    ):
        with pytest.raises(RegistrationError, match="async"):
            declare(never)
    app.socket("c")(lambda data, client_id: 1)
    with pytest.raises(RegistrationError, match="declared twice"):
        app.websocket.socket("c")(lambda data, client_id: 1)
    with pytest.raises(RegistrationError, match="use socket_connect"):
        app.websocket.socket("connect")
    with pytest.raises(RegistrationError, match="attached"):
        app.attach(DaebusWebSocket())
    with pytest.raises(RegistrationError, match="another application"):
        Daebus("other").attach(app.websocket)


def test_sockets_without_a_component_stop_the_start() -> None:
    for declare in ("socket_connect", "socket"):
        app = Daebus("none")
        app.attach(DaebusHttp())
        getattr(app, declare)(*["x"] * (declare == "socket"))(lambda data, client_id: 1)
        with pytest.raises(MissingComponent, match=r"no WebSocket component is attached .*DaebusWebSocket") as caught:
            check(app)
        assert isinstance(caught.value, RuntimeError)


def test_websockets_alone_need_a_port(monkeypatch: pytest.MonkeyPatch) -> None:
    app = Daebus("alone")
    app.attach(DaebusWebSocket())
    with pytest.raises(ConfigurationError, match=r"attach a DaebusHttp.*DAEBUS_WEBSOCKET_PORT"):
        check(app)
    monkeypatch.setenv("DAEBUS_WEBSOCKET_PORT", "9000")
    check(app)
    assert app.websocket.get_websocket_port() == 9000
    with pytest.raises(ConfigurationError, match=r"DaebusWebSocket\(port\): '-1' is not a port number"):
        DaebusWebSocket(port=-1)


def test_the_port_is_the_one_of_http_or_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    def port(websocket: DaebusWebSocket) -> int | None:
        app = Daebus("ports")
        app.attach(websocket)
        app.attach(DaebusHttp(port=8123))
        return websocket.get_websocket_port()

    assert DaebusWebSocket().get_websocket_port() is None
    assert DaebusWebSocket(port=9000).get_websocket_port() == 9000
    assert port(DaebusWebSocket()) == 8123
    assert port(DaebusWebSocket(port=9000)) == 9000
    monkeypatch.setenv("DAEBUS_WEBSOCKET_PORT", "8081")
    assert port(DaebusWebSocket(port=9000)) == 8081
