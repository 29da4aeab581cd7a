"""Workers and the server are killed at random while messages flow: none is lost, and what is done through
`request.commit` is done once."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import gevent
import gevent.pool
import pytest
from daebus_runtime import DaebusCaller

from tests.faults.instruments import Start, settings
from tests.faults.mill import START_SECONDS
from tests.support import durable
from tests.support.process import ServiceProcess
from tests.support.redis_server import RedisServer
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.alone, pytest.mark.slow]

SEED = 12
WORKER = """
    import os, time
    from daebus import Daebus, cache, request

    app = Daebus("mill")
    log = os.open("runs", os.O_WRONLY | os.O_APPEND | os.O_CREAT)


    @app.action("grind")
    def grind():
        number = request.payload["n"]
        os.write(log, f"{number} {request.raw['request_id']} {request.attempt} {request.redelivered:d}\\n".encode())
        time.sleep(0.02)
        pipe = cache.pipeline()
        pipe.hincrby("ground", number, 1)
        pipe.rpush("order", number)
        request.commit(pipe)
        return number


    app.run()
"""


class Mill:
    """Three workers that are started anew when they are killed, a server that keeps everything, and one caller."""

    def __init__(self, server: RedisServer, start: Start, directory: Path, seed: int) -> None:
        self.server, self._start = server, start
        self.random = random.Random(seed)
        self.caller = DaebusCaller("mill", redis_url=server.url)
        self.answers: dict[int, object] = {}
        self.kills = 0
        self.workers = [self._worker() for _ in range(3)]
        self.runs = directory / "runs"
        for worker in self.workers:
            worker.wait_line("is connected", START_SECONDS)
        assert self.caller.send_request("grind", {"n": -1}, timeout=10) == -1

    def _worker(self) -> ServiceProcess:
        return self._start(WORKER, env=settings(self.server.url, concurrency=50), name="mill.py")

    def kill_a_worker(self) -> None:
        serving = [place for place in range(3) if self.workers[place].count("is connected")]
        place = self.random.choice(serving)
        self.workers[place].kill()
        self.workers[place] = self._worker()
        self.kills += 1

    def call(self, number: int) -> None:
        try:
            self.answers[number] = self.caller.send_request("grind", {"n": number}, timeout=120)
        except Exception as error:
            self.answers[number] = error

    def grind(self, count: int, events: list[tuple[int, str]]) -> None:
        """Make `count` calls, 100 at a time; each event happens once so many have been answered."""
        callers = gevent.pool.Pool(100)
        disturbing = gevent.spawn(self._disturb, events)
        for number in range(count):
            callers.spawn(self.call, number)
        callers.join()
        disturbing.get(timeout=30)

    def _disturb(self, events: list[tuple[int, str]]) -> None:
        for after, what in events:
            wait_until(lambda at=after: len(self.answers) >= at, 120)  # type: ignore[misc]
            if what == "worker":
                self.kill_a_worker()
            else:
                self.server.kill()
                gevent.sleep(self.random.uniform(0.05, 0.5))  # the outage itself
                self.server.start()


@pytest.fixture
def server(request: pytest.FixtureRequest) -> Iterator[RedisServer]:
    with RedisServer(arguments=["--appendonly", "yes", "--appendfsync", request.param]) as server:
        yield server


def plan(chance: random.Random, count: int, kills: int, last: float) -> list[tuple[int, str]]:
    """When what is killed: workers at random moments, the server twice. After the part `last` of the calls no more."""
    most = int(count * last)
    moments = [(chance.randrange(count // 20, most), "worker") for _ in range(kills)]
    return sorted([*moments, (most // 3, "server"), (most * 2 // 3, "server")])


def all_is_well(mill: Mill, count: int) -> str:
    """Check what the callers got, what the workers did, and what is left; returns figures."""
    wrong = {number: answer for number, answer in mill.answers.items() if answer != number}
    assert not wrong, list(wrong.items())[:5]
    assert len(mill.answers) == count
    client = mill.server.client()
    wait_until(lambda: durable.group(client, "mill")["pending"] == 0, 20, lambda: str(durable.group(client, "mill")))
    ground = {int(name): int(value) for name, value in client.hgetall("ground").items()}
    assert Counter(ground.values()) == {1: count + 1}
    assert Counter(client.lrange("order", 0, -1)).most_common(1)[0][1] == 1
    assert durable.group(client, "mill")["lag"] == 0
    durable.check(client)
    client.close()
    return f"{count} calls, {mill.kills} workers killed; {the_same_message_each_time(mill)} runs were repetitions"


def the_same_message_each_time(mill: Mill) -> int:
    """Every run of a message has the same id, and all but the first say that it was delivered before."""
    seen: dict[str, tuple[str, int]] = {}
    again = 0
    for line in mill.runs.read_text().splitlines():
        number, identity, attempt, redelivered = line.split()
        before = seen.get(number)
        if before is not None:
            again += 1
            assert before[0] == identity
            assert int(attempt) > before[1], line
        assert (redelivered == "1") == (int(attempt) > 1), line
        seen[number] = identity, int(attempt)
    return again


@pytest.mark.parametrize("server", ["always"], indirect=True)
def test_2000_messages_survive_the_death_of_workers_and_of_the_server(
    server: RedisServer, start_process: Start, tmp_path: Path, measured: object
) -> None:
    run(server, start_process, tmp_path, measured, 2000, 3, 0.4)


@pytest.mark.long
@pytest.mark.parametrize("server", ["always", "everysec"], indirect=True)
def test_20000_messages_survive_the_death_of_workers_and_of_the_server(
    server: RedisServer, start_process: Start, tmp_path: Path, measured: object
) -> None:
    run(server, start_process, tmp_path, measured, 20_000, 12, 0.95)


def run(
    server: RedisServer, start: Start, directory: Path, measured: object, count: int, kills: int, last: float
) -> None:
    begun = time.monotonic()
    mill = Mill(server, start, directory, SEED)
    mill.grind(count, plan(random.Random(SEED), count, kills, last))
    figures = all_is_well(mill, count)
    assert callable(measured)
    measured(f"{figures}; {time.monotonic() - begun:.1f} s")
