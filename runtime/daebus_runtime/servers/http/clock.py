"""Time limits of a connection: the table of seconds per phase, and the clock of each connection.

The server checks each clock once a second (server.py) and ends connections that are overdue.
"""

from __future__ import annotations

import math
import time

NEW, IDLE, HEADER, BODY, HANDLER, ANSWER, LINGER = "new", "idle", "header", "body", "handler", "answer", "linger"

SECONDS: dict[str, float] = {
    NEW: 10.0,  # accepted, nothing received yet
    IDLE: 75.0,  # between two requests
    HEADER: 10.0,  # from the first byte of a request to the end of its header; then 408
    BODY: 20.0,  # for a body; extended as long as RATE bytes a second arrive; then 408
    HANDLER: math.inf,  # the application decides, also for a WebSocket
    ANSWER: 20.0,  # for an answer that the client does not read at once; extended in the same way
    LINGER: 1.0,  # after the last answer: input of the client is read and discarded
}
RATE = 4096
"""Average bytes per second that a slow body or a slow reader needs, in each period of BODY or ANSWER."""
DRAIN_SECONDS = 0.5
"""How long a connection may still take for its next request, or for the rest of a header, once the service stops."""


class Clock:
    """The phase of a connection, and when that phase ends (`time.monotonic()`)."""

    __slots__ = ("deadline", "expired", "moved", "phase")

    def __init__(self) -> None:
        self.expired = False
        self.moved = 0
        """Bytes received or sent since the deadline was set; counted only in the phases that use RATE."""
        self.enter(NEW)

    def enter(self, phase: str) -> None:
        self.phase = phase
        self.moved = 0
        self.deadline = time.monotonic() + SECONDS[phase]

    def rest(self, phase: str) -> None:
        """Enter a phase without a limit."""
        self.phase, self.deadline = phase, math.inf

    def hurry(self, renew: bool = False) -> None:
        """The phase must end within DRAIN_SECONDS from now, or earlier if it would end earlier (unless `renew`)."""
        soon = time.monotonic() + DRAIN_SECONDS
        self.deadline = soon if renew else min(self.deadline, soon)

    def overdue(self, now: float) -> bool:
        """Whether the phase has taken too long."""
        if now <= self.deadline:
            return False
        if self.phase not in (BODY, ANSWER) or self.moved < RATE * SECONDS[self.phase]:
            return True
        self.enter(self.phase)
        return False
