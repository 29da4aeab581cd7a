"""Mixed load for a long time, with repeated outages of Redis: the service uses no more resources at the end.

`SOAK_SECONDS` shortens the long test (1200 seconds).
"""

from __future__ import annotations

import os
import statistics
import sys
import time
from collections.abc import Callable

import pytest

from tests.faults import soak
from tests.faults.instruments import Management, Start, settings
from tests.support.ports import free_port
from tests.support.redis_server import RedisServer

pytestmark = [pytest.mark.skipif(sys.platform != "linux", reason="the levels are read from /proc"), pytest.mark.alone]

OUTAGE_SECONDS = 0.5
GRACE_SECONDS = 3.0  # time to recover after an outage: 2 s, and more on a loaded machine
SLOPE_MIB = 4.0  # allowed growth of memory from the second quarter to the last
GROWTH_MIB = 16.0  # allowed growth of memory from the warm-up to the end, fragmentation included


class Soak:
    """The service and all its clients after a warm-up: every feature was used once, and Redis was away once."""

    def __init__(self, server: RedisServer, start: Start) -> None:
        port, management = free_port(), free_port()
        env = settings(server.url, management=management, http_port=port, http_host="127.0.0.1")
        self.server, self.management = server, Management(management)
        self.service = start(soak.SERVICE, env=env, name="soak.py")
        self.management.wait_ready()
        self.outages = soak.Outages(server, GRACE_SECONDS)
        self.callers = soak.Callers(start, env)
        self.load = soak.Load(server, port)
        self.memory: list[float] = []
        self._run(1.0)
        with server.client() as client:
            self.pid = soak.levels(client)["pid"]
            self.rest = soak.at_rest(client)

    def _run(self, seconds: float, cycle: float = 10.0, on_second: Callable[[], object] = lambda: None) -> None:
        """Load for `seconds`, with an outage and a new caller at its start and in every cycle."""
        self.load.start()
        until = time.monotonic() + seconds
        following = 0.0
        while (now := time.monotonic()) < until:
            if now >= following:
                self.outages.one(OUTAGE_SECONDS)
                self.callers.replace_one()
                following = time.monotonic() + cycle
            time.sleep(0.5)
            on_second()
        self.load.stop()

    def run(self, seconds: float) -> None:
        self._run(seconds, on_second=lambda: self.memory.append(soak.resident(self.pid)))
        self.callers.stop()

    def check(self) -> str:
        """Fails when a resource has grown or a request has failed; returns the figures."""
        failures = [*self.load.failures, *self.callers.failures()]
        unexcused = [failure for failure in failures if not self.outages.excuse(failure)]
        assert not unexcused, f"{len(unexcused)} failed while Redis was there: {unexcused[:5]}"
        self.management.wait_ready(1)
        with self.server.client() as client:
            levels = soak.at_rest(client, most=self.rest)
        quarter = max(1, len(self.memory) // 4)
        second, last = (
            statistics.median(part) for part in (self.memory[quarter : 2 * quarter], self.memory[-quarter:])
        )
        assert last - second < SLOPE_MIB, f"memory goes from {second:.1f} to {last:.1f} MiB"
        assert last - self.memory[0] < GROWTH_MIB, f"memory goes from {self.memory[0]:.1f} to {last:.1f} MiB"
        counts = ", ".join(f"{count} {kind}" for kind, count in sorted(self.load.counts.items()))
        return (
            f"{counts}, {self.callers.count()} calls; {len(failures)} failed in {len(self.outages.spans)} "
            f"outages; memory {second:.1f} then {last:.1f} MiB; at rest {levels}, was {self.rest}"
        )


def soaked(server: RedisServer, start: Start, seconds: float) -> str:
    test = Soak(server, start)
    test.run(seconds)
    figures = test.check()
    assert test.service.terminate() == 0, test.service.output
    return f"soak of {seconds:g} s: {figures}"


@pytest.mark.slow
def test_a_short_soak(redis_server: RedisServer, start_process: Start, measured: Callable[[str], None]) -> None:
    measured(soaked(redis_server, start_process, 4))


@pytest.mark.long
def test_a_soak_of_twenty_minutes(
    redis_server: RedisServer, start_process: Start, measured: Callable[[str], None]
) -> None:
    measured(soaked(redis_server, start_process, float(os.environ.get("SOAK_SECONDS", "1200"))))
