"""A real service gets more work at once than it can do: its other clients notice nothing."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable

import pytest
import redis

from tests.support.bystanders import Bystanders
from tests.support.ports import free_port
from tests.support.process import ServiceProcess
from tests.support.redis_server import RedisServer
from tests.support.waiting import wait_until
from tests.support.wire import Listener, wait_for_subscriber

pytestmark = pytest.mark.alone

Start = Callable[..., ServiceProcess]
PROGRAM = """
    import time
    from daebus import Daebus, DaebusHttp, request

    app = Daebus("mill")
    app.attach(DaebusHttp(host="127.0.0.1"))

    def hold(seconds):
        until = time.thread_time() + seconds
        while time.thread_time() < until:
            pass

    @app.action("grind")
    def grind():
        hold(0.02)
        return "ground"

    @app.listen("grain")
    def grain(message):
        if "wait" in message:
            time.sleep(message["wait"])
        else:
            hold(0.02)

    @app.action("slow")
    def slow():
        print("begun", flush=True)
        time.sleep(30)

    @app.action("ping")
    def ping():
        return "pong"

    @app.route("/ping")
    def http_ping(req):
        return {"pong": True}

    begun = []

    @app.listen("begin")
    def begin(message):
        begun.append(message)

    def task(name):
        if begun:
            hold(0.02)
            begun.append(name)
        if len(begun) == 99:
            print("tasks have ended", flush=True)

    for number in range(98):
        app.background(f"task {number}", 4.0)(lambda name=number: task(name))

    app.run()
"""


@pytest.fixture
def mill(start_process: Start, shared_redis: RedisServer) -> tuple[ServiceProcess, int, RedisServer]:
    port = free_port()
    env = {
        "DAEBUS_REDIS_URL": shared_redis.url,
        "DAEBUS_HTTP_PORT": str(port),
        "DAEBUS_CONCURRENCY": "20",
        "DAEBUS_DRAIN_SECONDS": "1",
    }
    process = start_process(PROGRAM, env=env)
    wait_for_subscriber(shared_redis.client(), "mill")
    process.wait_line("service mill started")
    return process, port, shared_redis


def publish(client: redis.Redis, channel: str, message: str, count: int) -> None:
    pipe = client.pipeline(transaction=False)
    for _ in range(count):
        pipe.publish(channel, message)
    assert pipe.execute() == [1] * count


@pytest.mark.parametrize("kind", ["requests", "broadcasts"])
def test_49_queued_handlers_of_20_ms_delay_no_other_client(
    mill: tuple[ServiceProcess, int, RedisServer], kind: str
) -> None:
    _, port, server = mill
    channel, message = ("mill", '{"action": "grind", "reply_to": "nobody"}') if kind == "requests" else ("grain", "{}")
    with Bystanders(http_port=port) as others:
        publish(server.client(), channel, message, 49)
        others.assert_unharmed(0.6, floor=0.4)


def test_98_tasks_of_20_ms_that_are_due_together_delay_no_other_client(
    mill: tuple[ServiceProcess, int, RedisServer],
) -> None:
    process, port, server = mill
    with Bystanders(http_port=port) as others:
        publish(server.client(), "begin", "{}", 1)
        process.wait_line("tasks have ended", 30)
        others.assert_unharmed(
            1.6, floor=1.5
        )  # all runs in one turn of the loop would take 2 s; on a busy machine each run takes longer


def test_broadcasts_on_all_workers_that_they_may_take_leave_requests_answered(
    mill: tuple[ServiceProcess, int, RedisServer],
) -> None:
    process, port, server = mill
    with Bystanders(http_port=port, redis_url=server.url, service="mill") as others:
        publish(server.client(), "grain", '{"wait": 1.0}', 100)
        others.assert_unharmed()
    assert process.terminate() == 0


def test_callers_that_are_cut_off_when_the_service_ends_get_an_error(
    mill: tuple[ServiceProcess, int, RedisServer],
) -> None:
    """They call over publish/subscribe, as programs on the original do; stored requests go to another replica."""
    process, _, server = mill
    client = server.client()
    with Listener(client, "replies") as replies:
        for number in range(30):
            client.publish("mill", json.dumps({"action": "slow", "request_id": number, "reply_to": "replies"}))
        wait_until(lambda: process.count("begun") == 15)  # the listener has claimed five of the 20 workers
        began = time.monotonic()
        os.kill(process.pid, signal.SIGTERM)
        answers = replies.wait_for(30, 10)
    assert time.monotonic() - began < 5
    assert {answer["code"] for answer in answers} == {"stopping"}
    assert sum("was not begun" in answer["payload"]["error"] for answer in answers) == 15
    client.close()
    assert process.wait(10) == 0
