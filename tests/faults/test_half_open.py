"""Half-open connections: they look open but carry no data, because a router forgot them or a machine lost power.

redis-py's own subscriptions never notice. Ours send a PING into silence and drop a connection that does not answer.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping

import gevent
import pytest

from tests.faults.instruments import (
    CALLER,
    GARDEN,
    IDLE,
    Management,
    Start,
    after,
    best_of,
    first_answer,
    settings,
    wait_after,
    wait_for_subscribers,
)
from tests.support.proxy import FaultProxy
from tests.support.redis_server import RedisServer
from tests.support.waiting import wait_until

pytestmark = pytest.mark.alone

LIMIT_SECONDS = 3.0


@pytest.fixture
def proxy(shared_redis: RedisServer) -> Iterator[FaultProxy]:
    """A proxy that stands for the network between the programs and Redis."""
    with FaultProxy("127.0.0.1", shared_redis.port) as proxy:
        yield proxy


@pytest.fixture
def url(proxy: FaultProxy) -> str:
    return f"redis://127.0.0.1:{proxy.port}/0"


def darken(proxy: FaultProxy) -> float:
    """Make all present connections half-open; the time at which it was done."""
    proxy.black_hole()
    return time.time()


def test_a_service_notices_within_3_s_and_serves_again(
    shared_redis: RedisServer,
    proxy: FaultProxy,
    url: str,
    start_process: Start,
    free_port: int,
    capsys: pytest.CaptureFixture[str],
) -> None:
    garden = start_process(GARDEN, env=settings(url, management=free_port))
    garden.wait_line("service garden started")
    Management(free_port).wait_ready()
    client = shared_redis.client()

    def measure() -> Mapping[str, float]:
        moment = darken(proxy)
        figures = {"a busy service serves": first_answer(client, "garden") - moment}
        proxy.cut()
        wait_for_subscribers(client, ["garden"])
        return figures

    medians = best_of(3, measure, LIMIT_SECONDS, all_rounds=False)
    assert "no answer for 2.25 s" in garden.output
    with capsys.disabled():
        print(f"\nafter its connections went dark {medians}")
    client.close()


def test_an_idle_service_notices_too(
    shared_redis: RedisServer, proxy: FaultProxy, url: str, start_process: Start, capsys: pytest.CaptureFixture[str]
) -> None:
    service = start_process(IDLE, env=settings(url))
    service.wait_line("is connected")
    client = shared_redis.client()

    def measure() -> Mapping[str, float]:
        gevent.sleep(1.0)  # not a wait for something: the connection must have been idle before it goes dark
        moment = darken(proxy)
        figures = {"an idle service serves": first_answer(client, "idle") - moment}
        proxy.cut()
        wait_for_subscribers(client, ["idle"])
        return figures

    medians = best_of(3, measure, LIMIT_SECONDS, all_rounds=False)
    with capsys.disabled():
        print(f"\nafter its connections went dark {medians}")
    client.close()


def test_a_caller_notices_within_3_s_and_a_call_under_way_fails_with_an_error(
    shared_redis: RedisServer, proxy: FaultProxy, url: str, start_process: Start, capsys: pytest.CaptureFixture[str]
) -> None:
    garden = start_process(GARDEN, env=settings(shared_redis.url), name="garden.py")
    garden.wait_line("is connected")
    caller = start_process(CALLER, env=settings(url), name="caller.py")
    wait_after(caller, "call", 0)

    def measure() -> Mapping[str, float]:
        moment = darken(proxy)
        # An answer that had already arrived when the connections went dark does not count.
        figures = {"a caller calls": wait_after(caller, "call", moment + 0.1) - moment}
        proxy.cut()
        wait_after(caller, "call", time.time())
        return figures

    medians = best_of(3, measure, LIMIT_SECONDS, all_rounds=False)
    failed = after(caller, "call", 0, "CallTimeout") + after(caller, "call", 0, "BusUnavailable")
    assert failed
    assert not after(caller, "call", 0, "WRONG")
    with capsys.disabled():
        print(f"\nafter its connections went dark {medians}")


def test_cut_connections_are_reopened_at_once(
    shared_redis: RedisServer, proxy: FaultProxy, url: str, start_process: Start, free_port: int
) -> None:
    garden = start_process(GARDEN, env=settings(url, management=free_port))
    garden.wait_line("is connected")
    client = shared_redis.client()
    seconds = []
    for _ in range(3):
        proxy.cut()
        moment = time.time()
        seconds.append(first_answer(client, "garden") - moment)
    assert min(seconds) <= 0.5, seconds
    wait_for_subscribers(client, ["garden"])
    wait_until(lambda: Management(free_port).metric("daebus_bus_reconnects_total") == 6)
    client.close()


def test_a_network_that_refuses_for_a_while(
    shared_redis: RedisServer, proxy: FaultProxy, url: str, start_process: Start, free_port: int
) -> None:
    management = Management(free_port)
    garden = start_process(GARDEN, env=settings(url, management=free_port))
    garden.wait_line("is connected")
    management.wait_ready()
    proxy.refuse()
    management.wait_not_ready("bus: not connected")
    assert management.get("/livez")[0] == 200
    proxy.start()
    management.wait_ready(2)
    client = shared_redis.client()
    wait_for_subscribers(client, ["garden"])
    assert garden.count("is away") == 1, garden.output
    client.close()
