"""The two times of a process, and the one place where they are compared.

Monotonic time measures: how long, until when, how often. Wall time only says when something was, and which minute a
cron task is planned for: NTP, an operator or a board without a battery may set it forward or back by any amount.
"""

from __future__ import annotations

import random
import time

STEP_SECONDS = 1.0
"""From here on a change of the wall clock is a step, worth a line; below, a correction."""
LEAST_SECONDS = 0.001
"""Less than this is how exactly two clocks can be compared."""


class Clock:
    """`offset` is wall minus monotonic time, as of the last `look`. A test passes in one of its own."""

    def __init__(self) -> None:
        self.offset = self.wall() - self.monotonic()

    def wall(self) -> float:
        """Unix seconds."""
        return time.time()

    def monotonic(self) -> float:
        """Seconds since some moment; nobody sets it. The time in which a machine sleeps is not counted."""
        return time.monotonic()

    def jitter(self, most: float) -> float:
        """A random delay, 0 to `most` seconds. A test's clock gives 0."""
        return random.uniform(0, most)

    def look(self) -> float:
        """By how many seconds the wall clock was set since the last look: above 0 for forward, 0.0 for not at all."""
        before, wall, after = self.monotonic(), self.wall(), self.monotonic()
        # A process that is stopped between the readings knows its offset less well, and must not take that for a step.
        least, most = wall - after, wall - before
        if least - LEAST_SECONDS <= self.offset <= most + LEAST_SECONDS:
            return 0.0
        moved, self.offset = least - self.offset, least
        return moved
