"""The server comes back without its data: what a caller knows of the services is not forgotten with it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import gevent
import pytest
from daebus_runtime import DaebusCaller, errors

from tests.faults.instruments import Start
from tests.faults.mill import Mill, answers, caller
from tests.support.proxy import FaultProxy
from tests.support.redis_server import RedisServer

pytestmark = pytest.mark.slow
ABSENT_SECONDS = 1.5
"""How much later than the callers the service is back."""


@pytest.fixture
def proxy(redis_server: RedisServer) -> Iterator[FaultProxy]:
    """The way of the service to the server."""
    with FaultProxy("127.0.0.1", redis_server.port) as proxy:
        yield proxy


def lose_data(server: RedisServer, proxy: FaultProxy) -> None:
    """The server is killed and empty again; the service cannot reach it for a while."""
    proxy.refuse()
    server.kill()
    server.start()
    gevent.spawn_later(ABSENT_SECONDS, proxy.start)


def call(to: DaebusCaller, number: int) -> int | str:
    try:
        return int(to.send_request("echo", number, timeout=20))
    except errors.BusUnavailable:
        return "away"
    except errors.UnknownService:
        return "unknown"


@pytest.mark.parametrize("reached", [True, False])
def test_no_service_becomes_unknown(
    redis_server: RedisServer, proxy: FaultProxy, start_process: Start, tmp_path: Path, reached: bool
) -> None:
    mill = Mill(start_process, f"redis://127.0.0.1:{proxy.port}/0", tmp_path).ready()
    to = caller(redis_server)
    if reached:
        answers(to)
    else:  # it is connected, and knows of nobody
        with pytest.raises(errors.UnknownService):
            DaebusCaller("nobody", redis_url=redis_server.url).send_request("echo", 1)
    lose_data(redis_server, proxy)
    until = time.monotonic() + 2 * ABSENT_SECONDS
    calls: list[gevent.Greenlet[..., int | str]] = []
    while time.monotonic() < until:
        calls.append(gevent.spawn(call, to, len(calls)))
        gevent.sleep(0.01)
    results = [one.get(timeout=30) for one in calls]
    assert set(results) - {"away"} <= set(range(len(calls)))
    assert results[-1] == len(calls) - 1
    assert to.send_to_service({"n": 1}, "echo") == 1
    mill.management.wait_ready(10)


def test_a_name_that_never_was_is_still_an_error_soon(redis_server: RedisServer) -> None:
    to = DaebusCaller("nobody", redis_url=redis_server.url)
    with pytest.raises(errors.UnknownService):
        to.send_request("echo", 1)
    redis_server.restart()
    begun = time.monotonic()
    while call(to, 1) == "away":
        assert time.monotonic() - begun < 10
    with pytest.raises(errors.UnknownService):
        to.send_request("echo", 1)
    assert time.monotonic() - begun < 10
