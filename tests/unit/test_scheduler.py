"""Scheduled tasks in real time: when they run, that runs never overlap, and that a task goes on after an exception."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from decimal import Decimal
from typing import Any

import gevent
import pytest
from daebus_runtime import Daebus, request
from daebus_runtime.errors import RegistrationError
from daebus_runtime.runner import Prepared, Runner
from daebus_runtime.testing import TestApp
from daebus_runtime.transport import Limits, home
from daebus_runtime.transport.memory import MemoryBroker, MemoryTransport

from tests.support.waiting import wait_until

Run = Callable[[Daebus], Runner]


@pytest.fixture
def run() -> Iterator[Run]:
    """Starts an application on a bus in memory; its timers run in real time, as in production."""
    started: list[Runner] = []

    def start(app: Daebus) -> Runner:
        transport = MemoryTransport(MemoryBroker(), home.current(), Limits(1 << 20, 1.0))
        runner = Runner(app, Prepared(app.load_settings().settings, None), transport)
        runner.start()
        started.append(runner)
        return runner

    yield start
    for runner in started:
        runner.finish(time.monotonic() + 2)


def test_the_first_run_comes_after_one_interval_and_knows_its_planned_time(run: Run) -> None:
    app, runs = Daebus("clock"), []

    @app.background("tick", 0.2)
    def tick() -> None:
        runs.append((time.monotonic(), request.scheduled, time.time()))

    begun = time.monotonic()
    run(app)
    wait_until(lambda: len(runs) >= 3, 10)
    assert runs[0][0] - begun >= 0.2
    planned = [scheduled for _, scheduled, _ in runs[:3]]
    assert planned[1] - planned[0] == pytest.approx(0.2, abs=0.001)
    assert all(now >= scheduled for _, scheduled, now in runs)


def test_runs_never_overlap(run: Run) -> None:
    app = Daebus("clock")
    now, most, runs = 0, 0, 0

    @app.background("tick", 0.05)
    def tick() -> None:
        nonlocal now, most, runs
        now += 1
        most = max(most, now)
        time.sleep(0.12)
        now -= 1
        runs += 1

    run(app)
    wait_until(lambda: runs >= 4, 10)
    assert most == 1


@pytest.mark.alone
def test_many_tasks_that_are_due_together_and_compute_leave_the_loop_to_others(run: Run) -> None:
    app, ended = Daebus("clock"), []

    def grind() -> None:
        until = time.monotonic() + 0.02
        while time.monotonic() < until:
            pass
        ended.append(1)

    for number in range(49):
        app.background(f"grind {number}", 0.5)(grind)
    run(app)
    latest, before = 0.0, time.monotonic()
    while len(ended) < 49:
        gevent.sleep(0.001)
        now = time.monotonic()
        latest, before = max(latest, now - before), now
    assert latest < 0.3  # 1 s when all run in one turn of the loop


def test_an_exception_is_logged_and_the_task_goes_on(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    app, runs = Daebus("clock"), []

    @app.background("tick", 0.05)
    def tick() -> None:
        runs.append(1)
        raise ValueError("spring is broken")

    run(app)
    wait_until(lambda: len(runs) >= 3, 10)
    failures = [record for record in caplog.records if "task 'tick' failed" in record.getMessage()]
    assert len(failures) >= 2
    assert failures[0].exc_info is not None
    assert "spring is broken" in str(failures[0].exc_info[1])
    assert app.metrics.handler("task", "tick").errors >= 2


def test_the_interval_can_be_changed_while_it_runs(run: Run) -> None:
    app, runs = Daebus("clock"), []

    @app.background("tick", 3600)
    def tick() -> None:
        runs.append(1)

    run(app)
    app.reschedule("tick", interval=0.05)
    wait_until(lambda: len(runs) >= 2, 10)
    with pytest.raises(KeyError):
        app.reschedule("tock", interval=1)


def test_the_interval_can_be_changed_from_an_os_thread(run: Run) -> None:
    app, runs = Daebus("clock"), []
    app.background("tick", 3600)(lambda: runs.append(1))
    runner = run(app)
    runner.blocking.run(app.reschedule, "tick", 0.05)
    wait_until(lambda: len(runs) >= 2, 10)
    with pytest.raises(KeyError):
        runner.blocking.run(app.reschedule, "tock", 1)


def test_no_run_begins_once_the_drain_has_begun(run: Run) -> None:
    app, runs = Daebus("clock"), []

    @app.background("tick", 0.02)
    def tick() -> None:
        runs.append(1)

    runner = run(app)
    wait_until(lambda: runs, 10)
    runner.begin_drain()
    seen = len(runs)
    other: list[int] = []
    until = time.monotonic() + 0.2
    wait_until(lambda: time.monotonic() > until or other, 5)  # ten intervals pass
    assert len(runs) == seen


def test_a_run_in_flight_is_waited_for(run: Run) -> None:
    app, ended = Daebus("clock"), []

    @app.background("tick", 0.05)
    def tick() -> None:
        begun.append(1)
        time.sleep(0.3)
        ended.append(1)

    begun: list[int] = []
    runner = run(app)
    wait_until(lambda: begun, 10)
    runner.finish(time.monotonic() + 5)
    assert ended == [1]


def test_cron_runs_at_its_times() -> None:
    app, planned = Daebus("clock"), []

    @app.background("quarter", cron="*/15 * * * *", timezone="Europe/Vienna")
    def quarter() -> None:
        planned.append(request.scheduled)

    with TestApp(app) as service:
        assert service.clock.advance(3600) == 4
    assert [scheduled % 900 for scheduled in planned] == [0, 0, 0, 0]


def test_jitter_moves_a_run_within_its_bound(run: Run) -> None:
    app, runs = Daebus("clock"), []

    @app.background("tick", 0.2, jitter=0.05)
    def tick() -> None:
        runs.append(time.monotonic())

    begun = time.monotonic()
    run(app)
    wait_until(lambda: runs, 10)
    assert runs[0] - begun >= 0.2 - 0.05


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({}, "either an interval in seconds or cron="),
        ({"interval": 1, "cron": "* * * * *"}, "either an interval in seconds or cron="),
        ({"interval": 0}, "a number of seconds above 0, not 0"),
        ({"interval": -1}, "a number of seconds above 0, not -1"),
        ({"interval": True}, "a number of seconds above 0, not True"),
        ({"interval": "10"}, "a number of seconds above 0, not '10'"),
        ({"interval": float("nan")}, "a number of seconds above 0, not nan"),
        ({"interval": Decimal("0.5")}, "above 0, not Decimal('0.5'), which is a Decimal"),
        ({"interval": timedelta(seconds=1)}, "which is a timedelta"),
        ({"interval": float("inf")}, "an interval is 0.001 to 1000000000 s, not inf s"),
        ({"interval": 1e-9}, "an interval is 0.001 to 1000000000 s, not 1e-09 s"),
        ({"interval": 10**400}, "an interval is 0.001 to"),
        ({"cron": 5}, "it is no text"),
        ({"cron": "* * *"}, "it has 3 fields; five fields are expected"),
        ({"cron": "* * * * *", "timezone": "Mars/Base"}, "timezone='Mars/Base' is not in the time zone database"),
        ({"cron": "* * * * *", "timezone": "CET-1CEST"}, "timezone='CET-1CEST'"),
        ({"cron": "* * * * *", "timezone": 5}, "timezone= is a name such as 'Europe/Berlin', not 5"),
        ({"interval": 1, "timezone": "Mars/Base"}, "timezone='Mars/Base'"),
        ({"interval": 1, "jitter": -1}, "jitter is a number of seconds"),
        ({"interval": 1, "jitter": float("nan")}, "jitter is a number of seconds from 0, not nan"),
        ({"interval": 1, "jitter": float("inf")}, "jitter is a number of seconds from 0, not inf"),
        ({"interval": 1, "jitter": True}, "jitter is a number of seconds from 0, not True"),
        ({"interval": 1, "jitter": "1"}, "jitter is a number of seconds from 0, not '1'"),
        ({"interval": 1, "jitter": 2}, "a jitter of 2 s is longer than the interval of 1 s"),
    ],
)
def test_a_task_that_could_never_run_is_refused_where_it_is_declared(arguments: dict[str, Any], text: str) -> None:
    with pytest.raises(RegistrationError, match="task 'tick'") as error:
        Daebus("clock").background("tick", **arguments)
    assert text in str(error.value)
    assert ("five fields" in str(error.value)) == (
        "fields" in text or "no text" in text
    )  # the error does not blame the time zone
