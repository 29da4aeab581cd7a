"""The drain of a service without HTTP: in order, within its time limit, with exit code 0."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable

import gevent
import pytest
from daebus_runtime import CallTimeout, DaebusCaller

from tests.support.process import ServiceProcess
from tests.support.redis_server import RedisServer
from tests.support.wire import wait_for_subscriber

Start = Callable[..., ServiceProcess]
PROGRAM = """
    import os
    import time
    from daebus import Daebus, broadcast, request

    app = Daebus("garden")

    @app.action("dig")
    def dig():
        print("digging", flush=True)
        time.sleep(request.payload["seconds"])
        return "dug"

    @app.action("close")
    def close():
        app.stop()
        return "closing"

    @app.thread("watch")
    def watch(running):
        while running():
            time.sleep(0.01)
        print("thread was told", flush=True)

    @app.thread("deaf", auto_start="DEAF" in os.environ)
    def deaf():
        while True:
            time.sleep(60)

    @app.background("tick", 0.05)
    def tick():
        print("tick", flush=True)

    @app.on_stop()
    def stopped():
        print("on_stop", broadcast.send("garden.closed", {}), flush=True)

    app.run()
    print("run has returned", flush=True)
"""


@pytest.fixture
def garden(start_process: Start, shared_redis: RedisServer) -> Callable[..., ServiceProcess]:
    def start(**settings: str) -> ServiceProcess:
        process = start_process(PROGRAM, env={"DAEBUS_REDIS_URL": shared_redis.url, **settings})
        wait_for_subscriber(shared_redis.client(), "garden")
        return process

    return start


def end(process: ServiceProcess, how: signal.Signals = signal.SIGTERM) -> float:
    """Send the signal; the seconds until the process has ended."""
    begun = time.monotonic()
    os.kill(process.pid, how)
    process.process.wait(30)
    return time.monotonic() - begun


@pytest.mark.alone
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_an_idle_service_ends_at_once_and_in_order(garden: Callable[..., ServiceProcess], how: signal.Signals) -> None:
    process = garden()
    process.wait_line("tick")
    assert end(process, how) < 2
    assert process.process.returncode == 0, process.output
    said = [process.output.index(text) for text in ("draining", "thread was told", "on_stop", "run has returned")]
    assert said == sorted(said)


@pytest.mark.alone
def test_a_thread_that_does_not_end_is_cut_off_and_named(garden: Callable[..., ServiceProcess]) -> None:
    process = garden(DAEBUS_DRAIN_SECONDS="1", DEAF="yes")
    process.wait_line("tick")
    assert end(process) < 1 + 2
    assert process.process.returncode == 0, process.output
    assert "threads that did not end in time: deaf" in process.output


def test_work_in_flight_finishes_and_is_answered(
    garden: Callable[..., ServiceProcess], shared_redis: RedisServer
) -> None:
    process = garden(DAEBUS_DRAIN_SECONDS="20")
    answer = gevent.spawn(DaebusCaller("garden", redis_url=shared_redis.url).send_request, "dig", {"seconds": 1})
    process.wait_line("digging")
    end(process)
    assert answer.get(timeout=5) == "dug"
    assert process.process.returncode == 0


@pytest.mark.alone
def test_work_that_takes_too_long_is_cut_off_and_logged(
    garden: Callable[..., ServiceProcess], shared_redis: RedisServer
) -> None:
    process = garden(DAEBUS_DRAIN_SECONDS="1")
    caller = DaebusCaller("garden", redis_url=shared_redis.url)
    answer = gevent.spawn(caller.send_request, "dig", {"seconds": 60}, timeout=10)
    process.wait_line("digging")
    assert end(process) < 4
    assert process.process.returncode == 0
    assert "1 messages did not finish within DAEBUS_DRAIN_SECONDS" in process.output
    garden().wait_line("digging")  # another replica begins it anew
    with pytest.raises(CallTimeout):
        answer.get(timeout=10)


def test_new_work_is_not_accepted_while_it_drains(
    garden: Callable[..., ServiceProcess], shared_redis: RedisServer
) -> None:
    process = garden(DAEBUS_DRAIN_SECONDS="20")
    caller = DaebusCaller("garden", redis_url=shared_redis.url)
    first = gevent.spawn(caller.send_request, "dig", {"seconds": 1})
    process.wait_line("digging")
    os.kill(process.pid, signal.SIGTERM)
    wait_for_subscriber(shared_redis.client(), "garden", 0)
    assert caller.send_to_service({"payload": {"seconds": 0}}, "dig") == 1, "it is stored"
    assert first.get(timeout=5) == "dug"
    process.process.wait(10)
    assert process.output.count("digging") == 1
    garden().wait_line("digging")  # the next one does it


@pytest.mark.alone
def test_a_second_signal_ends_it_at_once(garden: Callable[..., ServiceProcess], shared_redis: RedisServer) -> None:
    process = garden(DAEBUS_DRAIN_SECONDS="60")
    DaebusCaller("garden", redis_url=shared_redis.url).send_to_service({"payload": {"seconds": 60}}, "dig")
    process.wait_line("digging")
    os.kill(process.pid, signal.SIGINT)
    process.wait_line("draining")
    assert end(process, signal.SIGINT) < 5
    assert process.process.returncode == 130


def test_a_handler_may_stop_the_service(garden: Callable[..., ServiceProcess], shared_redis: RedisServer) -> None:
    process = garden()
    assert DaebusCaller("garden", redis_url=shared_redis.url).send_request("close") == "closing"
    assert process.process.wait(10) == 0
    assert "run has returned" in process.output
