"""What is imported or compiled while a service serves holds the event loop, and with it every client. So nothing is:
what services need is imported at the start, and what few of them need in an OS thread."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Callable

import pytest
import websocket
from daebus_runtime import DaebusCaller, RemoteError

from tests.support.ports import free_port
from tests.support.process import ServiceProcess
from tests.support.redis_server import RedisServer
from tests.support.waiting import wait_until

pytestmark = pytest.mark.slow

PROGRAM = """
    import sys

    from daebus import Daebus, DaebusHttp, DaebusWebSocket, broadcast, logger, request
    from gevent import monkey

    app = Daebus("late")
    app.attach(DaebusHttp())
    app.attach(DaebusWebSocket())
    ident = monkey.get_original("_thread", "get_ident")
    loop, late, ticks = ident(), {"loop": [], "elsewhere": []}, []


    def note(name):
        late["loop" if ident() == loop else "elsewhere"].append(name)


    @sys.addaudithook
    def audit(event, arguments):
        # "<unknown>" is a line that the text of a traceback parses.
        if event == "compile" and Noting in sys.meta_path and arguments[1] != "<unknown>":
            note(f"compile {arguments[1]}")


    class Noting:
        @staticmethod
        def find_spec(name, path=None, target=None):
            note(name)


    @app.action("watch")
    def watch():
        sys.meta_path.insert(0, Noting)
        return "watching"


    @app.action("look")
    def look():
        return {**late, "ticks": len(ticks)}


    @app.action("echo")
    def echo():
        return request.payload


    @app.action("shout")
    def shout():
        logger.warning("shouting")
        return broadcast.send("news", {"from": "late"})


    @app.listen("news")
    def news(message):
        pass


    @app.action("remember")
    def remember():
        app.cache.set("a", "b")
        return app.redis.get("a")


    @app.action("fail")
    @app.socket("fail")
    @app.route("/fail")
    @app.background("fail", 0.1)
    def fail(*arguments):
        ticks.append(1)
        raise ValueError("no")


    @app.background("cron", cron="* * * * *", timezone="Europe/Berlin")
    def cron():
        pass


    @app.route("/plants/<name>", methods=["GET", "POST"])
    def plants(req, name):
        return {"name": name, "payload": req.payload if isinstance(req.payload, str) else None}


    @app.socket("ping")
    def ping(data, client_id):
        return data


    app.run()
"""
PART = b'--x\r\nContent-Disposition: form-data; name="a"; filename="b"\r\n\r\n1\r\n--x--\r\n'
BODIES = {
    "application/json": b"{}",
    "application/x-www-form-urlencoded": b"a=1",
    "multipart/form-data; boundary=x": PART,
}


def fetch(url: str, body: bytes | None = None, **headers: str) -> int:
    """The status of the answer."""
    try:
        with urllib.request.urlopen(urllib.request.Request(url, body, headers), timeout=10) as answer:
            status: int = answer.status
            return status
    except urllib.error.HTTPError as error:
        return error.code


def test_nothing_is_imported_or_compiled_in_the_loop_of_a_service_that_serves(
    shared_redis: RedisServer, start_process: Callable[..., ServiceProcess]
) -> None:
    port, management = free_port(), free_port()
    settings = {"HTTP_PORT": port, "MANAGEMENT_PORT": management, "REDIS_URL": shared_redis.url}
    process = start_process(PROGRAM, env={f"DAEBUS_{name}": str(value) for name, value in settings.items()})
    process.wait_line("service late started")
    wait_until(lambda: fetch(f"http://127.0.0.1:{management}/readyz") == 200, 10)
    with DaebusCaller("late", redis_host="127.0.0.1", redis_port=shared_redis.port) as caller:
        caller.send_request("watch", {})
        use_everything(caller, f"127.0.0.1:{port}", f"127.0.0.1:{management}")
        wait_until(lambda: caller.send_request("look", {})["ticks"] > 5, 10)
        seen = caller.send_request("look", {})
    assert seen["loop"] == []
    assert {"redis", "prometheus_client"} <= set(seen["elsewhere"])


def use_everything(caller: DaebusCaller, address: str, management: str) -> None:
    assert caller.send_request("echo", [1]) == [1]
    assert caller.send_request("remember", {}) == "b"
    caller.send_request("shout", {})
    with pytest.raises(RemoteError, match="no"):
        caller.send_request("fail", {})
    for kind, body in BODIES.items():
        assert fetch(f"http://{address}/plants/rose", body, **{"Content-Type": kind}) == 200
    pages = {"/plants/rose": 200, "/fail": 500, "/nothing": 404}
    assert {path: fetch(f"http://{address}{path}") for path in pages} == pages
    pages = {"/livez": 200, "/readyz": 200, "/metrics": 200, "/nothing": 404}
    assert {path: fetch(f"http://{management}{path}") for path in pages} == pages
    client = websocket.create_connection(f"ws://{address}/ws", timeout=10)
    for kind in ("ping", "fail", "nothing"):
        client.send(json.dumps({"type": kind, "data": {}}))
        assert json.loads(client.recv())["type"] == ("response" if kind == "ping" else "error")
    client.close()
