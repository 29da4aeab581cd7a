"""Planned times and jumps of the wall clock, on a clock that the test moves: no real time passes here."""

from __future__ import annotations

import datetime
import logging
import time
import tracemalloc
from collections.abc import Callable
from itertools import pairwise

import gevent
import pytest
from daebus_runtime import Daebus, request
from daebus_runtime.clock import Clock
from daebus_runtime.dispatch.blocking import BlockingPool
from daebus_runtime.errors import RegistrationError
from daebus_runtime.metrics import Metrics
from daebus_runtime.registry import Task
from daebus_runtime.servers.scheduler import Scheduler
from daebus_runtime.testing import TestApp
from gevent.event import Event
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.waiting import wait_until

UTC = datetime.UTC
NOON = datetime.datetime(2026, 11, 24, 12, 0, 10, tzinfo=UTC)
HOUR, DAY, YEARS = 3600.0, 86_400.0, 20 * 365.25 * 86_400.0
STEPS = [HOUR, -HOUR, 7 * DAY, -7 * DAY, YEARS, -YEARS]


class Watch(Clock):
    """A clock that a test moves. `late` is the delay of each run that has a jitter, as a fraction of the jitter."""

    def __init__(self) -> None:
        self.passed, self.set, self.late = 1000.0, NOON.timestamp() - 1000, 1.0
        super().__init__()

    def wall(self) -> float:
        return self.set + self.passed

    def monotonic(self) -> float:
        return self.passed

    def jitter(self, most: float) -> float:
        return most * self.late


class Bench:
    """A scheduler on such a clock. Time passes run by run, in one step, or with the event loop blocked for a while."""

    def __init__(self) -> None:
        self.clock, self.metrics, self.runs = Watch(), Metrics(), list[float]()
        self.scheduler = Scheduler(Daebus("clock"), BlockingPool(1), self.metrics, self.clock)

    def every(self, interval: float | None = None, cron: str | None = None, jitter: float | None = None) -> None:
        def note() -> None:
            self.runs.append(request.scheduled)

        self.scheduler.add(Task(note, "tick", interval, cron, "UTC", jitter))

    def run_due(self) -> list[float]:
        """Run all tasks that are due now; returns the planned times of the runs."""
        before = len(self.runs)
        while self.scheduler.next_due() <= self.clock.passed:
            run = self.scheduler.begin_next()
            gevent.joinall([run] if run else [], timeout=5)
        return self.runs[before:]

    def pass_by(self, seconds: float, look: float = 1.0) -> list[float]:
        """Let time pass and look at the clock as often as the event loop would."""
        before, end = len(self.runs), self.clock.passed + seconds
        while self.clock.passed < end:
            due = max(self.clock.passed, self.scheduler.next_due())
            self.clock.passed = min(end, due, self.clock.passed + look)
            self.run_due()
        return self.runs[before:]


@pytest.fixture
def bench() -> Bench:
    return Bench()


