"""Runs scheduled tasks at their planned times: a heap of due times, one clock, and a greenlet for each run.

Tasks are declared in code and run in each replica; nothing is stored. If a run is not finished when the next is due,
that one is skipped. If planned times were missed, because the loop was held or the wall clock was set forward, a single
run replaces them. Intervals use the monotonic clock, so steps of the wall clock do not shift them. Cron follows the
wall clock, which is checked every second.
"""

from __future__ import annotations

import dataclasses
import heapq
import math
import time

import gevent
from gevent.event import Event

from ..clock import STEP_SECONDS, Clock
from ..context import Context, Service, call_in_context
from ..context.requests import TaskRequest
from ..dispatch.blocking import BlockingPool
from ..dispatch.guard import FAULTS
from ..logs import runtime_logger
from ..metrics import Metrics
from ..registry import Task
from ..schedule import make_times
from ..turn import turn
from .planned import Planned

LOOK_SECONDS = 1.0
TURN_SECONDS = 0.01
"""How long one turn of the loop may be used for skipping runs; each skip costs little."""
PAUSE_SECONDS = 0.001


class Scheduler:
    """The tasks of one application. Used on one loop only; tests pass in a `clock` of their own."""

    def __init__(self, app: Service, blocking: BlockingPool, metrics: Metrics, clock: Clock | None = None) -> None:
        self._app, self._blocking, self._metrics = app, blocking, metrics
        self._clock = clock or Clock()
        self._planned: dict[str, Planned] = {}
        self._heap: list[tuple[float, str, Planned]] = []
        self._running: set[gevent.Greenlet[..., None]] = set()
        self._loop: gevent.Greenlet[..., None] | None = None
        self._changed = Event()
        self._paused = False

    # --- what is planned ------------------------------------------------------------------------------------------
    def add(self, task: Task) -> None:
        """Schedule a task from now on; allowed before and after the start."""
        self._heed_steps()
        self._push(self._plan(task))
        self._changed.set()

    def reschedule(self, name: str, interval: float | None = None, cron: str | None = None) -> None:
        """Change when a task runs, from now on. KeyError for an unknown name, RegistrationError for bad values. Its
        jitter stays, but is limited to the interval."""
        self._heed_steps()
        before = self._planned[name]
        self._plan(dataclasses.replace(before.task, interval=interval, cron=cron)).run = before.run
        self._arrange()
        self._changed.set()

    def _plan(self, task: Task) -> Planned:
        begun = self._clock.monotonic()
        times = make_times(task.name, task.interval, task.cron, task.timezone, begun=begun)
        planned = self._planned[task.name] = Planned(task, times, self._clock)
        return planned

    def _push(self, planned: Planned) -> None:
        if planned.due < math.inf:
            heapq.heappush(self._heap, (planned.due, planned.task.name, planned))

    def _arrange(self) -> None:
        self._heap = []
        for planned in self._planned.values():
            self._push(planned)

    def _heed_steps(self) -> None:
        moved = self._clock.look()
        if abs(moved) >= STEP_SECONDS:
            self._metrics.clock_steps += 1
            runtime_logger.warning(
                "the wall clock was set %s by %.1f s, or the machine slept; interval tasks continue, cron tasks follow "
                "the new time",
                "forward" if moved > 0 else "back",
                abs(moved),
            )
        if moved:
            for planned in self._planned.values():
                planned.follow(moved)
            self._arrange()

    # --- by the clock ---------------------------------------------------------------------------------------------
    def next_due(self) -> float:
        """When the next run is due (monotonic time); infinity if there is none."""
        self._heed_steps()
        return self._heap[0][0] if self._heap and not self._paused else math.inf

    def begin_next(self) -> gevent.Greenlet[..., None] | None:
        """Start the run that `next_due` announced. Returns its greenlet, or None if the run is skipped."""
        _, _, planned = heapq.heappop(self._heap)
        scheduled = planned.take()
        self._push(planned)
        if scheduled is None or planned.is_at_work():
            return None
        # Later, runs may need a permission (one run per planned time in a cluster); the greenlet will request it.
        run = gevent.Greenlet(run_task, self._app, planned.task, scheduled, self._blocking, self._metrics)
        planned.run = run
        self._running.add(run)
        run.link(self._running.discard)
        run.start()
        return run

    def _serve(self) -> None:
        while True:
            self._changed.clear()
            begun = self._clock.monotonic()
            while (pause := self.next_due() - self._clock.monotonic()) <= 0:
                # One turn per run: fifty computing tasks that are due together would otherwise hold the loop.
                if self.begin_next() is not None or self._clock.monotonic() - begun > TURN_SECONDS:
                    turn()
                    begun = self._clock.monotonic()
            self._changed.wait(min(max(pause, PAUSE_SECONDS), LOOK_SECONDS))

    # --- life -----------------------------------------------------------------------------------------------------
    def start(self) -> None:
        self._loop = gevent.spawn(self._serve)

    def pause(self) -> None:
        """Start no further runs."""
        self._paused = True

    def drain(self, deadline: float) -> bool:
        """Wait for current runs until `deadline` (time.monotonic), then kill the rest; returns whether all ended."""
        running = list(self._running)
        gevent.joinall(running, timeout=max(0.0, deadline - time.monotonic()))
        late = [greenlet for greenlet in running if not greenlet.ready()]
        gevent.killall(late, block=False)
        return not late

    def stop(self) -> None:
        self._paused = True
        if self._loop is not None:
            self._loop.kill(block=False)


def run_task(app: Service, task: Task, scheduled: float, blocking: BlockingPool, metrics: Metrics) -> None:
    """One run of a task, planned for `scheduled` (Unix seconds). Its exceptions are logged and not raised."""
    context = Context(app, TaskRequest(app.service, task.name, scheduled))
    begun, failed = time.perf_counter(), False
    try:
        call_in_context(context, task.function, run=blocking.run if task.blocking else None)
    except FAULTS:
        failed = True
        runtime_logger.exception("task %r failed; it runs again at its next time", task.name)
    metrics.handler("task", task.name).done(time.perf_counter() - begun, failed)
