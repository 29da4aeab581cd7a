"""Monotonic time and wall time, and the only place where the two are compared.

Monotonic time is for durations, deadlines and intervals. Wall time is only for time stamps and for the minute of a cron
task: NTP, an operator or a board without a battery may set it forward or back by any amount.
"""

from __future__ import annotations

import random
import time

STEP_SECONDS = 1.0
"""A change of the wall clock by this much or more is a step and is logged; a smaller one is a correction."""
LEAST_SECONDS = 0.001
"""Differences below this are measurement error."""


class Clock:
    """`offset` is wall time minus monotonic time at the last `look`. Tests pass in a clock of their own."""

    def __init__(self) -> None:
        self.offset = self.wall() - self.monotonic()

    def wall(self) -> float:
        """Unix seconds."""
        return time.time()

    def monotonic(self) -> float:
        """Seconds since an arbitrary moment; cannot be set. Does not count the time while the machine is suspended."""
        return time.monotonic()

    def jitter(self, most: float) -> float:
        """A random delay, 0 to `most` seconds. A test's clock gives 0."""
        return random.uniform(0, most)

    def look(self) -> float:
        """By how many seconds the wall clock was set since the last call: positive for forward, 0.0 if it was not."""
        before, wall, after = self.monotonic(), self.wall(), self.monotonic()
        # If the process was paused between the readings, the offset is only known to lie in a range. It is a step only
        # if the old offset lies outside that range.
        least, most = wall - after, wall - before
        if least - LEAST_SECONDS <= self.offset <= most + LEAST_SECONDS:
            return 0.0
        moved, self.offset = least - self.offset, least
        return moved
