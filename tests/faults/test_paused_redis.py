"""Redis is paused (SIGSTOP) for 8 s: connections stay open, the port accepts new ones, nothing answers."""

from __future__ import annotations

import time

import pytest

from tests.faults.instruments import (
    CALLER,
    GARDEN,
    Management,
    Start,
    after,
    first_answer,
    open_connections,
    settings,
    wait_after,
    wait_for_subscribers,
)
from tests.support.redis_server import RedisServer
from tests.support.waiting import wait_until

pytestmark = pytest.mark.alone

PAUSE_SECONDS = 8.0


@pytest.mark.slow
def test_all_report_the_outage_while_redis_is_paused_and_work_again_after(
    redis_server: RedisServer, start_process: Start, free_port: int, capsys: pytest.CaptureFixture[str]
) -> None:
    management = Management(free_port)
    garden = start_process(GARDEN, env=settings(redis_server.url, management=free_port), name="garden.py")
    garden.wait_line("is connected")
    caller = start_process(CALLER, env=settings(redis_server.url), name="caller.py")
    management.wait_ready()
    wait_after(caller, "call", 0)
    client = redis_server.client()
    before = open_connections(client)

    redis_server.pause()
    paused = time.monotonic()
    management.wait_not_ready("bus: not connected", 4)
    noticed = time.monotonic() - paused
    while time.monotonic() - paused < PAUSE_SECONDS:
        begun = time.monotonic()
        assert management.get("/livez")[0] == 200
        assert management.get("/readyz")[0] == 503
        assert time.monotonic() - begun < 1, "health answers wait for Redis"
        code, text = management.health()
        assert (code, "bus: not connected" in text) == (1, True), text
        assert management.health("--live")[0] == 0

    redis_server.resume()
    resumed = time.time()
    served = first_answer(client, "garden") - resumed
    called = wait_after(caller, "call", resumed) - resumed
    management.wait_ready(2)
    assert management.health()[0] == 0
    wait_for_subscribers(client, ["garden"])
    wait_until(lambda: open_connections(client) == before, 5, lambda: f"{open_connections(client)} != {before}")
    assert garden.count("is away") == 1, garden.output
    assert not after(caller, "call", 0, "WRONG")
    client.close()
    with capsys.disabled():
        print(f"\nSIGSTOP noticed after {noticed:.2f} s; after SIGCONT served {served:.2f} s, called {called:.2f} s")
    assert noticed < 3.5
    assert served < 2.5  # an attempt to connect may be waiting for its answer at that moment
    assert called < 3.5