@pytest.fixture
def steps(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    caplog.set_level(logging.WARNING)
    return lambda: [r.getMessage() for r in caplog.records if "the wall clock was set" in r.getMessage()]


# --- intervals


@pytest.mark.parametrize("step", STEPS)
def test_no_jump_of_the_wall_clock_moves_an_interval(bench: Bench, step: float, steps: Callable[[], list[str]]) -> None:
    bench.every(0.5)
    begun = NOON.timestamp()
    assert bench.pass_by(2) == pytest.approx([begun + n / 2 for n in range(1, 5)])
    bench.clock.set += step
    assert bench.pass_by(2) == pytest.approx([begun + step + n / 2 for n in range(5, 9)])
    (line,) = steps()
    assert f"{'forward' if step > 0 else 'back'} by {abs(step):.1f} s" in line
    assert b"daebus_clock_steps_total 1.0" in bench.metrics.text()


@pytest.mark.alone
@pytest.mark.parametrize("step", STEPS)
def test_a_jump_of_the_clock_costs_little(bench: Bench, step: float) -> None:
    for number in range(20):
        for every in ({"interval": 0.5}, {"cron": "*/5 * * * *"}, {"cron": "30 2 * * *"}):
            task = Task(lambda: None, f"{every}{number}", timezone="Europe/Berlin", **every)
            bench.scheduler.add(task)
    bench.pass_by(1)
    bench.clock.set += step
    tracemalloc.start()
    begun = time.process_time()
    bench.scheduler.next_due()
    heeded = time.process_time() - begun
    bench.run_due()
    size = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert heeded < 0.05
    assert size < 1 << 20


def test_one_run_makes_up_for_all_that_a_blocked_loop_missed(bench: Bench) -> None:
    bench.every(0.5)
    bench.clock.passed += 100.2
    assert bench.run_due() == pytest.approx([NOON.timestamp() + 100])
    assert bench.pass_by(0.5) == pytest.approx([NOON.timestamp() + 100.5])


def test_skipped_runs_are_logged_once_until_a_run_ends_in_time(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    gate = Event()
    bench.scheduler.add(Task(gate.wait, "tick", 1.0))

    def begin(ends: bool = False) -> bool:
        bench.clock.passed += 1
        assert bench.scheduler.next_due() <= bench.clock.passed
        run = bench.scheduler.begin_next()
        gate.set() if ends else gate.clear()
        gevent.joinall([run] if run and ends else [], timeout=5)
        return run is not None

    def said() -> int:
        return sum("task 'tick' still runs" in record.getMessage() for record in caplog.records)

    assert [begin() for _ in range(4)] == [True, False, False, False]
    assert said() == 1
    gate.set()
    wait_until(lambda: bench.scheduler.drain(time.monotonic() + 5))
    assert [begin() for _ in range(2)] == [True, False]  # late again
    gate.set()
    wait_until(lambda: bench.scheduler.drain(time.monotonic() + 5))
    assert said() == 1
    assert [begin(ends=True) for _ in range(2)] == [True, True]
    assert [begin() for _ in range(3)] == [True, False, False]
    assert said() == 2
    gate.set()


def test_runs_that_are_late_now_and_then_do_not_fill_the_log(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    gate = Event()
    bench.scheduler.add(Task(gate.wait, "tick", 0.001))
    bench.clock.passed += 1
    for _ in range(100):  # one run is late, two end in time, and so on
        for ends in (False, True, True):
            bench.clock.passed += 0.001
            run = bench.scheduler.begin_next()
            if not ends:
                bench.clock.passed += 0.001
                assert bench.scheduler.begin_next() is None
            gate.set()
            gevent.joinall([run] if run else [], timeout=5)
            gate.clear()
    assert sum("still runs" in record.getMessage() for record in caplog.records) == 1


@pytest.mark.parametrize("jitter", [0.2, 1.0])
def test_jitter_delays_each_run_but_not_the_planned_times(bench: Bench, jitter: float) -> None:
    bench.every(1, jitter=jitter)
    runs = bench.pass_by(1000 + jitter + 0.1)
    assert runs == pytest.approx([NOON.timestamp() + n for n in range(1, 1001)])


def test_the_delay_of_a_run_is_within_the_jitter(bench: Bench) -> None:
    bench.every(1, jitter=0.25)
    for late in (0.0, 0.5, 1.0, 0.1):
        bench.clock.late = late
        bench.pass_by(1)
    bench.clock.late = 0.5
    assert bench.scheduler.next_due() % 1 == pytest.approx(0.1 * 0.25, abs=1e-6)


def test_a_jitter_is_at_most_the_interval_that_a_task_is_changed_to(bench: Bench) -> None:
    bench.every(cron="0 * * * *", jitter=20)
    bench.scheduler.reschedule("tick", interval=5)
    assert bench.pass_by(30.1) == pytest.approx([NOON.timestamp() + n for n in (5, 10, 15, 20, 25)])
    bench.scheduler.reschedule("tick", cron="* * * * *")
    begun = bench.clock.wall()
    assert bench.scheduler.next_due() + bench.clock.set == pytest.approx(begun - begun % 60 + 60 + 20)
    with pytest.raises(RegistrationError, match="an interval is"):
        bench.scheduler.reschedule("tick", interval=1e-9)
    assert len(bench.pass_by(60)) == 1  # once a minute, as before


@pytest.mark.alone
def test_rounding_neither_doubles_nor_drops_a_run(bench: Bench) -> None:
    bench.clock.passed += 5e8  # a machine that has been up for years
    bench.every(0.001)
    runs = bench.pass_by(1)
    assert len(runs) in (999, 1000)
    assert all(0 < after - before < 0.0011 for before, after in pairwise(runs))


# --- cron


def minutes(runs: list[float]) -> list[str]:
    return [datetime.datetime.fromtimestamp(when, UTC).strftime("%d %H:%M") for when in runs]


def test_cron_goes_back_with_the_clock_and_repeats_no_planned_time(bench: Bench) -> None:
    bench.every(cron="*/10 * * * *")
    assert minutes(bench.pass_by(HOUR)) == [*(f"24 12:{minute}" for minute in (10, 20, 30, 40, 50)), "24 13:00"]
    bench.clock.set -= HOUR
    assert bench.pass_by(HOUR) == []
    assert minutes(bench.pass_by(1200)) == ["24 13:10", "24 13:20"]


def test_cron_follows_a_clock_that_is_corrected_by_days(bench: Bench) -> None:
    bench.every(cron="0 * * * *")
    bench.pass_by(2 * DAY, look=60)
    bench.clock.set -= 7 * DAY
    assert minutes(bench.pass_by(2 * HOUR)) == ["19 13:00", "19 14:00"]


def test_a_run_that_is_delayed_is_not_lost_when_the_clock_goes_back(bench: Bench) -> None:
    bench.every(cron="* * * * *", jitter=20)
    assert bench.pass_by(60) == []  # it is 12:01:10; the run of 12:01 is delayed by 20 s
    bench.clock.set -= 2
    assert minutes(bench.pass_by(30)) == ["24 12:01"]
    bench.clock.set -= 120
    assert minutes(bench.pass_by(180)) == ["24 12:00", "24 12:02"]  # 12:01 has run already, 12:00 has not


@pytest.mark.parametrize("step", [HOUR, 7 * DAY, YEARS])
def test_cron_runs_once_after_a_step_forward_then_goes_on(bench: Bench, step: float) -> None:
    bench.every(cron="*/10 * * * *")
    bench.clock.set += step
    planned = bench.clock.wall() - bench.clock.wall() % 600
    assert bench.pass_by(1) == [planned]
    assert bench.pass_by(1200) == [planned + 600, planned + 1200]


def test_a_clock_that_jumps_back_and_forth_runs_no_planned_time_twice(bench: Bench) -> None:
    bench.every(cron="* * * * *")
    for step in (DAY, -DAY, 7 * DAY, -7 * DAY - 120, 7 * DAY + 60, -HOUR, HOUR, YEARS, -YEARS):
        bench.pass_by(180)
        bench.clock.set += step
    assert len(bench.runs) > 15
    assert len(set(bench.runs)) == len(bench.runs)


def test_a_correction_of_less_than_a_second_is_not_a_jump(bench: Bench, steps: Callable[[], list[str]]) -> None:
    bench.every(cron="* * * * *")
    for _ in range(10):
        bench.clock.set -= 0.9
        bench.pass_by(30)
    assert steps() == []
    assert bench.runs == [NOON.timestamp() - 10 + 60 * n for n in range(1, len(bench.runs) + 1)]
    bench.clock.set += 0.7
    due = bench.scheduler.next_due()
    assert due + bench.clock.set == pytest.approx(bench.runs[-1] + 60)  # the task still follows the clock


def test_a_clock_beyond_the_calendar_stops_no_task(bench: Bench) -> None:
    bench.every(cron="* * * * *")
    bench.clock.set += 1e12
    bench.pass_by(120)
    bench.clock.set -= 1e12
    assert len(bench.pass_by(120)) == 2


CRON = st.builds(
    " ".join,
    st.tuples(
        st.sampled_from(["*", "*/7", "30", "0,15", "5-50/9"]),
        st.sampled_from(["*", "*/6", "2", "0-23", "1-3"]),
        st.sampled_from(["*", "*", "1", "13,29", "last"]),
        st.sampled_from(["*", "*", "3", "feb-apr", "10"]),
        st.sampled_from(["*", "*", "sun", "1-5/2"]),
    ),
)
JUMPS = st.one_of(st.sampled_from(STEPS), st.floats(-3 * DAY, 3 * DAY), st.floats(-5, 5))
ZONES = ["UTC", "Europe/Berlin", "Australia/Lord_Howe"]
PAUSES = st.sampled_from([1.0, 59.0, 3600.0, 86_400.0])


@settings(max_examples=60, deadline=None)
@given(
    CRON,
    st.sampled_from(["UTC", "Europe/Berlin", "Australia/Lord_Howe"]),
    st.lists(st.tuples(PAUSES, JUMPS), max_size=8),
)
def test_whatever_the_clock_does_no_planned_time_comes_twice_or_early(
    expression: str, timezone: str, story: list[tuple[float, float]]
) -> None:
    bench = Bench()
    early = []

    def note() -> None:
        bench.runs.append(request.scheduled)
        early.append(request.scheduled > bench.clock.wall() + 1e-3)

    bench.scheduler.add(Task(note, "tick", None, expression, timezone))
    spent = 0.0
    for pause, jump in story:
        spent += pause
        bench.clock.passed += pause
        bench.run_due()
        bench.clock.set += jump
        bench.run_due()
    assert not any(early)
    if spent < DAY:
        assert len(set(bench.runs)) == len(bench.runs)
    assert bench.scheduler.next_due() > bench.clock.passed


# --- a test's clock


def test_a_tests_clock_follows_a_change_of_the_interval() -> None:
    app, runs = Daebus("clock"), []
    app.background("tick", 3600)(lambda: runs.append(request.scheduled))
    with TestApp(app) as service:
        app.reschedule("tick", interval=10)
        app.reschedule("tick", interval=10)
        assert service.clock.advance(35) == 3
        app.reschedule("tick", cron="0 * * * *")
        assert service.clock.advance(3600) == 1
    assert runs[3] % 3600 == 0


def test_a_tests_clock_agrees_about_the_jitter() -> None:
    app, runs = Daebus("clock"), []
    app.background("tick", 0.1, jitter=0.1)(lambda: runs.append(request.scheduled))
    with TestApp(app) as service:
        begun = service.clock.now.timestamp()
        assert sum(service.clock.advance(0.1) for _ in range(1000)) == 1000
    assert runs == pytest.approx([begun + n / 10 for n in range(1, 1001)])


def test_a_test_can_set_the_clock(steps: Callable[[], list[str]]) -> None:
    app, runs = Daebus("clock"), []
    app.background("night", cron="30 2 * * *", timezone="Europe/Berlin")(lambda: runs.append(request.scheduled))
    app.background("tick", 3600)(lambda: None)
    with TestApp(app) as service:
        service.clock.now = NOON
        service.clock.advance(0)
        runs.clear()
        assert service.clock.advance(DAY) == 24 + 1
        assert service.clock.now == NOON + datetime.timedelta(days=1)
        service.clock.now = NOON + datetime.timedelta(days=7)
        assert service.clock.advance(0) == 1  # of the times that the step skipped, the last one is made up for
        with pytest.raises(ValueError, match="moves on"):
            service.clock.advance(-1)
    night = datetime.datetime(2026, 11, 25, 1, 30, tzinfo=UTC)
    assert runs == [night.timestamp(), night.timestamp() + 6 * DAY]
    assert len(steps()) == 2


def test_tasks_run_in_order_and_one_after_the_other() -> None:
    app, order = Daebus("clock"), []

    @app.background("slow", 2)
    def slow() -> None:
        gevent.sleep(0.01)
        order.append(("slow", request.scheduled))

    app.background("quick", 1)(lambda: order.append(("quick", request.scheduled)))
    with TestApp(app) as service:
        begun = service.clock.now.timestamp()
        assert service.clock.advance(4) == 6
    names = [(name, round(when - begun)) for name, when in order]
    assert names == [("quick", 1), ("quick", 2), ("slow", 2), ("quick", 3), ("quick", 4), ("slow", 4)]
