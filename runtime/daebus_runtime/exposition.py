"""The counters of metrics.py as Prometheus text.

Imported at the first scrape: many services are never scraped, and prometheus_client also imports the standard library's
HTTP servers.
"""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import generate_latest
from prometheus_client.gc_collector import GCCollector
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

from .metrics import BUCKETS, Metrics


class Exposition:
    """The text of one service's counters, and of those of the process, of Python and of its garbage collector."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._registry = CollectorRegistry()
        self._registry.register(self)
        ProcessCollector(registry=self._registry)
        PlatformCollector(registry=self._registry)
        GCCollector(registry=self._registry)

    def text(self) -> bytes:
        return generate_latest(self._registry)

    def collect(self) -> Iterator[Metric]:
        """Called by prometheus_client for each scrape."""
        metrics = self._metrics
        yield from self._work_families()
        dropped = CounterMetricFamily(
            "daebus_messages_dropped", "Messages that were lost, whether received or to be sent.", labels=["reason"]
        )
        for reason, count in sorted(metrics.dropped.items()):
            dropped.add_metric([reason], count)
        yield dropped
        yield CounterMetricFamily("daebus_messages_sent", "Messages published on the bus.", value=metrics.sent)
        yield CounterMetricFamily(
            "daebus_messages_redelivered",
            "Messages received that had been delivered before.",
            value=metrics.redelivered,
        )
        yield CounterMetricFamily(
            "daebus_bus_reconnects", "Connections that had to be made again.", value=metrics.reconnects
        )
        yield CounterMetricFamily(
            "daebus_clock_steps",
            "Times that the wall clock was set by a second or more.",
            value=self._metrics.clock_steps,
        )
        # The maximum since the last scrape: a momentary value would miss every lag that is over by then.
        lag, metrics.loop_lag = metrics.loop_lag, 0.0
        yield GaugeMetricFamily("daebus_loop_lag_seconds", "How late the event loop was at worst.", value=lag)
        for name, (about, read) in sorted(metrics.gauges.items()):
            yield GaugeMetricFamily(name, about, value=read())

    def _work_families(self) -> Iterator[Metric]:
        labels = ["kind", "name"]
        requests = CounterMetricFamily("daebus_requests", "Handler runs.", labels=labels)
        errors = CounterMetricFamily("daebus_request_errors", "Handler runs that failed.", labels=labels)
        seconds = HistogramMetricFamily("daebus_request_seconds", "Time in handlers.", labels=labels)
        for work in list(self._metrics.work.values()):
            who = [work.kind, work.name]
            requests.add_metric(who, work.count)
            errors.add_metric(who, work.errors)
            total, cumulated = 0, []
            for bound, count in zip([*map(str, BUCKETS), "+Inf"], work.buckets, strict=True):
                total += count
                cumulated.append((bound, total))
            seconds.add_metric(who, buckets=cumulated, sum_value=work.seconds)
        yield requests
        yield errors
        yield seconds
