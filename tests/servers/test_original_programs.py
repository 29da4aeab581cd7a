"""Programs from the original's guides start and serve, and the original's names do what they did there."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from daebus import (
    Daebus,
    DaebusHttp,
    DaebusWebSocket,
    HttpRequest,
    HttpResponse,
    PubSubRequest,
    get_daemon,
    request,
    response,
)
from daebus.modules.http import DaebusJSONEncoder, make_json_serializable
from daebus_runtime.errors import OutsideHandler
from daebus_runtime.testing import TestApp

from tests.servers.conftest import started
from tests.servers.raw import TEXT, RawWebSocket, ask, frame
from tests.support import wire
from tests.support.bystanders import Bystanders
from tests.support.ports import free_port
from tests.support.process import ServiceProcess
from tests.support.redis_server import RedisServer

GUIDE = """
    from daebus import Daebus, DaebusHttp, DaebusWebSocket, request, response, logger
    from daebus.modules.blueprint import Blueprint

    app = Daebus(__name__)
    http = app.attach(DaebusHttp(port=8080))
    websocket = app.attach(DaebusWebSocket())
    users = {}

    @app.socket("connect")
    def on_connect(req, sid):
        logger.info(f"Client {sid} connected")
        return {"status": "connected"}

    @app.socket("disconnect")
    def on_disconnect(req, sid):
        users.pop(sid, None)

    @app.socket("register")
    def on_register(req, sid):
        users[sid] = req.get("name")
        return {"status": "registered", "client_id": sid}

    @app.socket(message_type="whisper")
    def whisper(req, sid):
        response.send({"from": users[sid], "text": req["text"]}, message_type="whispered", target_sid=req["to"])
        response.progress({"step": "sent"}, progress_percentage=100)
        websocket.broadcast_to_clients(client_ids=[sid], data="whispered", message_type="note")
        return {"status": "received"}

    @http.route("/users", methods=["GET"])
    def list_users(req):
        return response.send({"users": sorted(filter(None, users.values()))}, 200)

    part = Blueprint("part")

    @part.action("ping")
    def ping():
        return response.send(payload={"pong": True})

    @part.route("/ping")
    def http_ping(req):
        return {"pong": True}

    @part.socket("ping")
    def socket_ping(req, sid):
        return {"pong": True}

    @app.workflow("join")
    def join():
        pass

    assert app.register_blueprint(part) is app

    if __name__ == "__main__":
        app.run(service="chat", debug=False, redis_host="127.0.0.1", redis_port=6379)
