"""The wall clock of a running service jumps: by an hour, by days, by the 20 years of a board that had no NTP. Tasks go
on, and no client notices."""

from __future__ import annotations

import re
import signal
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from daebus_runtime import DaebusCaller

from tests.faults.instruments import Start, settings
from tests.support.bystanders import Bystanders
from tests.support.ports import free_port
from tests.support.process import ServiceProcess
from tests.support.redis_server import RedisServer
from tests.support.waiting import wait_until
from tests.support.wall_clock import DAY, HOUR, YEAR, WallClock

STEPS = (HOUR, -HOUR, 7 * DAY, -7 * DAY, 20 * YEAR, -20 * YEAR)
TIMES = """
    import time

    from daebus import Daebus, DaebusHttp, DaebusWebSocket, request

    app = Daebus("times")
    app.attach(DaebusHttp())
    app.attach(DaebusWebSocket())
    ticks, minutes, begun = [], [], time.time()


    @app.action("ping")
    def ping():
        return {}


    @app.route("/ping")
    def http_ping(req):
        return {}


    @app.route("/slow")
    def slow(req):
        print("slow began", flush=True)
        time.sleep(1)
        return {}


    @app.socket("ping")
    def ws_ping(data, client_id):
        return {}


    @app.background("tick", 0.2)
    def tick():
        ticks.append([time.monotonic(), request.scheduled, time.time()])


    @app.background("rare", 86400)
    def rare():
        pass


    for name, cron in {"minute": "* * * * *", "night": "30 2 * * *", "workdays": "0 9 * * mon-fri"}.items():
        @app.background(name, cron=cron, timezone="Europe/Berlin")
        def run():
            minutes.append([request.name, request.scheduled])


    @app.action("look")
    def look():
        clients = [app.websocket.get_client_metadata(one) for one in app.websocket.clients]
        return {"now": time.time(), "ticks": ticks, "minutes": minutes, "clients": clients}


    app.run()
"""


class Times:
    """The running service, and what it reports about itself."""

    def __init__(self, process: ServiceProcess, redis: RedisServer, management: int) -> None:
        self.process, self._management = process, management
        process.wait_line("service times started")
        wait_until(self.is_ready, 10)
        self._caller = DaebusCaller("times", redis_host="127.0.0.1", redis_port=redis.port)

    def look(self) -> dict[str, Any]:
        seen: dict[str, Any] = self._caller.send_request("look", {})
        return seen

    def get(self, path: str) -> bytes:
        with urllib.request.urlopen(f"http://127.0.0.1:{self._management}{path}", timeout=5) as answer:
            content: bytes = answer.read()
        return content

    def is_ready(self) -> bool:
        try:
            return bool(self.get("/readyz"))
        except urllib.error.HTTPError:
            return False

    def has_counted(self, steps: int) -> bool:
        return f"daebus_clock_steps_total {steps}.0".encode() in self.get("/metrics")

    def peak(self) -> int:
        """The highest memory use of any process of the service so far, in bytes."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return max(
            int(re.findall(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{one}/status").read_text())[0]) * 1024 for one in children
        )

    def later(self, wanted: int) -> dict[str, Any]:
        """Waits until `tick` has run this many more times; the service's report."""
        before = len(self.look()["ticks"])
        wait_until(lambda: len(self.look()["ticks"]) >= before + wanted, 10)
        return self.look()


@pytest.fixture
def times(shared_redis: RedisServer, start_process: Start, wall_clock: WallClock) -> Callable[..., Times]:
    def start(**env: str) -> Times:
        management = free_port()
        ports = {"DAEBUS_MANAGEMENT_PORT": str(management), "DAEBUS_MANAGEMENT_HOST": "127.0.0.1"}
        process = start_process(TIMES, env={**settings(shared_redis.url), **ports, **wall_clock.env, **env})
        return Times(process, shared_redis, management)

    return start


@pytest.mark.alone
@pytest.mark.slow
def test_no_client_notices_that_the_wall_clock_jumps(
    times: Callable[..., Times], wall_clock: WallClock, shared_redis: RedisServer, measured: Callable[[str], None]
) -> None:
    port = free_port()
    service = times(DAEBUS_HTTP_PORT=str(port))
    with Bystanders(
        http_port=port, websocket_port=port, redis_url=shared_redis.url, service="times", rate=20
    ) as others:
        service.later(2)
        peak = service.peak()
        for number, step in enumerate(STEPS, 1):
            wall_clock.step(step)
            seen = service.later(3)
            assert seen["now"] == pytest.approx(time.time() + wall_clock.wrong, abs=2)
            wait_until(partial(service.has_counted, number), 5)
            assert service.is_ready()
        grown = service.peak() - peak
    others.assert_unharmed()
    assert service.process.count("the wall clock was set") == len(STEPS)
    ticks = seen["ticks"]
    assert max(after[0] - before[0] for before, after in pairwise(ticks)) < 1.2  # it goes on within an interval
    assert len(ticks) - 1 <= (ticks[-1][0] - ticks[0][0]) / 0.2 + 1  # no missed run is made up for
    assert all(0 <= now - planned < 1 for _, planned, now in ticks)
    runs = [tuple(run) for run in seen["minutes"]]
    assert len(set(runs)) == len(runs)
    assert 2 <= [name for name, _ in runs].count("night") <= 4  # once after each jump of a week and of 20 years
    (client,) = seen["clients"]
    assert 0 <= client["idle_seconds"] < 2
    assert 0 < client["uptime_seconds"] < 60
    measured(f"wall clock set {len(STEPS)} times: {grown / 2**20:.1f} MiB more at most; {others}")
    assert grown < 8 << 20  # a run for each second of twenty years would take gigabytes


@pytest.mark.slow
def test_a_board_that_starts_in_1970_goes_on_once_it_knows_the_time(
    times: Callable[..., Times], wall_clock: WallClock
) -> None:
    wall_clock.step(60 - int(time.time()))
    service = times()
    assert service.later(2)["now"] < DAY
    wall_clock.step(-wall_clock.wrong)
    seen = service.later(3)
    assert seen["ticks"][-1][1] == pytest.approx(time.time(), abs=60)
    assert [name for name, _ in seen["minutes"]].count("workdays") == 1
    assert service.process.count("the wall clock was set forward") == 1
    assert service.process.terminate() == 0


def test_a_drain_waits_for_its_requests_whatever_the_wall_clock_does(
    times: Callable[..., Times], wall_clock: WallClock
) -> None:
    port = free_port()
    service = times(DAEBUS_HTTP_PORT=str(port))
    answers: list[int] = []

    def ask() -> None:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/slow", timeout=10) as answer:
            answers.append(answer.status)

    asking = threading.Thread(target=ask)
    asking.start()
    service.process.wait_line("slow began")
    service.process.signal(signal.SIGTERM)
    service.process.wait_line("draining")
    wall_clock.step(HOUR)
    asking.join(10)
    assert answers == [200]
    assert service.process.wait(10) == 0
