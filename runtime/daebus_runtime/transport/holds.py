"""Commands that wait for a connection, each until its own deadline. They are sent in the order in which they came."""

from __future__ import annotations

import heapq
import itertools
import time
from collections.abc import Callable
from typing import Any

from .home import Home

Callback = Callable[[Any], None]


class Hold:
    """One waiting command. `cancel` removes it and frees its bytes, when nobody needs it any more."""

    __slots__ = ("_holds", "callback", "data", "deadline", "number")

    def __init__(self, holds: Holds, number: int, deadline: float, data: bytes, callback: Callback | None) -> None:
        self._holds, self.number, self.deadline = holds, number, deadline
        self.data, self.callback = data, callback

    def cancel(self) -> None:
        """Only on the home loop. Does nothing if it was sent or has expired."""
        self._holds.forget(self)


class Holds:
    """The waiting commands of one link. `on_expired(hold)` runs on the home loop once a deadline has passed."""

    def __init__(self, home: Home, on_expired: Callable[[Hold], None]) -> None:
        self.bytes = 0
        self._on_expired = on_expired
        self._waiting: dict[int, Hold] = {}
        self._by_deadline: list[tuple[float, int]] = []
        self._numbers = itertools.count()
        self._loop = home.hub.loop
        self._timer: Any = None

    def add(self, deadline: float, data: bytes, callback: Callback | None) -> Hold:
        """Keep a command until `deadline` (time.monotonic)."""
        hold = Hold(self, next(self._numbers), deadline, data, callback)
        self._waiting[hold.number] = hold
        self.bytes += len(data)
        heapq.heappush(self._by_deadline, (deadline, hold.number))
        if self._by_deadline[0][1] == hold.number:
            self._wait()
        return hold

    def forget(self, hold: Hold) -> bool:
        """Remove it; returns whether it was still waiting."""
        if self._waiting.pop(hold.number, None) is None:
            return False
        self.bytes -= len(hold.data)
        if not self._waiting:
            self._by_deadline.clear()
            self._stop()
        return True

    def take(self) -> list[Hold]:
        """Remove and return all that may still be sent, in order. Those past their deadline expire now instead."""
        self._expire()
        taken = list(self._waiting.values())
        self._waiting.clear()
        self._by_deadline.clear()
        self.bytes = 0
        self._stop()
        return taken

    def _wait(self) -> None:
        self._stop()
        self._timer = self._loop.timer(max(0.0, self._by_deadline[0][0] - time.monotonic()))
        self._timer.start(self._expire)

    def _stop(self) -> None:
        if self._timer is not None:
            self._timer.close()
            self._timer = None

    def _expire(self) -> None:
        now = time.monotonic()
        while self._by_deadline and self._by_deadline[0][0] <= now:
            hold = self._waiting.get(heapq.heappop(self._by_deadline)[1])
            if hold is not None and self.forget(hold):
                self._on_expired(hold)
        if self._by_deadline:
            self._wait()
