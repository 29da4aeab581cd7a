"""docs/websockets.md"""

from __future__ import annotations

import pytest

from tests.docs.drivers import drives
from tests.docs.stage import Stage

PAGE = "websockets.md"


@drives(PAGE, "echo", slow=True)
def smallest(stage: Stage) -> None:
    process = stage.start("echo")
    with stage.websocket() as client:
        assert client.ask("echo", {"a": 1}, id=7) == {"type": "response", "data": {"a": 1}, "id": 7}
        assert client.ask("echo") == {"type": "response", "data": {}}
        client.send_bytes(b'{"type": "echo", "data": 1}')
        assert client.receive() == {"type": "response", "data": 1}
        client.send("{")
        assert client.receive() == {"type": "error", "error": "Invalid JSON"}
        client.send({})
        assert client.receive() == {"type": "error", "error": "No message type provided"}
        assert client.ask("x") == {"type": "error", "error": "No handler found for message type 'x'"}
        with stage.websocket("/any/path") as other:
            assert other.ask("echo", [1])["data"] == [1]
            assert process.terminate() == 0
            assert other.wait_closed()[0] == 1001
        assert client.wait_closed()[0] == 1001


@drives(PAGE, "door")
def door(stage: Stage) -> None:
    module = stage.load()
    with stage.service(module) as service:
        with pytest.raises(ConnectionRefusedError), service.websocket("/ws?key=please"):
            pass
        with service.websocket("/ws?key=sesame&name=Ada") as ada, service.websocket("/ws?key=sesame&name=Bob") as bob:
            ada.send("knock", {})
            assert bob.receive() == {"type": "knocked", "data": {"who": "Ada"}}
            heard = [ada.receive(), ada.receive()]
            assert {"type": "response", "data": {"open": True}} in heard
            assert {"type": "knocked", "data": {"who": "Ada"}} in heard
            service.broadcast("door.closed", {"by": "wind"})
            assert bob.receive() == {"type": "closed", "data": {"by": "wind"}}
            assert sorted(module.websocket.get_clients()) == ["Ada", "Bob"]
            assert module.websocket.get_client_metadata("Ada")["messages_received"] == 1
            assert module.websocket.get_client_metadata("nobody") is None
            assert module.websocket.broadcast_to_clients(["Ada", "nobody"], 1) == {"Ada": True, "nobody": False}
            assert module.websocket.get_clients_by_filter(lambda name, about: about["messages_received"]) == ["Ada"]
            assert module.websocket.disconnect_client("Bob") is True
