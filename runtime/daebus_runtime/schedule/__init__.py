"""Computes the planned times of a task from what its author wrote. Runs nothing and reads no clock."""

from __future__ import annotations

import math
from typing import Protocol, TypeGuard

from ..errors import RegistrationError

LEAST_SECONDS, MOST_SECONDS = 0.001, 1e9


class Times(Protocol):
    """The planned times of one task."""

    on_wall: bool
    """Whether the times are Unix seconds of the wall clock; otherwise they are monotonic seconds."""
    longest_jitter: float
    """With a longer jitter, a run could come after the next one."""

    def next_after(self, when: float) -> float:
        """The first planned time after `when`, which is a planned time or the start of the count."""

    def latest(self, planned: float, now: float) -> float:
        """The last planned time up to `now`, but not before `planned`."""


class Interval:
    """A fixed grid on the monotonic clock: `begun` plus 1, 2, 3… intervals. A late or long run does not shift it."""

    on_wall = False

    def __init__(self, seconds: float, begun: float) -> None:
        self._seconds, self._begun = seconds, begun
        self.longest_jitter = seconds

    def next_after(self, when: float) -> float:
        # round(), not floor: `when` is on the grid except for rounding errors.
        return self._begun + (round((when - self._begun) / self._seconds) + 1) * self._seconds

    def latest(self, planned: float, now: float) -> float:
        return max(planned, self._begun + math.floor((now - self._begun) / self._seconds) * self._seconds)


def make_times(
    name: str,
    interval: float | None,
    cron: str | None,
    timezone: str | None = None,
    jitter: float | None = None,
    begun: float = 0.0,
) -> Times:
    """The planned times of task `name`. An interval (seconds) counts from `begun` (monotonic); the first time is one
    interval later.

    RegistrationError, with the reason, for a bad interval, cron expression, time zone or jitter.
    """
    if (interval is None) == (cron is None):
        raise RegistrationError(f"task {name!r} needs either an interval in seconds or cron=, and not both")
    if jitter is not None:
        _check_jitter(name, jitter, interval)
    if interval is not None:
        _check_interval(name, interval)
        if timezone is None:
            return Interval(float(interval), begun)
    return _by_the_calendar(name, interval, cron, timezone, begun)


def _by_the_calendar(name: str, interval: float | None, cron: str | None, timezone: str | None, begun: float) -> Times:
    # Imported only for cron tasks: it imports APScheduler and the time zones. Tasks are declared at import time.
    from .cron import Cron
    from .zones import zone

    try:
        where = zone(timezone)
    except ValueError as error:
        raise RegistrationError(f"task {name!r}: {error}") from None
    if interval is not None:
        return Interval(float(interval), begun)
    try:
        return Cron(cron, where)
    except ValueError as error:
        raise RegistrationError(
            f"task {name!r}: cron={cron!r} cannot be used: {error}; "
            "five fields are expected: minute, hour, day of the month, month, weekday"
        ) from None


def _check_interval(name: str, interval: object) -> None:
    if not _is_number(interval) or not interval > 0:
        kind = "" if isinstance(interval, (int, float)) else f", which is a {type(interval).__name__}"
        raise RegistrationError(f"task {name!r}: an interval is a number of seconds above 0, not {interval!r}{kind}")
    if not LEAST_SECONDS <= interval <= MOST_SECONDS:
        raise RegistrationError(
            f"task {name!r}: an interval is {LEAST_SECONDS} to {MOST_SECONDS:.0f} s, not {interval!r} s"
        )


def _check_jitter(name: str, jitter: object, interval: object) -> None:
    if not _is_number(jitter) or not 0 <= jitter <= MOST_SECONDS:
        raise RegistrationError(f"task {name!r}: jitter is a number of seconds from 0, not {jitter!r}")
    if _is_number(interval) and jitter > interval:
        raise RegistrationError(
            f"task {name!r}: a jitter of {jitter!r} s is longer than the interval of {interval!r} s"
        )


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and value == value
