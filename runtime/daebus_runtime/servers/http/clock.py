"""How long a connection may stay in each phase: the one table of seconds, and the clock that every connection carries.

The server asks each clock once a second (server.py), and ends what is overdue.
"""

from __future__ import annotations

import math
import time

NEW, IDLE, HEADER, BODY, HANDLER, ANSWER, LINGER = "new", "idle", "header", "body", "handler", "answer", "linger"

SECONDS: dict[str, float] = {
    NEW: 10.0,  # accepted, and nothing sent yet
    IDLE: 75.0,  # between two requests
    HEADER: 10.0,  # from the first byte of a request to the end of its header; then 408
    BODY: 20.0,  # for a body, and again for as long as RATE bytes a second came meanwhile; then 408
    HANDLER: math.inf,  # the application has the say, also over a WebSocket
    ANSWER: 20.0,  # for an answer that the client does not read at once, and again likewise
    LINGER: 1.0,  # after the last answer of a connection: what the client still sends is read and dropped
}
RATE = 4096
"""Bytes a second that a slow body or a slow reader must keep up with, over each such time."""
DRAIN_SECONDS = 0.5
"""What an unfinished header may still take once the service is stopping."""


class Clock:
    """The phase of a connection, and when that phase ends (`time.monotonic()`)."""

    __slots__ = ("deadline", "expired", "moved", "phase")

    def __init__(self) -> None:
        self.expired = False
        self.moved = 0
        """Bytes that came or went since the deadline was set; counted where it matters."""
        self.enter(NEW)

    def enter(self, phase: str) -> None:
        self.phase = phase
        self.moved = 0
        self.deadline = time.monotonic() + SECONDS[phase]

    def hurry(self) -> None:
        """The service stops: a header that has begun must end soon."""
        self.deadline = min(self.deadline, time.monotonic() + DRAIN_SECONDS)

    def overdue(self, now: float) -> bool:
        """Whether the phase has taken too long."""
        if now <= self.deadline:
            return False
        if self.phase not in (BODY, ANSWER) or self.moved < RATE * SECONDS[self.phase]:
            return True
        self.enter(self.phase)
        return False
