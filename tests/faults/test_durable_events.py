"""Durable events while workers and the server are killed: each service handles each event, and commits it once."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gevent
import gevent.pool
import pytest
from daebus_runtime import DaebusCaller, errors

from tests.faults.instruments import Start, settings
from tests.faults.mill import START_SECONDS
from tests.support import durable
from tests.support.process import ServiceProcess
from tests.support.redis_server import RedisServer
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.alone, pytest.mark.slow]

LISTENER = """
    import os, sys, time
    from daebus import Daebus, cache, request

    app = Daebus(os.environ["NAME"])
    log = os.open("runs." + os.environ["NAME"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)


    @app.listen("dust", durable=True)
    def dust(message):
        os.write(log, f"{message['n']} {request.request_id} {request.attempt}\\n".encode())
        time.sleep(0.01)
        pipe = cache.pipeline()
        pipe.hincrby("swept:" + os.environ["NAME"], message["n"], 1)
        request.commit(pipe)


    app.run()
"""


@pytest.fixture
def server() -> Iterator[RedisServer]:
    with RedisServer(arguments=["--appendonly", "yes", "--appendfsync", "always"]) as server:
        yield server


class Sweepers:
    """Replicas of two services that listen."""

    def __init__(self, server: RedisServer, start: Start, directory: Path) -> None:
        self._server, self._start, self._directory = server, start, directory
        self.replicas: dict[tuple[str, int], ServiceProcess] = {}
        for place in (("broom", 0), ("broom", 1), ("mop", 0)):
            self.start(place)
        for replica in self.replicas.values():
            replica.wait_line("is connected", START_SECONDS)

    def start(self, place: tuple[str, int]) -> None:
        env = {**settings(self._server.url, concurrency=20), "NAME": place[0]}
        self.replicas[place] = self._start(LISTENER, env=env, name="sweeper.py")

    def kill(self, place: tuple[str, int]) -> None:
        self.replicas[place].kill()

    def swept(self, client: Any, name: str) -> dict[str, str]:
        found: dict[str, str] = client.hgetall(f"swept:{name}")
        return found

    def the_same_id_each_time(self, name: str) -> int:
        """How many runs were repetitions; all runs of an event have one id."""
        ids: dict[str, str] = {}
        again = 0
        for line in (self._directory / f"runs.{name}").read_text().splitlines():
            number, identity, attempt = line.split()
            again += attempt != "1"
            assert ids.setdefault(number, identity) == identity
        return again


def test_events_survive_the_death_of_workers_and_of_the_server(
    server: RedisServer,
    start_process: Start,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    measured: Any,
) -> None:
    monkeypatch.setenv("DAEBUS_SEND_SECONDS", "60")
    sweepers, sender, count = (
        Sweepers(server, start_process, tmp_path),
        DaebusCaller("broom", redis_url=server.url),
        600,
    )
    client = server.client()
    wait_until(lambda: sender.send_message("dust", {"n": -1}, durable=True) == 2, 20)

    def emit(number: int) -> int:
        gevent.sleep(number * 0.005)
        return sender.send_message("dust", {"n": number}, durable=True)

    pool = gevent.pool.Pool(count)
    sending = [pool.spawn(emit, number) for number in range(count)]
    gevent.sleep(0.5)  # the middle of the sending, not a wait for something
    sweepers.kill(("broom", 0))
    gevent.sleep(0.5)
    server.kill()
    sweepers.kill(("mop", 0))  # the service has no replica now
    gevent.sleep(0.5)
    server.start()
    assert [one.get(timeout=60) for one in sending] == [2] * count
    for place in (("mop", 0), ("broom", 0)):
        sweepers.start(place)
    for name in ("broom", "mop"):
        wait_until(lambda name=name: len(sweepers.swept(client, name)) == count + 1, 40)  # type: ignore[misc]
        values = Counter(sweepers.swept(client, name).values())
        assert values.pop("1") >= count
        assert sum(values.values()) <= 1, "only number -1 was sent until both services listened"
    durable.check(client)
    again = sum(sweepers.the_same_id_each_time(name) for name in ("broom", "mop"))
    measured(f"{count} events to two services, workers and the server killed: {again} runs were repetitions")


def test_without_a_bus_an_event_waits_and_then_says_so(
    server: RedisServer, start_process: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DAEBUS_SEND_SECONDS", "3")
    sweepers, sender = Sweepers(server, start_process, tmp_path), DaebusCaller("broom", redis_url=server.url)
    wait_until(lambda: sender.send_message("dust", {"n": 0}, durable=True) == 2, 20)
    server.kill()
    waiting = [gevent.spawn(sender.send_message, "dust", {"n": number}, durable=True) for number in range(1, 30)]
    gevent.sleep(1)  # the outage itself
    server.start()
    assert [one.get(timeout=10) for one in waiting] == [2] * 29
    server.kill()
    begun = time.monotonic()
    with pytest.raises(errors.BusUnavailable, match="channel 'dust'"):
        sender.send_message("dust", {"n": 30}, durable=True)
    assert 2.5 < time.monotonic() - begun < 6
    server.start()
    client = server.client()
    for name in ("broom", "mop"):
        wait_until(lambda name=name: len(sweepers.swept(client, name)) >= 30, 20)  # type: ignore[misc]
        assert sweepers.swept(client, name).get("30", "1") == "1"


SHOP = """
    import os
    from daebus import Daebus, DaebusCaller, broadcast, request

    app = Daebus("shop")
    log = os.open("runs.shop", os.O_WRONLY | os.O_APPEND | os.O_CREAT)


    @app.action("sell")
    def sell():
        for piece in range(3):
            broadcast.send("sold", {"piece": piece, "attempt": request.attempt}, durable=True)
            DaebusCaller("books").send_to_service({"piece": piece}, "note")
        if request.attempt == 1:
            os._exit(9)
        broadcast.send("sold", {"piece": "last"}, durable=True)
        return request.attempt


    app.run()
"""
BOOKS = """
    import os
    from daebus import Daebus, request

    app = Daebus("books")
    log = os.open("runs.books", os.O_WRONLY | os.O_APPEND | os.O_CREAT)


    @app.listen("sold", durable=True)
    def sold(message):
        os.write(log, f"sold {message['piece']} {message.get('attempt')}\\n".encode())


    @app.action("note")
    def note():
        os.write(log, f"note {request.raw['piece']}\\n".encode())


    app.run()
"""


def test_what_a_handler_sent_before_its_death_is_not_sent_twice(
    server: RedisServer, start_process: Start, tmp_path: Path
) -> None:
    books = start_process(BOOKS, env=settings(server.url), name="books.py")
    books.wait_line("is connected", START_SECONDS)
    shops = [start_process(SHOP, env=settings(server.url), name="shop.py") for _ in range(2)]
    for shop in shops:
        shop.wait_line("is connected", START_SECONDS)
    caller = DaebusCaller("shop", redis_url=server.url)

    def sold() -> bool:
        return bool(caller.send_request("sell", timeout=40, request_id="order-1") == 2)

    wait_until(lambda: server.client().zcard("daebus:{sold}:listeners") == 1, 20)
    assert sold()
    assert sold(), "the recorded outcome"
    runs = tmp_path / "runs.books"
    wait_until(lambda: len(runs.read_text().splitlines()) >= 7, 20)
    gevent.sleep(0.2)  # a second one of something would have come by now
    assert sorted(runs.read_text().splitlines()) == [
        *(f"note {n}" for n in range(3)),
        *(f"sold {n} 1" for n in range(3)),
        "sold last None",
    ]
