"""Counters of this process. Counting runs for every message, so it is a plain attribute increment.

Families (labels): daebus_requests_total, daebus_request_errors_total, daebus_request_seconds (kind, name);
daebus_queue_length, daebus_bus_up, daebus_bus_reconnects_total, daebus_messages_dropped_total (reason),
daebus_loop_lag_seconds, daebus_websocket_clients, daebus_messages_sent_total, daebus_messages_redelivered_total,
daebus_clock_steps_total; of what waits on the bus: daebus_lag, daebus_pending, daebus_oldest_unread_seconds,
daebus_oldest_unfinished_seconds.
"""

from __future__ import annotations

import bisect
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .exposition import Exposition

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class Work:
    """Statistics of one handler: number of runs, their seconds, number of failures."""

    __slots__ = ("buckets", "count", "errors", "kind", "name", "seconds")

    def __init__(self, kind: str, name: str) -> None:
        self.kind = kind
        self.name = name
        self.count = 0
        self.errors = 0
        self.seconds = 0.0
        self.buckets = [0] * (len(BUCKETS) + 1)

    def done(self, seconds: float, failed: bool) -> None:
        self.count += 1
        self.seconds += seconds
        self.buckets[bisect.bisect_left(BUCKETS, seconds)] += 1
        if failed:
            self.errors += 1


class Metrics:
    """All counters of one service. `gauges` are functions that are called at each scrape."""

    def __init__(self) -> None:
        self.work: dict[tuple[str, str], Work] = {}
        self.dropped: dict[str, int] = {}
        self.sent = 0
        self.redelivered = 0
        self.reconnects = 0
        self.loop_lag = 0.0
        self.clock_steps = 0
        self.gauges: dict[str, tuple[str, Callable[[], float]]] = {}
        self._exposition: Exposition | None = None

    def handler(self, kind: str, name: str) -> Work:
        """The counter of one handler; the same object each time. `kind` is action, listener, http, websocket or
        task."""
        work = self.work.get((kind, name))
        if work is None:
            work = self.work[kind, name] = Work(kind, name)
        return work

    def drop(self, reason: str, count: int = 1) -> None:
        """Count messages that will not be handled. `reason` is one of a small fixed set of words."""
        self.dropped[reason] = self.dropped.get(reason, 0) + count

    def gauge(self, name: str, about: str, read: Callable[[], float]) -> None:
        self.gauges[name] = (about, read)

    def text(self) -> bytes:
        """All metrics in Prometheus' text format, as CONTENT_TYPE says. It takes 0.2 ms for each handler."""
        if self._exposition is None:
            from .exposition import Exposition  # imports prometheus_client, which only scraped services need

            self._exposition = Exposition(self)
        return self._exposition.text()
