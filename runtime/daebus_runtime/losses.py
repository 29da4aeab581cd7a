"""Counts lost messages by reason, and logs one line when losses begin and one when they are over.

A line per lost message would flood the log exactly when somebody needs it; the counter alone would be noticed too late.
"""

from __future__ import annotations

import gevent

from .logs import runtime_logger
from .metrics import Metrics

QUIET_SECONDS = 5.0
"""The losses are over when there was none for this long."""


class Losses:
    """The messages that one part of a service loses, by reason. Used on a gevent loop."""

    def __init__(self, metrics: Metrics) -> None:
        self.metrics = metrics
        self._counts: dict[str, int] = {}

    def lost(self, reason: str, text: str, count: int = 1) -> None:
        """Count `count` lost messages. reason: one of a small fixed set of words, for the metric. text: what is lost
        and why, for the log."""
        self.metrics.drop(reason, count)
        before = self._counts.get(reason)
        self._counts[reason] = (before or 0) + count
        if before is None:
            runtime_logger.warning("%s; further ones are only counted (dropped, reason %s)", text, reason)
            gevent.get_hub().loop.run_callback(gevent.spawn_later, QUIET_SECONDS, self._look, reason, count)

    def _look(self, reason: str, seen: int) -> None:
        """Runs in a greenlet started by the hub, so that it does not keep the context of the lost message alive."""
        while (count := self._counts[reason]) != seen:
            seen = count
            gevent.sleep(QUIET_SECONDS)
        del self._counts[reason]
        runtime_logger.info("messages are no longer lost (reason %s); %d were lost", reason, count)
