"""Each connection of a replica is lost, goes dark or becomes slow, alone or with the others: calls go on, none runs
twice, and there is never a second subscription or a second reader."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import gevent
import pytest
import redis
from daebus_runtime import DaebusCaller

from tests.faults.instruments import Start
from tests.faults.mill import Mill, answers, caller
from tests.support import durable, wire
from tests.support.proxy import FaultProxy
from tests.support.redis_server import RedisServer
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.alone, pytest.mark.slow]
LINKS = ("commands", "subscriptions", "reads", "pulse")


@pytest.fixture
def client(redis_server: RedisServer) -> Iterator[redis.Redis]:
    client = redis_server.client()
    yield client
    client.close()


def links(client: redis.Redis, mill: Mill) -> dict[str, int]:
    """The port of each connection of the replica, as the server sees it; found by what it is used for."""
    own = [one for one in client.client_list() if one["name"] == f"daebus-{mill.process.pid}"]
    found = {}
    for one in own:
        if int(one["sub"]):
            found["subscriptions"] = one["addr"]
        elif one["cmd"] == "xreadgroup":
            found["reads"] = one["addr"]
        else:
            found["commands"] = one["addr"]
    nameless = [one for one in client.client_list() if not one["name"] and one["cmd"] == "evalsha"]
    if nameless:
        found["pulse"] = nameless[0]["addr"]
    return {name: int(address.rpartition(":")[2]) for name, address in found.items()}


def all_links(client: redis.Redis, mill: Mill) -> dict[str, int]:
    wait_until(lambda: len(links(client, mill)) == 4, 10, lambda: str(client.client_list()))
    return links(client, mill)


def traffic(to: DaebusCaller, numbers: range) -> list[gevent.Greenlet[..., int]]:
    return [gevent.spawn(to.send_request, "count", number, timeout=30) for number in numbers]


def test_each_link_alone_and_all_together_is_lost_dark_or_slow(
    redis_server: RedisServer, client: redis.Redis, start_process: Start, tmp_path: Path
) -> None:
    with FaultProxy("127.0.0.1", redis_server.port) as proxy:
        mill = Mill(start_process, f"redis://127.0.0.1:{proxy.port}/0", tmp_path).ready()
        to = caller(redis_server)
        answers(to)
        count = 0
        for harm in (proxy.cut, proxy.black_hole):
            for link in (*LINKS, None):
                ports = all_links(client, mill)
                calls = traffic(to, range(count, count + 50))
                harm(ports[link] if link else None)
                calls += traffic(to, range(count + 50, count + 100))
                begun = time.monotonic()
                assert [call.get(timeout=20) for call in calls] == list(range(count, count + 100)), link
                assert time.monotonic() - begun < 5, f"{harm.__name__} {link}"
                mill.management.wait_ready(5)
                count += 100
                if harm == proxy.cut:  # the server still has what is dark
                    assert wire.subscribers(client, "mill") == 1
        proxy.slow(0.1)
        assert to.send_request("count", count, timeout=10) == count
        proxy.slow(0.0)
        counts = client.hgetall("counts")
        assert set(counts.values()) == {"1"}
        assert len(counts) == count + 1
        assert len(mill.runs("began", "count")) == count + 1
        assert mill.said("was taken out") == 0
        wait_until(lambda: durable.group(client, "mill")["pending"] == 0)
        durable.check(client)


@pytest.mark.long
def test_a_paused_server_stops_the_calls_and_takes_nothing_away(
    redis_server: RedisServer, client: redis.Redis, start_process: Start, tmp_path: Path
) -> None:
    first, second = (Mill(start_process, redis_server.url, tmp_path) for _ in range(2))
    first.ready()
    second.ready()
    to = caller(redis_server)
    held = [gevent.spawn(to.send_request, "wait", number, timeout=60) for number in range(4)]
    first.wait_run("began", "wait", 3)
    redis_server.pause()
    first.management.wait_not_ready("not connected")
    calls = traffic(to, range(10, 60))
    (tmp_path / "release").touch()
    gevent.sleep(8)  # the pause itself
    redis_server.resume()
    assert [call.get(timeout=10) for call in calls] == list(range(10, 60))
    assert {call.get(timeout=10) for call in held} <= {first.process.pid, second.process.pid}
    for one in (first, second):
        one.management.wait_ready()
        assert one.said("is away") == 1
        assert one.said("was taken out") == one.said("no sign of life") == 0
    assert set(client.hgetall("counts").values()) == {"1"}
    assert len(first.runs("began", "wait")) == 4
    durable.check(client)
