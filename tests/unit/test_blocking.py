"""`blocking=True`: a handler that blocks in C, for as long as it likes, delays no message, no probe, no WebSocket."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import gevent
import pytest
import requests
from daebus_runtime import Daebus, DaebusCaller, broadcast, request
from daebus_runtime.testing import TestApp
from gevent import monkey

from tests.support.ports import free_port
from tests.support.process import ServiceProcess
from tests.support.redis_server import RedisServer
from tests.support.waiting import wait_until
from tests.support.wire import WebSocketClient

SECONDS = 5
PROGRAM = f"""
    import ctypes
    from daebus import Daebus, DaebusHttp, DaebusWebSocket, request

    app = Daebus("bench")
    app.attach(DaebusHttp(host="127.0.0.1"))
    app.attach(DaebusWebSocket())
    sleep = ctypes.CDLL(None).sleep

    @app.action("measure", blocking=True)
    def measure():
        print("measuring", flush=True)
        return {{"left": sleep({SECONDS})}}

    @app.action("echo")
    def echo():
        return request.payload

    @app.socket("echo")
    def socket_echo(data, client_id):
        return data
"""


@pytest.fixture
def bench(shared_redis: RedisServer, tmp_path: Any) -> Iterator[tuple[ServiceProcess, int, int, str]]:
    port, management = free_port(), free_port()
    env = {
        "DAEBUS_HTTP_PORT": str(port),
        "DAEBUS_MANAGEMENT_PORT": str(management),
        "DAEBUS_REDIS_URL": shared_redis.url,
    }
    with ServiceProcess(PROGRAM + "\n    app.run()\n", directory=tmp_path, env=env) as process:
        process.wait_line("service bench started")
        wait_until(lambda: _status(management, "/readyz") == 200, 10)
        yield process, port, management, shared_redis.url


def _status(port: int, path: str) -> int:
    return requests.get(f"http://127.0.0.1:{port}{path}", timeout=5).status_code


@pytest.mark.alone
@pytest.mark.slow
def test_five_seconds_in_c_delay_no_other_client(bench: tuple[ServiceProcess, int, int, str]) -> None:
    process, port, management, url = bench
    caller = DaebusCaller("bench", redis_url=url)
    begun = time.monotonic()
    measured = gevent.spawn(caller.send_request, "measure", timeout=15)
    process.wait_line("measuring")
    longest = 0.0
    with WebSocketClient(f"ws://127.0.0.1:{port}/ws") as page:
        while not measured.ready() and time.monotonic() - begun < SECONDS - 1:
            asked = time.monotonic()
            assert caller.send_request("echo", {"n": 1}) == {"n": 1}
            assert _status(management, "/livez") == 200
            page.send({"type": "echo", "data": {"n": 2}})
            assert page.receive() == {"type": "response", "data": {"n": 2}}
            longest = max(longest, time.monotonic() - asked)
    assert not measured.ready(), "the handler was to block for longer"
    assert longest < 1.5, f"three answers took {longest:.2f} s while a handler blocked in an OS thread"
    assert measured.get(timeout=15) == {"left": 0}
    assert time.monotonic() - begun >= SECONDS - 0.1
    assert "event loop has been held" not in process.output
    assert process.terminate() == 0


def test_request_and_bus_are_there_in_the_thread() -> None:
    app = Daebus("meter")
    heard: list[Any] = []

    @app.action("measure", blocking=True)
    def measure() -> Any:
        receivers = broadcast.send("meter.measured", {"by": request.payload["by"]})
        own = DaebusCaller("meter").send_request("name")
        return {"thread": threading.get_native_id(), "receivers": receivers, "own": own}

    @app.action("name")
    def name() -> str:
        return "meter"

    @app.listen("meter.*", blocking=True)
    def note(message: dict[str, Any]) -> None:
        heard.append({**message, "thread": threading.get_native_id()})

    with TestApp(app) as service:
        answer = service.call("measure", {"by": "Ada"})
        service.settle()
    assert answer["thread"] != threading.get_native_id() != heard[0]["thread"]
    assert (answer["receivers"], answer["own"], heard[0]["by"]) == (1, "meter", "Ada")


def test_at_most_max_workers_run_at_once() -> None:
    app = Daebus("meter", max_workers=2)
    now, most, lock = 0, 0, monkey.get_original("_thread", "allocate_lock")()

    @app.action("measure", blocking=True)
    def measure() -> str:
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        time.sleep(0.05)
        with lock:
            now -= 1
        return "done"

    with TestApp(app) as service:
        calls = [gevent.spawn(service.call, "measure") for _ in range(8)]
        assert [call.get(timeout=10) for call in calls] == ["done"] * 8
    assert most == 2
