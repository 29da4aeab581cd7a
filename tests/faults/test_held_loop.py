"""A handler, a route or a task blocks the event loop for longer than the timeout after which a silent server counts as
dead. But the server is alive: no connection may be dropped, and no subscription may be lost."""

from __future__ import annotations

import threading
import urllib.request

import pytest

from tests.faults.instruments import Start, settings
from tests.support.bystanders import Bystanders
from tests.support.proxy import FaultProxy
from tests.support.redis_server import RedisServer
from tests.support.waiting import wait_until

pytestmark = pytest.mark.alone

BUSY = """
    import time

    from daebus import Daebus, DaebusHttp, logger, request

    app = Daebus("busy")
    app.attach(DaebusHttp())
    begun = []


    def compute(seconds):
        until = time.perf_counter() + seconds
        while time.perf_counter() < until:
            pass


    @app.action("ping")
    def ping():
        return request.payload


    @app.route("/ping")
    def http_ping(req):
        return {}


    @app.route("/compute")
    def computing(req):
        compute(1.5)
        return {}


    @app.route("/begin")
    def begin(req):
        begun.append(True)
        return {}


    @app.background("report", 1)
    def report():
        if begun:
            compute(1.6)
            logger.info("reported")


    app.run()
"""


def get(port: int, path: str) -> None:
    urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=30).read()


@pytest.mark.slow
@pytest.mark.parametrize("how", ["route", "task"])
def test_a_blocked_loop_is_never_taken_for_a_dead_server(
    shared_redis: RedisServer, start_process: Start, free_port: int, how: str
) -> None:
    env = {**settings(shared_redis.url), "DAEBUS_HTTP_PORT": str(free_port)}
    busy = start_process(BUSY, env=env)
    busy.wait_line("is connected")
    client = shared_redis.client()
    wait_until(lambda: client.pubsub_numsub("busy")[0][1] == 1)
    with Bystanders(redis_url=shared_redis.url, service="busy", timeout=20) as others:
        if how == "task":
            get(free_port, "/begin")
            wait_until(lambda: busy.count("reported") >= 3, 20)
        else:
            three_clients_ask(free_port)
    # No failure, no loss: answers are late only while the loop is blocked, not because the service waits to reconnect.
    others.assert_unharmed(most_seconds=8.0, ratio=1e6)
    assert busy.count("is away") == 0, busy.output
    assert busy.count("is connected") == 1, busy.output
    client.close()


def three_clients_ask(port: int) -> None:
    threads = [threading.Thread(target=get, args=(port, "/compute")) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


@pytest.mark.slow
def test_a_dead_server_is_noticed_although_the_loop_is_blocked_again_and_again(
    shared_redis: RedisServer, start_process: Start, free_port: int
) -> None:
    with FaultProxy("127.0.0.1", shared_redis.port) as proxy:
        env = {**settings(f"redis://127.0.0.1:{proxy.port}/0"), "DAEBUS_HTTP_PORT": str(free_port)}
        busy = start_process(BUSY.replace("1.6", "0.3").replace('"report", 1', '"report", 0.5'), env=env)
        busy.wait_line("is connected")
        get(free_port, "/begin")
        busy.wait_line("reported")
        proxy.black_hole()
        busy.wait_line("is away.*no answer for 2.25 s", 3.5)
        wait_until(lambda: busy.count("is connected") == 2, 3)
