"""One client that floods the service does not delay the others: timers and other clients' requests are on time."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path

import gevent
import pytest

from tests.servers.conftest import Service, started
from tests.servers.raw import BINARY, CONTINUATION, PING, TEXT, RawWebSocket, ask, frame
from tests.support import wire
from tests.support.bystanders import Bystanders
from tests.support.ports import free_port
from tests.support.process import ServiceProcess
from tests.support.redis_server import RedisServer

pytestmark = pytest.mark.alone

LATE = 0.03
"""Seconds. A blocked loop is 60 ms late every time; a single message of 1 MB takes 7 to 12 ms without a switch."""
BUSY = 0.15
"""Seconds. The bystanders compete for the processors with the flood, which fills one core, and with other programs."""
PROGRAM = """
    import time
    from daebus_runtime import Daebus, DaebusHttp, DaebusWebSocket

    app = Daebus("flooded")
    app.attach(DaebusHttp())
    websocket = DaebusWebSocket()
    app.attach(websocket)
    late = []

    @app.thread("clock")
    def clock(running):
        while running():
            # In CPU time of the process: what else runs on the machine makes no timer of ours late.
            begun = time.process_time()
            time.sleep(0.002)
            late.append(time.process_time() - begun - 0.002)

    @app.route("/late")
    def how_late(req):
        seen = sorted(late)
        late.clear()
        return {"timers": len(seen), "median": seen[len(seen) // 2], "p95": seen[len(seen) * 95 // 100]}

    @app.route("/ping")
    def ping(req):
        return {}

    @app.action("ping")
    def ping_action():
        return {}

    @app.socket("echo")
    def echo(data, client_id):
        return data

    @app.socket("take")
    def take(data, client_id):
        pass

    @app.socket("pour")
    def pour(data, client_id):
        for n in range(400):
            websocket.send_to_client(client_id, data)

    app.run()
"""


@pytest.fixture(scope="module")
def flooded(tmp_path_factory: pytest.TempPathFactory, session_redis: RedisServer) -> Iterator[tuple[Service, str]]:
    """The service and the URL of its Redis."""
    port = free_port()
    environment = {"DAEBUS_HTTP_PORT": str(port), "DAEBUS_REDIS_URL": session_redis.url}
    folder: Path = tmp_path_factory.mktemp("flooded")
    with ServiceProcess(PROGRAM, directory=folder, env=environment) as process:
        service = started(process, port)
        with session_redis.client() as client:
            wire.wait_for_subscriber(client, "flooded")
        yield service, session_redis.url
        assert process.terminate() == 0, process.output


def message(kind: str, size: int) -> bytes:
    return frame(TEXT, json.dumps({"type": kind, "data": "x" * size}).encode())


FLOODS = {
    "echoes": message("echo", 20) * 500,
    "messages that are not answered": message("take", 20) * 500,
    "messages that are refused": message("nothing", 20) * 500,
    "pings": frame(PING, b"x") * 1000,
    "fragments without end": frame(TEXT, b"", fin=False) + frame(CONTINUATION, b"", fin=False) * 20_000,
    "huge messages": message("take", 1_000_000),
    "binary that is no JSON": frame(BINARY, b"\xff" * 200) * 500,
    "a large answer to each small message": message("pour", 3000),
}


def flood(port: int, data: bytes, seconds: float) -> None:
    """Sends `data` again and again, as fast as the service accepts it, and reads all answers."""
    client = RawWebSocket(port)

    def read() -> None:
        while client.socket.recv(65_536):
            pass

    def send() -> None:
        with contextlib.suppress(OSError):
            while True:
                client.send(data)

    greenlets = [gevent.spawn(read), gevent.spawn(send)]
    try:
        gevent.sleep(seconds)
    finally:
        gevent.killall(greenlets)
        client.close()


def test_a_client_at_full_rate_does_not_delay_the_others(flooded: tuple[Service, str]) -> None:
    service, url = flooded
    late = {}  # the lag of each flood
    with Bystanders(http_port=service.port, redis_url=url, service="flooded") as others:
        for name, data in FLOODS.items():
            ask(service.port, "GET", "/late")
            flood(service.port, data, 0.3)
            late[name] = ask(service.port, "GET", "/late").json
    assert all(seen["timers"] > 5 for seen in late.values()), late
    assert all(seen["median"] < LATE for seen in late.values()), late
    others.assert_unharmed(floor=BUSY)


def test_several_flooding_clients_share_what_one_would_get(flooded: tuple[Service, str]) -> None:
    service, url = flooded
    with Bystanders(http_port=service.port, redis_url=url, service="flooded") as others:
        ask(service.port, "GET", "/late")
        gevent.joinall([gevent.spawn(flood, service.port, FLOODS["echoes"], 0.5) for _ in range(8)], raise_error=True)
        late = ask(service.port, "GET", "/late").json
    assert late["median"] < LATE, late
    others.assert_unharmed(floor=BUSY)
