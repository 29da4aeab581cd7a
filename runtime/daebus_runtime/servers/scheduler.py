"""Runs scheduled tasks at their planned times: a heap of what is due when, one clock, and a greenlet for each run.

Tasks are declared in code and run in each replica; nothing is stored. A run that is still at work when the next is due
is not started a second time; planned times that were missed, because the loop was held or the wall clock was set
forward, are made up for by one run. Intervals are planned on the monotonic clock, so no step of the wall clock moves
them. Cron follows the wall clock, which is looked at every second.
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
"""Runs that are skipped cost little, and are skipped for so long in one turn of the loop."""
PAUSE_SECONDS = 0.001


class Scheduler:
    """The tasks of one application. Used on one loop; `clock` is the machine's unless a test passes in its own."""

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
        """Schedule a task, from now on; before or after the start."""
        self._heed_steps()
        self._push(self._plan(task))
        self._changed.set()

    def reschedule(self, name: str, interval: float | None = None, cron: str | None = None) -> None:
        """Change when a task runs, from now on. KeyError for an unknown name, RegistrationError for what cannot be
        used. Its jitter stays, and is at most the interval."""
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
                "the wall clock was set %s by %.1f s, or the machine slept; interval tasks go on, cron tasks follow it",
                "forward" if moved > 0 else "back",
                abs(moved),
            )
        if moved:
            for planned in self._planned.values():
                planned.follow(moved)
            self._arrange()

    # --- by the clock ---------------------------------------------------------------------------------------------
    def next_due(self) -> float:
        """When the next run is due, on the clock's monotonic time; infinity when none is."""
        self._heed_steps()
        return self._heap[0][0] if self._heap and not self._paused else math.inf

    def begin_next(self) -> gevent.Greenlet[..., None] | None:
        """Begin the run that `next_due` told of; its greenlet, or None when it is skipped."""
        _, _, planned = heapq.heappop(self._heap)
        scheduled = planned.take()
        self._push(planned)
        if scheduled is None or planned.is_at_work():
            return None
        # A run that needs leave (in a cluster, one for each planned time) will ask for it in its greenlet.
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
                # Each run has a turn of its own: fifty that are due together and compute would hold the loop.
                if self.begin_next() is not None or self._clock.monotonic() - begun > TURN_SECONDS:
                    turn()
                    begun = self._clock.monotonic()
            self._changed.wait(min(max(pause, PAUSE_SECONDS), LOOK_SECONDS))

    # --- life -----------------------------------------------------------------------------------------------------
    def start(self) -> None:
        self._loop = gevent.spawn(self._serve)

    def pause(self) -> None:
        """No further run begins."""
        self._paused = True

    def drain(self, deadline: float) -> bool:
        """Wait for runs in flight until `deadline` (time.monotonic); whether they all ended. The others are cut off."""
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
    """One run of a task, planned for `scheduled` (Unix seconds). What it raises is logged and goes no further."""
    context = Context(app, TaskRequest(app.service, task.name, scheduled))
    begun, failed = time.perf_counter(), False
    try:
        call_in_context(context, task.function, run=blocking.run if task.blocking else None)
    except FAULTS:
        failed = True
        runtime_logger.exception("task %r failed; it goes on at its next time", task.name)
    metrics.handler("task", task.name).done(time.perf_counter() - begun, failed)
