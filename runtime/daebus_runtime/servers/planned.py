"""The state of one scheduled task: its next planned time, and when that is due. Starts nothing."""

from __future__ import annotations

import dataclasses
import math
from collections import deque

import gevent

from ..clock import STEP_SECONDS, Clock
from ..logs import runtime_logger
from ..registry import Task
from ..schedule import Times

REMEMBERED_SECONDS = 86_400.0
REMEMBERED_SPANS = 100
SAY_SECONDS = 5.0


@dataclasses.dataclass
class Span:
    """Planned times (Unix seconds) whose run has happened: those from `first` to `last`; `at` is when the latest did
    (monotonic). Each step of the wall clock begins a new span."""

    first: float
    last: float
    at: float


class Planned:
    """A task's next run. `due`: when it starts (monotonic time), that is its planned time plus a random jitter."""

    def __init__(self, task: Task, times: Times, clock: Clock) -> None:
        self.task = task
        self.due = 0.0
        self.run: gevent.Greenlet[..., None] | None = None
        """The latest run."""
        self._times, self._clock = times, clock
        self._jitter = min(
            task.jitter or 0.0, times.longest_jitter
        )  # the declared jitter may be longer than a new interval
        self._next = self._delay = 0.0
        self._spans: deque[Span] = deque(maxlen=REMEMBERED_SPANS)
        self._stepped = True
        self._told = self._late = False
        self._said = -math.inf
        self._choose(self._now())

    def take(self) -> float | None:
        """The planned time of the due run, in Unix seconds; the last one if several were missed.

        None if that run has already happened. Also chooses the next planned time.
        """
        taken = self._times.latest(self._next, self._now() - self._jitter)
        if not self._times.on_wall:
            self._choose(taken)
            return taken + self._clock.offset
        fresh = self._span_of(taken) is None
        if fresh:
            self._remember(taken)
        self._choose(taken)
        return taken if fresh else None

    def follow(self, moved: float) -> None:
        """Adapt to a wall clock that was set by `moved` seconds."""
        if abs(moved) >= STEP_SECONDS:
            self._stepped = True
        if moved <= -STEP_SECONDS and self._times.on_wall and self._next > self._now():
            self._choose(self._now())  # set back: planned times without a run may lie ahead again
        else:
            self._set_due()

    def is_at_work(self) -> bool:
        """Whether the latest run has not ended. Logged once until a run ends in time again, and at most every
        SAY_SECONDS, because with a short interval every second run may be late."""
        if self.run is None or self.run.ready():
            self._told, self._late = self._told and self._late, False
            return False
        now = self._clock.monotonic()
        if not self._told and now - self._said >= SAY_SECONDS:
            self._told, self._said = True, now
            runtime_logger.warning(
                "task %r still runs although its next run is due; runs are skipped until it has ended",
                self.task.name,
            )
        self._late = True
        return True

    def _now(self) -> float:
        """The current time on the clock that the task uses."""
        return self._clock.monotonic() + (self._clock.offset if self._times.on_wall else 0.0)

    def _choose(self, after: float) -> None:
        found = self._times.next_after(after)
        while (span := self._span_of(found)) is not None:
            found = self._times.next_after(span.last)
        self._next = found
        self._delay = self._clock.jitter(self._jitter)
        self._set_due()

    def _set_due(self) -> None:
        self.due = self._next + self._delay - (self._clock.offset if self._times.on_wall else 0.0)

    # A clock that is set back reaches the same planned times again. For a day they are not run a second time. Older
    # runs are forgotten: the clock was probably wrong when they ran, for example by a week.
    def _span_of(self, planned: float) -> Span | None:
        oldest = self._clock.monotonic() - REMEMBERED_SECONDS
        return next((span for span in self._spans if span.first <= planned <= span.last and span.at > oldest), None)

    def _remember(self, planned: float) -> None:
        now = self._clock.monotonic()
        if self._stepped:
            self._spans.append(Span(planned, planned, now))
            self._stepped = False
        else:
            self._spans[-1].last, self._spans[-1].at = planned, now
