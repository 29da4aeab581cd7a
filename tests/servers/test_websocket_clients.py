"""A service and its WebSocket clients: sending to them, looking them up, limiting and disconnecting them."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import Any

import gevent
import pytest
from daebus_runtime import Daebus, DaebusHttp, DaebusWebSocket
from daebus_runtime.testing import TestApp, TestSocket

from tests.support.waiting import wait_until


@pytest.fixture
def app() -> Daebus:
    app = Daebus("clients")
    app.attach(DaebusHttp())
    app.attach(DaebusWebSocket())
    app.websocket.set_client_id_generator(lambda websocket, path: websocket.query["name"])
    app.socket("echo")(lambda data, client_id: data)
    return app


@contextlib.contextmanager
def connected(service: TestApp, *names: str) -> Iterator[list[TestSocket]]:
    """Clients with these names; the service has accepted each of them."""
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(service.websocket(f"/ws?name={name}")) for name in names]
        for client in clients:
            client.request("echo")
        yield clients


def test_messages_go_to_one_to_some_and_to_all(app: Daebus) -> None:
    websocket = app.websocket
    with TestApp(app) as service, connected(service, "a", "b", "c") as (a, b, c):
        assert websocket.send_to_client("a", {"n": 1}) is True
        assert websocket.send_to_client("nobody", 1) is False
        assert a.receive() == {"type": "message", "data": {"n": 1}}
        assert websocket.broadcast_to_all("all") == 3
        for client in (a, b, c):
            assert client.receive() == {"type": "broadcast", "data": "all"}
        assert websocket.broadcast_to_clients(["a", "nobody", "c"], 5) == {"a": True, "nobody": False, "c": True}
        assert a.receive() == c.receive() == {"type": "message", "data": 5}
        assert websocket.send_to_client("b", 1, "kind")
        assert websocket.broadcast_to_all(2, message_type="kind") == 3
        assert b.receive() == {"type": "kind", "data": 1}
        assert b.receive() == {"type": "kind", "data": 2}


def test_the_safe_names_of_the_original_do_the_same(app: Daebus) -> None:
    with TestApp(app) as service, connected(service, "a") as (client,):
        assert app.websocket.safe_send_to_client("a", 1)
        assert app.websocket.safe_broadcast_to_all(2) == 1
        assert app.websocket.safe_broadcast_to_clients(["a"], 3) == {"a": True}
        assert [client.receive()["data"] for _ in range(3)] == [1, 2, 3]


def test_sending_a_value_without_a_json_form_raises(app: Daebus) -> None:
    with TestApp(app) as service, connected(service, "a"):
        for send in (app.websocket.broadcast_to_all, lambda data: app.websocket.send_to_client("a", data)):
            with pytest.raises(TypeError, match="object has no JSON form"):
                send(object())


def test_clients_are_found_by_id_and_by_their_data(app: Daebus) -> None:
    websocket = app.websocket
    begun = time.time()
    with TestApp(app) as service, connected(service, "a", "b") as (a, _):
        a.request("echo")
        websocket.send_to_client("b", 1)
        assert websocket.get_clients() == ["a", "b"]
        assert list(websocket.clients) == ["a", "b"]
        assert websocket.get_client_count() == 2
        assert websocket.is_client_connected("a")
        assert not websocket.is_client_connected("c")
        about = websocket.get_client_metadata("a")
        assert websocket.get_client_metadata("c") is None
        assert set(about) == {
            "connected_at",
            "path",
            "remote_address",
            "secure",
            "messages_received",
            "messages_sent",
            "last_activity",
            "uptime_seconds",
            "idle_seconds",
        }
        assert (about["path"], about["secure"], about["messages_received"], about["messages_sent"]) == (
            "/ws",
            False,
            2,
            2,
        )
        assert begun <= about["connected_at"] <= about["last_activity"] <= time.time()
        assert 0 <= about["idle_seconds"] <= about["uptime_seconds"]
        assert websocket.get_clients_by_filter(lambda one, meta: meta["messages_received"] == 2) == ["a"]
        assert websocket.get_clients_by_filter(lambda one, meta: one == "b") == ["b"]
    wait_until(lambda: websocket.get_client_count() == 0)
    assert websocket.get_clients() == []


def test_before_anything_is_attached_there_are_no_clients() -> None:
    websocket = DaebusWebSocket()
    assert (websocket.get_clients(), websocket.clients, websocket.get_client_count()) == ([], {}, 0)
    assert websocket.broadcast_to_all(1) == 0
    assert websocket.send_to_client("a", 1) is False
    assert websocket.disconnect_client("a") is False


def test_clients_can_be_disconnected(app: Daebus) -> None:
    websocket = app.websocket
    with TestApp(app) as service, connected(service, "a", "b", "c") as (a, b, c):
        assert websocket.disconnect_client("a") is True
        assert websocket.disconnect_client("nobody") is False
        wait_until(lambda: a.closed == (1000, "Server closed connection"))
        assert websocket.disconnect_client("b", 4000, "why")
        wait_until(lambda: b.closed == (4000, "why"))
        wait_until(lambda: websocket.get_clients() == ["c"])
        for code in (0, 999, 1005, 1006, 1015, 2000, 5000):
            with pytest.raises(ValueError, match=f"{code} is not a close code"):
                websocket.disconnect_client("c", code)
        assert c.request("echo", 1)["data"] == 1
        assert websocket.disconnect_all_clients() == 1
        wait_until(lambda: c.closed is not None)
        wait_until(lambda: websocket.get_client_count() == 0)


def test_a_shutdown_notifies_the_clients_waits_and_closes(app: Daebus) -> None:
    websocket = app.websocket
    with TestApp(app) as service, connected(service, "polite", "deaf") as (polite, deaf):
        begun = time.monotonic()
        ending = gevent.spawn(websocket.graceful_shutdown, 0.3, {"bye": 1})
        assert polite.receive() == {"type": "server_shutdown", "data": {"bye": 1}}
        polite.close()
        ending.get()
        assert 0.29 < time.monotonic() - begun < 2
        wait_until(lambda: deaf.closed == (1000, "Server shutting down"))
        with pytest.raises(ConnectionRefusedError, match="503"), service.websocket("/ws?name=late"):
            pass


def test_a_shutdown_without_clients_does_not_wait(app: Daebus) -> None:
    with TestApp(app):
        begun = time.monotonic()
        app.websocket.graceful_shutdown(timeout=5)
        assert time.monotonic() - begun < 1


def test_a_client_that_sends_too_much_gets_an_error(app: Daebus) -> None:
    app.websocket.enable_rate_limiting(max_messages=3, window_seconds=0.5)
    with TestApp(app) as service, service.websocket("/ws?name=a") as eager, service.websocket("/ws?name=b") as other:
        for _ in range(5):
            eager.send("echo", 1)
        frames = [eager.receive() for _ in range(5)]
        assert frames[:3] == [{"type": "response", "data": 1}] * 3
        assert frames[3:] == [{"type": "error", "error": "Rate limit exceeded", "retry_after": 1}] * 2
        assert other.request("echo", 2)["data"] == 2

        def accepted() -> bool:
            eager.send("echo", 3)
            return bool(eager.receive()["type"] == "response")

        # Refused messages do not count against the limit: once the first three are old enough, there is room again.
        wait_until(accepted, 2)
        app.websocket.disable_rate_limiting()
        for n in range(10):
            assert eager.request("echo", n)["data"] == n
    for wrong in ((0, 1), (1, 0)):
        with pytest.raises(ValueError, match="a rate is"):
            app.websocket.enable_rate_limiting(*wrong)


def test_a_handler_may_send_to_everyone_and_end_its_own_client(app: Daebus) -> None:
    @app.socket("say")
    def say(data: Any, client_id: str) -> Any:
        app.websocket.broadcast_to_all([client_id, data], "said")
        return "ok"

    @app.socket("leave")
    def leave(data: Any, client_id: str) -> None:
        app.websocket.disconnect_client(client_id, 4002, "left")

    with TestApp(app) as service, connected(service, "a", "b") as (a, b):
        a.send("say", "hi")
        assert a.receive() == b.receive() == {"type": "said", "data": ["a", "hi"]}
        assert a.receive() == {"type": "response", "data": "ok"}
        a.send("leave")
        wait_until(lambda: a.closed == (4002, "left"))
        assert b.request("echo", 1)["data"] == 1
