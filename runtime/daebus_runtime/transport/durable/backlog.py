"""The gauges of what waits for a service on the bus. They show the latest sample; a scrape never waits for the bus."""

from __future__ import annotations

import math
import time

from ...metrics import Metrics
from .look import Look

STALE_SECONDS = 12.0
"""How long a sample counts. After that the values are NaN: nobody knows."""


class Backlog:
    """The latest sample. `seen` is called in the thread of the signs of life, the gauges in that of a scrape."""

    def __init__(self, metrics: Metrics, events: bool = False) -> None:
        self._latest: tuple[Look | None, float] = None, -math.inf
        name, what = ("daebus_events_", "Events") if events else ("daebus_", "Messages")
        metrics.gauge(name + "lag", f"{what} for the service that no replica has read.", self._lag)
        metrics.gauge(name + "pending", f"{what} that a replica has read and not ended.", self._pending)
        metrics.gauge(name + "oldest_unread_seconds", f"{what}: age of the oldest that is not read.", self._unread)
        about = f"{what}: age of the oldest that is read, not ended."
        metrics.gauge(name + "oldest_unfinished_seconds", about, self._unfinished)

    def seen(self, look: Look | None) -> None:
        self._latest = look, time.monotonic()

    def _fresh(self) -> Look | None:
        look, when = self._latest
        return look if time.monotonic() - when < STALE_SECONDS else None

    def _lag(self) -> float:
        look = self._fresh()
        return math.nan if look is None or look.lag is None else look.lag

    def _pending(self) -> float:
        look = self._fresh()
        return math.nan if look is None or look.pending is None else look.pending

    def _unread(self) -> float:
        look = self._fresh()
        return math.nan if look is None else _age(look, look.unread, look.lag)

    def _unfinished(self) -> float:
        look = self._fresh()
        return math.nan if look is None else _age(look, look.unfinished, look.pending)


def _age(look: Look, sent: int | None, count: int | None) -> float:
    if count == 0:
        return 0.0
    age = look.age(sent)
    return math.nan if age is None else age
