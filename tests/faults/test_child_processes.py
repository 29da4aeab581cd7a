"""Real services whose handlers start child processes: other clients notice nothing, and a signal ends the service."""

from __future__ import annotations

import time
from collections.abc import Callable

import gevent
import pytest
from daebus_runtime import DaebusCaller

from tests.support.bystanders import Bystanders
from tests.support.ports import free_port
from tests.support.process import ServiceProcess
from tests.support.redis_server import RedisServer
from tests.support.waiting import wait_until
from tests.support.wire import wait_for_subscriber

PROGRAM = """
    import multiprocessing
    import os
    import subprocess
    import sys
    import time
    from daebus import Daebus, DaebusHttp

    app = Daebus("forge")
    if "DAEBUS_HTTP_PORT" in os.environ:
        app.attach(DaebusHttp(host="127.0.0.1"))

        @app.route("/ping")
        def http_ping(req):
            return {}

    def square(number):
        time.sleep(0.2)
        return number * number

    def pool():
        os.write(1, b"pool\\n")  # in one piece: two threads say it at the same time
        with multiprocessing.Pool(2) as workers:
            return workers.map(square, range(4))

    def run():
        done = subprocess.run(["sh", "-c", "echo out; exit 3"], capture_output=True, text=True)
        return [done.stdout, done.returncode]

    app.action("pool")(pool)
    app.action("pool_blocking", blocking=True)(pool)
    app.action("run")(run)
    app.action("run_blocking", blocking=True)(run)

    @app.action("ping")
    def ping():
        return "pong"

    app.run()
"""


@pytest.mark.alone
@pytest.mark.parametrize("http", [False, True], ids=["alone", "under gunicorn"])
def test_child_processes_of_handlers_delay_no_other_client_and_do_not_prevent_the_end(
    http: bool, start_process: Callable[..., ServiceProcess], shared_redis: RedisServer
) -> None:
    port = free_port()
    env = {"DAEBUS_REDIS_URL": shared_redis.url, "DAEBUS_DRAIN_SECONDS": "2"}
    process = start_process(PROGRAM, env={**env, "DAEBUS_HTTP_PORT": str(port)} if http else env)
    wait_for_subscriber(shared_redis.client(), "forge")
    process.wait_line("service forge started")
    caller = DaebusCaller("forge", redis_url=shared_redis.url, timeout=15)
    with Bystanders(http_port=port if http else None, redis_url=shared_redis.url, service="forge") as others:
        calls = [gevent.spawn(caller.send_request, action) for action in ("pool", "pool_blocking")]
        for action in ("run", "run_blocking"):
            assert caller.send_request(action) == ["out\n", 3]
        assert [call.get(timeout=15) for call in calls] == [[0, 1, 4, 9]] * 2
        others.assert_unharmed(
            1.5, floor=0.75
        )  # each of the four forks blocks the loop for a while, longer on a busy machine
    last = gevent.spawn(caller.send_request, "pool")
    wait_until(lambda: process.count("^pool$") == 3, 20)
    began = time.monotonic()
    assert process.terminate(20) == 0
    assert time.monotonic() - began < 15
    assert last.get(timeout=5) == [0, 1, 4, 9]
