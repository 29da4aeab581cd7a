"""Replicas die, are stopped, hold their loop or end: what they had runs elsewhere, and nothing runs in two places."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from pathlib import Path

import gevent
import pytest
import redis
from daebus_runtime import DaebusCaller, RemoteError
from daebus_runtime.errors import UnknownService

from tests.faults.instruments import Start, best_of, settings
from tests.faults.mill import START_SECONDS, Mill, answers, caller, replicas
from tests.support import durable
from tests.support.redis_server import RedisServer
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.alone, pytest.mark.slow]


@pytest.fixture
def client(redis_server: RedisServer) -> Iterator[redis.Redis]:
    client = redis_server.client()
    yield client
    client.close()


@pytest.mark.long
def test_stopped_held_and_killed_replicas(
    redis_server: RedisServer, client: redis.Redis, start_process: Start, tmp_path: Path
) -> None:
    """One after the other, since each needs 8 s or more: a stop of 8 s, a held loop, a death."""
    first = Mill(start_process, redis_server.url, tmp_path)
    to = caller(redis_server)
    first.ready()
    calls = [gevent.spawn(to.send_request, "wait", number, timeout=150) for number in range(5)]
    first.wait_run("began", "wait", 4)
    second = Mill(start_process, redis_server.url, tmp_path).ready()
    alive = replicas(client)
    assert len(alive) == 2

    first.process.signal(signal.SIGSTOP)
    gevent.sleep(8)  # the stop itself
    first.process.signal(signal.SIGCONT)
    second_hold = gevent.spawn(to.send_request, "hold", 12, timeout=60)
    wait_until(lambda: first.runs("began", "hold") or second.runs("began", "hold"))
    answers(to)
    assert second_hold.get(timeout=60) == 1  # its attempt
    assert replicas(client) == alive
    assert len(first.runs("began")) == 6

    first.process.kill()
    begun = time.monotonic()
    wait_until(lambda: len(second.runs("began", "wait")) == 10, 12)
    assert time.monotonic() - begun < 10
    (tmp_path / "release").touch()
    assert [call.get(timeout=5) for call in calls] == [second.process.pid] * 5
    assert [line.split()[3] for line in second.runs("ended", "wait")] == ["2"] * 5
    assert client.hgetall("counts") == {str(number): "1" for number in range(5)}
    assert second.said("gave no sign of life") == 1
    durable.check(client)


@pytest.mark.long
def test_a_replica_that_was_stopped_for_a_minute_goes_on_under_a_new_name(
    redis_server: RedisServer, client: redis.Redis, start_process: Start, tmp_path: Path
) -> None:
    first = Mill(start_process, redis_server.url, tmp_path).ready()
    to = caller(redis_server)
    calls = [gevent.spawn(to.send_request, "wait", number, timeout=90) for number in range(20)]
    first.wait_run("began", "wait", 19)
    (old,) = replicas(client)
    second = Mill(start_process, redis_server.url, tmp_path).ready()
    first.process.signal(signal.SIGSTOP)
    stopped = time.monotonic()
    wait_until(lambda: len(second.runs("began", "wait")) == 40, 15)
    assert old not in replicas(client)
    (tmp_path / "release").touch()
    assert [call.get(timeout=10) for call in calls] == [second.process.pid] * 20
    gevent.sleep(60 - (time.monotonic() - stopped))  # the stop itself
    first.process.signal(signal.SIGCONT)
    first.process.wait_line("was taken out of the bus")
    wait_until(lambda: len(replicas(client)) == 2)
    first.management.wait_ready()
    wait_until(lambda: len(first.runs("ended")) == 40)  # it ran on, and its outcomes were refused
    assert client.hgetall("counts") == {str(number): "1" for number in range(20)}
    pids = {to.send_request("wait", -1, timeout=5) for _ in range(200)}
    assert pids == {first.process.pid, second.process.pid}
    assert first.said("was taken out") == 1
    wait_until(lambda: durable.group(client, "mill")["pending"] == 0)
    assert old not in {one["name"] for one in client.xinfo_consumers(durable.requests_of("mill"), "workers")}
    durable.check(client)


@pytest.mark.long
def test_a_message_that_kills_its_workers_harms_no_other(
    redis_server: RedisServer, client: redis.Redis, start_process: Start, tmp_path: Path
) -> None:
    """They come in one batch, so all of them count an attempt at each death."""
    mill = Mill(start_process, redis_server.url, tmp_path).ready()
    to = caller(redis_server)
    to.send_request("echo", {}, timeout=5)
    assert mill.process.terminate() == 0
    poison = gevent.spawn(to.send_request, "die", 0, timeout=150)
    others = [gevent.spawn(to.send_request, "count", number, timeout=150) for number in range(20)]
    wait_until(lambda: client.xlen(durable.requests_of("mill")) >= 21)
    workers = [Mill(start_process, redis_server.url, tmp_path) for _ in range(4)]

    def died() -> bool:
        return sum(not worker.process.running for worker in workers) == 3

    wait_until(died, 90, lambda: "\n\n".join(worker.process.output for worker in workers))
    with pytest.raises(RemoteError, match="begun 3 times") as raised:
        poison.get(timeout=30)
    assert raised.value.code == "worker_died"
    assert [call.get(timeout=10) for call in others] == list(range(20))
    assert len(mill.runs("began", "die")) == 3
    assert set(client.hgetall("counts").values()) == {"1"}
    assert sum(worker.process.running for worker in workers) == 1
    wait_until(lambda: durable.group(client, "mill")["pending"] == 0)
    durable.check(client)


def test_what_was_not_begun_is_handed_back_at_once_and_calls_wait_for_the_next_replica(
    redis_server: RedisServer, client: redis.Redis, start_process: Start, tmp_path: Path
) -> None:
    first = Mill(start_process, redis_server.url, tmp_path, concurrency=2, drain_seconds=20).ready()
    to = caller(redis_server)
    running = [gevent.spawn(to.send_request, "wait", number, timeout=30) for number in range(2)]
    first.wait_run("began", "wait", 1)
    first.process.signal(signal.SIGTERM)
    first.process.wait_line("draining")
    waiting = [gevent.spawn(to.send_request, "echo", number, timeout=30) for number in range(20)]
    wait_until(lambda: durable.group(client, "mill")["lag"] == 20)
    begun = time.monotonic()
    second = Mill(start_process, redis_server.url, tmp_path)
    assert [call.get(timeout=20) for call in waiting] == list(range(20))
    assert first.process.running, f"{time.monotonic() - begun} s"
    (tmp_path / "release").touch()
    assert [call.get(timeout=5) for call in running] == [first.process.pid] * 2
    assert first.process.wait() == 0
    assert second.process.terminate() == 0
    calls = [gevent.spawn(to.send_request, "echo", number, timeout=30) for number in range(200)]
    wait_until(lambda: client.xlen(durable.requests_of("mill")) >= 200)
    Mill(start_process, redis_server.url, tmp_path)
    assert [call.get(timeout=20) for call in calls] == list(range(200))
    durable.check(client)


def test_a_service_that_never_ran_is_known_at_once_to_be_unknown(redis_server: RedisServer) -> None:
    to = DaebusCaller("nobody", redis_url=redis_server.url)

    def measure() -> dict[str, float]:
        begun = time.perf_counter()
        with pytest.raises(UnknownService):
            to.send_request("echo", {}, timeout=30)
        return {"unknown": time.perf_counter() - begun}

    measure()  # which connects
    best_of(3, measure, 0.005, all_rounds=False)


CHAIN = """
    import os, sys, time
    from daebus import Daebus, DaebusCaller, RemoteError, request

    name, onward = sys.argv[1], sys.argv[2:]
    app = Daebus(name)
    next_one = DaebusCaller(onward[0]) if onward else None
    log = os.open("work", os.O_WRONLY | os.O_APPEND | os.O_CREAT)


    @app.action("work")
    def work():
        os.write(log, f"{name}-begun {time.monotonic()}\\n".encode())
        try:
            while True:
                time.sleep(0.01)
                if next_one:
                    next_one.send_request("work", {}, timeout=5)
                os.write(log, f"{name} {time.monotonic()}\\n".encode())
                if not next_one:
                    return "done"
        except (TimeoutError, RemoteError):  # of its own call, or of the one after it
            os.write(log, f"{name}-told {time.monotonic()}\\n".encode())
            raise


    app.run()
"""


def test_a_chain_of_calls_never_works_past_the_budget_of_the_first(
    redis_server: RedisServer, start_process: Start, tmp_path: Path
) -> None:
    for names in (["a", "b"], ["b", "c"], ["c"]):
        one = start_process(CHAIN, env=settings(redis_server.url), arguments=names, name="chain.py")
        one.wait_line("is connected", START_SECONDS)
    to = DaebusCaller("a", redis_url=redis_server.url)
    work = tmp_path / "work"

    def call() -> bool:
        """Returns whether the last of the chain was reached within the budget."""
        work.write_text("")
        begun = time.monotonic()
        with pytest.raises((TimeoutError, RemoteError)):  # whichever says first that the time is over
            to.send_request("work", {}, timeout=0.2)
        assert time.monotonic() - begun < 0.5
        if "a-begun" not in work.read_text():
            return False  # the machine was too busy
        wait_until(lambda: "a-told" in work.read_text())
        answered = [line.split() for line in work.read_text().splitlines()]
        late = [(name, float(at) - begun) for name, at in answered if float(at) - begun > 0.25 and "-" not in name]
        assert not late
        return any(name == "c" for name, _ in answered)

    wait_until(call, 30, "a round in which the last one works")
