"""Many clients and many senders at once: no stream is corrupted, and no client waits for another one."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import gevent
import pytest

from tests.servers.conftest import Service, started
from tests.servers.raw import TEXT, RawWebSocket, ask, frame
from tests.support import wire
from tests.support.ports import free_port
from tests.support.process import ServiceProcess
from tests.support.redis_server import RedisServer
from tests.support.waiting import wait_until

SENDERS = ("action", "http", "socket", "task", "thread", "native", "blocking")
MESSAGES = 150
CLIENTS = 50
PROGRAM = f"""
    import time
    from daebus_runtime import Daebus, DaebusHttp, DaebusWebSocket, request

    app = Daebus("crowd")
    app.attach(DaebusHttp())
    websocket = DaebusWebSocket()
    app.attach(websocket)
    go = []

    def size(n):
        return 20_000 if n % 10 == 0 else n

    def send(sender):
        for n in range({MESSAGES}):
            websocket.broadcast_to_all({{"sender": sender, "n": n, "fill": "x" * size(n)}})
            if n % 10 == 0:
                time.sleep(0.001)

    @app.action("send")
    def by_action():
        send("action")
        return "sent"

    @app.action("send_blocking", blocking=True)
    def by_blocking_action():
        send("blocking")
        return "sent"

    @app.route("/send", methods=["POST"])
    def by_http(req):
        send("http")

    @app.socket("send")
    def by_socket(data, client_id):
        send("socket")
        return "sent"

    @app.background("send", 0.05)
    def by_task():
        if "task" in go:
            go.remove("task")
            send("task")

    def wait_and_send(name, running):
        while running():
            time.sleep(0.01)
            if name in go:
                go.remove(name)
                send(name)

    @app.thread("thread")
    def by_thread(running):
        wait_and_send("thread", running)

    @app.thread("native", native=True)
    def by_native_thread(running):
        wait_and_send("native", running)

    @app.route("/go", methods=["POST"])
    def start(req):
        go.extend(["task", "thread", "native"])

    @app.route("/all", methods=["POST"])
    def to_all(req):
        return websocket.broadcast_to_all(req.payload)

    @app.route("/state")
    def state(req):
        return {{"clients": websocket.get_client_count(), "dropped": app.metrics.dropped}}

    @app.socket("echo")
    def echo(data, client_id):
        return data

    @app.socket("slow")
    def slow(data, client_id):
        time.sleep(data)
        return "slept"

    @app.socket("block", blocking=True)
    def block(data, client_id):
        time.sleep(data)
        return "slept"

    app.run()
"""


@pytest.fixture(scope="module")
def crowd(tmp_path_factory: pytest.TempPathFactory, session_redis: RedisServer) -> Iterator[Service]:
    """The running service, on a real Redis."""
    port = free_port()
    environment = {"DAEBUS_HTTP_PORT": str(port), "DAEBUS_REDIS_URL": session_redis.url}
    folder: Path = tmp_path_factory.mktemp("crowd")
    with ServiceProcess(PROGRAM, directory=folder, env=environment) as process:
        service = started(process, port)
        wire.wait_for_subscriber(session_redis.client(), "crowd")
        yield service
        assert process.terminate() == 0, process.output


def message(kind: str, data: Any) -> bytes:
    return frame(TEXT, json.dumps({"type": kind, "data": data}).encode())


def read_all(client: RawWebSocket) -> dict[str, list[int]]:
    """Reads until all messages should have arrived; the numbers received from each sender."""
    numbers: dict[str, list[int]] = {sender: [] for sender in SENDERS}
    while sum(map(len, numbers.values())) < MESSAGES * len(SENDERS):
        received = client.message()
        if received["type"] == "broadcast":
            data = received["data"]
            assert data["fill"] == "x" * (20_000 if data["n"] % 10 == 0 else data["n"])
            numbers[data["sender"]].append(data["n"])
    return numbers


def test_senders_of_every_kind_corrupt_no_frame_and_keep_their_order(
    crowd: Service, session_redis: RedisServer
) -> None:
    clients = [RawWebSocket(crowd.port, timeout=60) for _ in range(CLIENTS)]
    readers = [gevent.spawn(read_all, client) for client in clients]
    redis = session_redis.client()
    with ThreadPoolExecutor() as pool:
        pool.submit(wire.request, redis, "crowd", "send", {}, timeout=60)
        pool.submit(wire.request, redis, "crowd", "send_blocking", {}, timeout=60)
        pool.submit(ask, crowd.port, "POST", "/send")
        pool.submit(ask, crowd.port, "POST", "/go")
        clients[0].send(message("send", None))
        gevent.joinall(readers, timeout=60, raise_error=True)
    expected = {sender: list(range(MESSAGES)) for sender in SENDERS}
    assert all(reader.value == expected for reader in readers)
    for client in clients:
        assert client.close_in_order() == 1000


@pytest.mark.alone
def test_a_client_that_never_reads_delays_nobody_and_is_dropped(crowd: Service) -> None:
    wait_until(lambda: ask(crowd.port, "GET", "/state").json["clients"] == 0)
    deaf = RawWebSocket(crowd.port)
    reader = RawWebSocket(crowd.port)
    fill = "x" * 64_000
    longest = 0.0
    for n in range(1000):
        begun = time.monotonic()
        body = json.dumps({"n": n, "fill": fill}).encode()
        count = ask(crowd.port, "POST", "/all", "Content-Type: application/json", body=body).json
        assert reader.message()["data"]["n"] == n
        longest = max(longest, time.monotonic() - begun)
        if count == 1:
            break
    assert longest < 1
    wait_until(lambda: ask(crowd.port, "GET", "/state").json == {"clients": 1, "dropped": {"slow_client": 1}})
    assert crowd.process.count("does not read what it is sent, and is dropped") == 1
    # The frames that it had been sent before are complete, and the connection has ended.
    opcode = TEXT
    while opcode == TEXT:
        try:
            opcode, _ = deaf.frame()
        except EOFError:
            break
    deaf.close()
    reader.close()


@pytest.mark.alone
@pytest.mark.parametrize("kind", ["slow", "block"])
def test_a_slow_handler_delays_only_its_own_client(crowd: Service, kind: str) -> None:
    with RawWebSocket(crowd.port) as slow, RawWebSocket(crowd.port) as other:
        begun = time.monotonic()
        slow.send(message(kind, 1.5) + message("echo", "after"))
        for n in range(20):
            other.send(message("echo", n))
            assert other.message()["data"] == n
        assert ask(crowd.port, "GET", "/state").status == 200
        assert time.monotonic() - begun < 1.2
        assert slow.message()["data"] == "slept"
        assert slow.message()["data"] == "after"
        assert time.monotonic() - begun > 1.4