"""


def say(client: RawWebSocket, kind: str, data: Any) -> None:
    client.send(frame(TEXT, json.dumps({"type": kind, "data": data}).encode()))


@pytest.mark.alone
def test_a_program_of_the_guides_starts_and_serves(tmp_path: Path, session_redis: RedisServer) -> None:
    port = free_port()
    environment = {"DAEBUS_HTTP_PORT": str(port), "DAEBUS_REDIS_URL": session_redis.url}
    with ServiceProcess(GUIDE, directory=tmp_path, env=environment) as process:
        started(process, port)
        with session_redis.client() as client:
            wire.wait_for_subscriber(client, "chat")
        with (
            Bystanders(http_port=port, redis_url=session_redis.url, service="chat") as others,
            RawWebSocket(port) as ada,
            RawWebSocket(port) as bob,
        ):
            ids = {}
            for name, client in (("ada", ada), ("bob", bob)):
                assert client.message()["data"] == {"status": "connected"}
                assert client.message()["data"]["status"] == "registered"  # sent once the connection is open
                say(client, "register", {"name": name})
                answer = client.message()
                assert answer["type"] == "response"
                ids[name] = answer["data"]["client_id"]
            assert ask(port, "GET", "/users").json == {"users": ["ada", "bob"]}
            say(ada, "whisper", {"to": ids["bob"], "text": "hello"})
            assert bob.message() == {"type": "whispered", "data": {"from": "ada", "text": "hello"}}
            assert ada.message() == {"type": "progress", "data": {"step": "sent", "progress_percentage": 100}}
            assert ada.message() == {"type": "note", "data": "whispered"}
            assert ada.message() == {"type": "response", "data": {"status": "received"}}
            say(ada, "disconnect", {})
            assert ada.message()["error"] == "No handler found for message type 'disconnect'"
            others.assert_unharmed()
        assert process.terminate() == 0, process.output
        assert process.count("workflow 'join' is never run") == 1


@pytest.fixture
def app() -> Daebus:
    app = Daebus("original")
    app.attach(DaebusHttp())
    websocket = app.attach(DaebusWebSocket())
    websocket.set_client_id_generator(generator_func=lambda socket, path: socket.request_headers["X-Id"] + path)
    return app


def test_the_originals_names_of_the_component(app: Daebus) -> None:
    websocket = app.websocket
    websocket.enable_rate_limiting(2, 60)
    seen: list[Any] = []

    @app.socket("names")
    def names(data: Any, client_id: str) -> None:
        websocket.send("from the component")
        response.broadcast_to_all("to all")
        seen.append(response.send_to_client(client_id, "to one"))
        seen.append(response.broadcast_to_clients([client_id, "nobody"], "to some"))
        seen.append(asyncio.run(websocket.broadcast_to_all_async("async", "kind")))
        seen.append((websocket.is_rate_limited(client_id), websocket.is_rate_limited("nobody")))
        websocket.record_message_received(client_id)
        seen.append(websocket.is_rate_limited(client_id))
        response.send("lost", target_sid="nobody")
        response.error("wrong", target_sid=client_id)

    assert (websocket.daemon, websocket.is_running) == (app, False)
    with TestApp(app) as service, service.websocket("/a", headers={"X-Id": "me"}) as client:
        client.send("names")
        frames = [client.receive() for _ in range(6)]
        assert websocket.is_running
        assert list(websocket.client_metadata) == ["me/a"]
        assert websocket.get_clients_by_filter(filter_func=lambda one, meta: True) == ["me/a"]
        assert (websocket.rate_limit_enabled, websocket.rate_limit_messages, websocket.rate_limit_window) == (
            True,
            2,
            60,
        )
    assert [frame["data"] for frame in frames] == [
        *("from the component", "to all", "to one", "to some", "async"),
        {"error": "wrong"},
    ]
    assert seen == [True, {"me/a": True, "nobody": False}, 1, (False, False), True]
    with pytest.raises(OutsideHandler):
        websocket.send("to whom?")


def test_the_originals_names_of_http(app: Daebus) -> None:
    def gone_for_ever(req: Any) -> None:
        response.set_status(410)

    app.http.route("/gone")(gone_for_ever)
    app.http.route("/step")(lambda req: response.progress({"a": 1}, progress_percentage=5))
    with TestApp(app) as service:
        gone, step = service.http("GET", "/gone"), service.http("GET", "/step")
    assert (step.status, step.json) == (200, {"a": 1, "progress_percentage": 5})
    assert HttpResponse().get_response() == (None, 200)
    assert HttpResponse().set_status(404).get_response() == (None, 404)
    assert HttpRequest(raw_request={"json": {"a": 1}, "method": "POST"}).payload == {"a": 1}
    assert gone.status == 410
    assert app.http.daemon is app
    attached = Daebus("other")
    DaebusHttp().attach(attached)
    DaebusWebSocket(8081).attach(daemon=attached)
    assert (attached.http.port, attached.websocket.actual_port) == (8080, 8081)


def test_the_originals_names_on_the_bus(app: Daebus) -> None:
    @app.action("count")
    def count() -> None:
        response.progress({"n": 1}, progress_percentage=50)
        response.send(payload={"payload": request.payload, "same": get_daemon() is app})

    seen: list[Any] = []
    with TestApp(app) as service:
        answer = service.call("count", {"a": 1}, on_progress=seen.append)
    assert answer == {"payload": {"a": 1}, "same": True}
    assert seen == [{"n": 1, "progress_percentage": 50}]


def test_a_request_is_made_from_its_message() -> None:
    message = {"action": "a", "payload": '{"x": 1}', "reply_to": "r", "request_id": 7, "service": "s"}
    for data in (message, json.dumps(message)):
        made = PubSubRequest(data)
        assert (made.payload, made.reply_to, made.request_id, made.service) == ({"x": 1}, "r", 7, "s")
        assert made.raw == message
    assert PubSubRequest({}).payload == {}
    for wrong, error in (("no JSON", ValueError), ("[]", ValueError), (None, TypeError), (b"{}", TypeError)):
        with pytest.raises(error):
            PubSubRequest(wrong)  # type: ignore[arg-type]


def test_the_originals_encoder_encodes_as_replies_are() -> None:
    assert json.dumps({"a": {1}}, cls=DaebusJSONEncoder) == '{"a": [1]}'
    assert make_json_serializable({"a": (1, 2)}) == {"a": [1, 2]}
