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

    def __init__(self, metrics: Metrics) -> None:
        self._latest: tuple[Look | None, float] = None, -math.inf
        metrics.gauge("daebus_lag", "Messages for the service that no replica has read.", self._lag)
        metrics.gauge("daebus_pending", "Messages that a replica has read and not ended.", self._pending)
        metrics.gauge("daebus_oldest_unread_seconds", "Age of the oldest message that is not read.", self._unread)
        metrics.gauge(
            "daebus_oldest_unfinished_seconds", "Age of the oldest that is read, not ended.", self._unfinished
        )

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
