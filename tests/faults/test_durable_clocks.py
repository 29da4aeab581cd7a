"""Clocks are wrong or jump, on the server and on services: nothing is lost or runs in two places, and calls go on."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path

import gevent
import pytest

from tests.faults.instruments import Start
from tests.faults.mill import Mill, answers, caller, replicas
from tests.support import durable
from tests.support.redis_server import RedisServer
from tests.support.waiting import wait_until
from tests.support.wall_clock import DAY, WallClock

pytestmark = [pytest.mark.alone, pytest.mark.slow]


def test_the_clock_of_the_server_jumps_and_those_of_services_differ(
    wall_clock: WallClock, start_process: Start, tmp_path: Path
) -> None:
    (tmp_path / "early").mkdir()
    (tmp_path / "late").mkdir()
    early, late = WallClock(tmp_path / "early"), WallClock(tmp_path / "late")
    early.step(-300)
    late.step(300)
    with RedisServer(env=wall_clock.env) as server:
        mills = [Mill(start_process, server.url, tmp_path, env=clock.env) for clock in (early, late)]
        for mill in mills:
            mill.ready()
        to, client = caller(server), server.client()
        alive = replicas(client)
        held = [gevent.spawn(to.send_request, "wait", number, timeout=90) for number in range(4)]
        mills[0].wait_run("began", "wait", 3)
        asked: list[int] = []
        failed: list[str] = []
        going = True

        def ask() -> None:
            while going:
                asked.append(number := len(asked) + 10)
                try:
                    assert to.send_request("count", number, timeout=5) == number
                except Exception as error:
                    failed.append(f"{wall_clock.wrong // DAY} days: {error!r}")
                gevent.sleep(0.005)

        asking = [gevent.spawn(ask) for _ in range(5)]
        for days in (90, -90, -90, 90):
            wall_clock.step(days * DAY)
            assert client.time()[0] == pytest.approx(time.time() + wall_clock.wrong, abs=5)
            before = len(asked)
            wait_until(lambda since=before: len(asked) > since + 100, 15)  # type: ignore[misc]
            answers(to, 5)
        going = False
        gevent.joinall(asking, raise_error=True)
        assert len(failed) <= 20, failed  # at most those that were under way at a jump
        (tmp_path / "release").touch()
        assert {call.get(timeout=10) for call in held} <= {mill.process.pid for mill in mills}
        assert replicas(client) == alive
        began = Counter(line.rsplit(" ", 2)[0] for line in mills[0].runs("began"))
        assert set(began.values()) == {1}
        counts = client.hgetall("counts")
        assert set(counts.values()) == {"1"}
        assert len(counts) >= len(asked) + 4 - len(failed)
        wait_until(lambda: durable.group(client, "mill")["pending"] == 0)

        for days in (90, -90):  # while nothing is under way
            wall_clock.step(days * DAY)
            gevent.sleep(1.5)  # a read that waits ends meanwhile, or does not
            assert answers(to, 5) < 3
            assert to.send_request("count", days, timeout=5) == days
        for mill in mills:
            assert mill.said("was taken out") == mill.said("no sign of life") == 0, mill.process.output
            mill.management.wait_ready()
        durable.check(client)
        client.close()
