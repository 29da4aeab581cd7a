"""The `gunicorn` command line serves what `app.run()` serves: routes, actions, sockets, probes, the drain."""

from __future__ import annotations

import os
import signal
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import gevent
import pytest
import requests
from daebus_runtime import DaebusCaller

from tests.support.ports import accepts, free_port
from tests.support.process import ServiceProcess
from tests.support.redis_server import RedisServer
from tests.support.waiting import wait_until
from tests.support.wire import WebSocketClient

PROGRAM = """
    import time
    from daebus import Daebus, DaebusHttp, DaebusWebSocket, request

    app = Daebus("shop")
    app.attach(DaebusHttp(port={port}, host="127.0.0.1"))
    app.attach(DaebusWebSocket())

    @app.route("/prices/<name>")
    def price(req, name):
        return {{"name": name, "price": 3}}

    @app.route("/slow")
    def slow(req):
        print("slow has begun")
        time.sleep(1)
        return "served"

    @app.action("add")
    def add():
        return {{"sum": request.payload["a"] + request.payload["b"]}}

    @app.socket("hello")
    def hello(data, client_id):
        return {{"hello": data["name"]}}
"""
GUNICORN = [sys.executable, "-m", "gunicorn", "-c", "python:daebus_runtime.gunicorn"]


class Shop:
    """The service under gunicorn, and its addresses."""

    def __init__(self, process: ServiceProcess, port: int, management: int, redis_url: str) -> None:
        self.process, self.port, self.management, self.redis_url = process, port, management, redis_url

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    def probe(self, path: str) -> int:
        return requests.get(f"http://127.0.0.1:{self.management}{path}", timeout=5).status_code


@pytest.fixture
def shop(tmp_path: Path, shared_redis: RedisServer) -> Iterator[Shop]:
    port, management = free_port(), free_port()
    (tmp_path / "shop.py").write_text(_text(port))
    environment = {"DAEBUS_REDIS_URL": shared_redis.url, "DAEBUS_MANAGEMENT_PORT": str(management)}
    with ServiceProcess([*GUNICORN, "shop:app"], directory=tmp_path, env=environment) as process:
        process.wait_line("service shop started")
        wait_until(lambda: accepts(port), 10)
        yield Shop(process, port, management, shared_redis.url)


def _text(port: int) -> str:
    return textwrap.dedent(PROGRAM.format(port=port))


def test_routes_actions_sockets_and_probes_are_served(shop: Shop) -> None:
    assert requests.get(shop.url("/prices/tea"), timeout=5).json() == {"name": "tea", "price": 3}
    assert DaebusCaller("shop", redis_url=shop.redis_url).send_request("add", {"a": 1, "b": 2}) == {"sum": 3}
    with WebSocketClient(f"ws://127.0.0.1:{shop.port}/ws") as client:
        client.send({"type": "hello", "data": {"name": "Ada"}})
        assert client.receive() == {"type": "response", "data": {"hello": "Ada"}}
    assert shop.probe("/livez") == 200
    wait_until(lambda: shop.probe("/readyz") == 200, 5)
    assert shop.process.terminate() == 0, shop.process.output


def test_the_port_is_the_one_of_the_application(shop: Shop) -> None:
    assert f":{shop.port}" in shop.process.output


def test_a_request_in_flight_is_answered_while_the_service_ends(shop: Shop) -> None:
    answer = gevent.spawn(requests.get, shop.url("/slow"), timeout=10)
    shop.process.wait_line("slow has begun")
    assert shop.process.terminate() == 0, shop.process.output
    assert answer.get().json() == "served"


def test_a_killed_worker_is_replaced(shop: Shop) -> None:
    caller = DaebusCaller("shop", redis_url=shop.redis_url)
    (worker,) = children(shop.process.pid)
    os.kill(worker, signal.SIGKILL)
    wait_until(lambda: children(shop.process.pid) not in ([], [worker]), 10)
    wait_until(lambda: shop.process.output.count("service shop started") == 2, 10)
    wait_until(lambda: shop.probe("/readyz") == 200, 10)
    assert caller.send_request("add", {"a": 2, "b": 2}) == {"sum": 4}
    assert shop.process.terminate() == 0, shop.process.output


def children(pid: int) -> list[int]:
    """The processes that a process has started."""
    listed = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(child) for child in listed]


def test_more_than_one_worker_is_refused(tmp_path: Path, start_process: Callable[..., ServiceProcess]) -> None:
    (tmp_path / "shop.py").write_text(_text(free_port()))
    process = start_process([*GUNICORN, "-w", "2", "shop:app"], env={"DAEBUS_EMBEDDED": "never"})
    process.wait_line("2 workers were asked for.*scale by replicas")
    assert process.process.wait(10) == 1
