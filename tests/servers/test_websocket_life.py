"""A WebSocket client from its handshake to its end, and the declaration of hooks and handlers."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import gevent
import pytest
from daebus_runtime import (
    Blueprint,
    Daebus,
    DaebusHttp,
    DaebusWebSocket,
    request,
    response,
)
from daebus_runtime.errors import ConfigurationError, MissingComponent, OutsideHandler, RegistrationError
from daebus_runtime.servers.http.application import check
from daebus_runtime.testing import TestApp, TestSocket
from gevent.event import Event

from tests.support.waiting import wait_until

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


def test_a_failing_connect_hook_refuses_with_500_and_leaks_nothing(app: Daebus) -> None:
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


def test_hooks_run_in_order_and_their_results_are_sent(app: Daebus) -> None:
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


WAYS: dict[str, Callable[[Any, str], Callable[[Any], Any]]] = {
    "socket(name)": lambda where, name: where.socket(name),
    "socket(message_type=name)": lambda where, name: where.socket(message_type=name),
    "socket(name, blocking=True)": lambda where, name: where.socket(name, blocking=True),
    "socket_name()": lambda where, name: getattr(where, f"socket_{name}")(),
    "socket_name(blocking=True)": lambda where, name: getattr(where, f"socket_{name}")(blocking=True),
}


@pytest.mark.parametrize("place", ["application", "component", "blueprint"])
@pytest.mark.parametrize("way", WAYS)
def test_a_hook_may_be_declared_by_its_message_type(app: Daebus, way: str, place: str) -> None:
    part = Blueprint("part")
    where = {"application": app, "component": app.websocket, "blueprint": part}[place]
    seen: list[tuple[str, str, Any]] = []
    for name in ("connect", "register", "disconnect"):
        WAYS[way](where, name)(lambda data, client_id, name=name: seen.append((name, client_id, dict(data))))
    WAYS[way](where, "connect")(lambda data, client_id: request.query.get("key") == "right")
    app.register_blueprint(part)
    with TestApp(app) as service:
        with pytest.raises(ConnectionRefusedError, match="403"), service.websocket("/ws"):
            pass
        with service.websocket("/ws?key=right") as client:
            client.send("register", {"name": "me"})
            client.send("connect", {})
            assert client.receive()["error"] == "No handler found for message type 'connect'"
        wait_until(lambda: len(seen) == 5)
    _, connected, opened, registered, gone = seen
    assert len({client_id for _, client_id, _ in seen[1:]}) == 1
    assert [connected[::2], opened[::2], registered[::2], gone[::2]] == [
        ("connect", {}),
        ("register", {}),
        ("register", {"name": "me"}),
        ("disconnect", {}),
    ]


def test_a_failing_hook_after_the_upgrade_does_not_end_the_connection(app: Daebus) -> None:
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


def test_client_ids_come_from_the_generator(app: Daebus) -> None:
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


def test_the_newest_of_three_connections_is_served_while_a_hook_of_the_oldest_waits(app: Daebus) -> None:
    seen, wait = [], Event()
    app.websocket.set_client_id_generator(lambda websocket, path: "kiosk")
    app.socket("who")(lambda data, client_id: request.query["n"])

    @app.socket_disconnect()
    def gone(data: Any, client_id: str) -> None:
        seen.append(request.query["n"])
        wait.wait()

    with TestApp(app) as service, contextlib.ExitStack() as stack:
        sockets = []
        for n in range(3):
            sockets.append(stack.enter_context(service.websocket(f"/ws?n={n}")))
            wait_until(lambda: is_reached(app, sockets[-1]))
        wait_until(lambda: seen == ["0", "1"])
        assert [socket.closed and socket.closed[0] for socket in sockets] == [4001, 4001, None]
        assert app.websocket.get_clients() == ["kiosk"]
        assert sockets[2].request("who")["data"] == "2"  # it does not wait for the older one's hook
        wait.set()
        for socket in sockets:
            drain(socket)
        assert is_reached(app, sockets[2])
        assert [drain(socket) for socket in sockets] == [[], [], []]
    wait_until(lambda: seen == ["0", "1", "2"])
    assert app.websocket.get_clients() == []


def drain(socket: TestSocket) -> list[Any]:
    """All messages that have arrived."""
    received = []
    with contextlib.suppress(TimeoutError):
        while True:
            received.append(socket.receive(0)["data"])
    return received


def is_reached(app: Daebus, socket: TestSocket) -> bool:
    """Whether a message that is sent to the id reaches this socket, and nothing else had."""
    drain(socket)
    app.websocket.send_to_client("kiosk", "hello")
    return drain(socket) == ["hello"]


def test_an_older_handshake_that_is_accepted_late_does_not_replace_a_newer_client(app: Daebus) -> None:
    seen, wait = [], Event()
    app.websocket.set_client_id_generator(lambda websocket, path: "kiosk")
    app.websocket.on_connect(lambda client_id: seen.append("on"))
    app.websocket.on_disconnect(lambda client_id: seen.append("off"))
    app.socket_disconnect()(lambda data, client_id: seen.append(f"disconnect {request.query['n']}"))

    @app.socket_connect()
    def connect(data: Any, client_id: str) -> None:
        if request.query["n"] == "0":
            seen.append("asked")
            wait.wait()

    def late(service: TestApp) -> tuple[int, str] | None:
        with service.websocket("/ws?n=0") as socket:
            wait_until(lambda: socket.closed is not None)
        return socket.closed

    with TestApp(app) as service:
        older = gevent.spawn(late, service)
        wait_until(lambda: seen == ["asked"])
        with service.websocket("/ws?n=1") as newer:
            wait_until(lambda: seen == ["asked", "on"])
            wait.set()
            assert older.get() == (4001, "replaced by a newer connection of the same client")
            assert app.websocket.send_to_client("kiosk", 1)
            assert newer.receive()["data"] == 1
    assert seen == ["asked", "on", "disconnect 0", "disconnect 1", "off"]


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


def test_a_declaration_that_cannot_work_is_refused_at_once(app: Daebus) -> None:
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
            check(app.running())
        assert isinstance(caught.value, RuntimeError)


def test_websockets_alone_need_a_port(monkeypatch: pytest.MonkeyPatch) -> None:
    app = Daebus("alone")
    app.attach(DaebusWebSocket())
    with pytest.raises(ConfigurationError, match=r"attach a DaebusHttp.*DAEBUS_WEBSOCKET_PORT"):
        check(app.running())
    monkeypatch.setenv("DAEBUS_WEBSOCKET_PORT", "9000")
    check(app.running())
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
