"""The Prometheus text: names, labels, buckets, and that each count appears in it."""

from __future__ import annotations

import pytest
from daebus_runtime.metrics import BUCKETS, CONTENT_TYPE, Metrics
from prometheus_client.parser import text_string_to_metric_families


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


def sample(metrics: Metrics, sample_name: str, /, **labels: str) -> float:
    """The value of the only sample with that name and those labels."""
    found = [
        s.value
        for family in text_string_to_metric_families(metrics.text().decode())
        for s in family.samples
        if s.name == sample_name and labels.items() <= s.labels.items()
    ]
    assert len(found) == 1, (sample_name, labels, found)
    return float(found[0])


def test_the_text_is_prometheus_exposition(metrics: Metrics) -> None:
    assert CONTENT_TYPE.startswith("text/plain; version=0.0.4")
    assert list(text_string_to_metric_families(metrics.text().decode()))


def test_a_handlers_runs_errors_and_time(metrics: Metrics) -> None:
    work = metrics.handler("action", "water")
    work.done(0.002, failed=False)
    work.done(0.2, failed=True)
    labels = {"kind": "action", "name": "water"}
    assert sample(metrics, "daebus_requests_total", **labels) == 2
    assert sample(metrics, "daebus_request_errors_total", **labels) == 1
    assert sample(metrics, "daebus_request_seconds_sum", **labels) == pytest.approx(0.202)
    assert sample(metrics, "daebus_request_seconds_count", **labels) == 2


def test_a_handler_is_counted_in_one_place(metrics: Metrics) -> None:
    assert metrics.handler("action", "water") is metrics.handler("action", "water")
    assert metrics.handler("action", "water") is not metrics.handler("http", "water")


def test_buckets_are_cumulative_and_a_bound_belongs_to_its_bucket(metrics: Metrics) -> None:
    work = metrics.handler("action", "water")
    for seconds in (0.0005, BUCKETS[0], 0.0011, 1000.0):
        work.done(seconds, failed=False)
    labels = {"kind": "action", "name": "water"}
    assert sample(metrics, "daebus_request_seconds_bucket", le="0.001", **labels) == 2
    assert sample(metrics, "daebus_request_seconds_bucket", le="0.0025", **labels) == 3
    assert sample(metrics, "daebus_request_seconds_bucket", le="30.0", **labels) == 3
    assert sample(metrics, "daebus_request_seconds_bucket", le="+Inf", **labels) == 4


def test_dropped_messages_are_counted_by_reason(metrics: Metrics) -> None:
    metrics.drop("malformed_message")
    metrics.drop("overloaded", 3)
    assert sample(metrics, "daebus_messages_dropped_total", reason="malformed_message") == 1
    assert sample(metrics, "daebus_messages_dropped_total", reason="overloaded") == 3


def test_sent_reconnects_and_lag(metrics: Metrics) -> None:
    metrics.sent, metrics.reconnects, metrics.loop_lag = 5, 2, 0.25
    assert sample(metrics, "daebus_loop_lag_seconds") == 0.25
    assert sample(metrics, "daebus_messages_sent_total") == 5
    assert sample(metrics, "daebus_bus_reconnects_total") == 2


def test_a_gauge_is_read_when_the_page_is_requested(metrics: Metrics) -> None:
    queue: list[int] = []
    metrics.gauge("daebus_queue_length", "Messages that wait.", lambda: len(queue))
    assert sample(metrics, "daebus_queue_length") == 0
    queue.append(1)
    assert sample(metrics, "daebus_queue_length") == 1


def test_names_with_quotes_and_newlines_stay_valid(metrics: Metrics) -> None:
    name = 'say "hi"\n\\'
    metrics.handler("action", name).done(0.1, failed=False)
    assert sample(metrics, "daebus_requests_total", name=name) == 1


def test_the_resources_of_the_process_are_there(metrics: Metrics) -> None:
    assert sample(metrics, "python_info") == 1
    assert b"python_gc_objects_collected_total" in metrics.text()


def test_services_in_one_process_do_not_share_counters() -> None:
    first, second = Metrics(), Metrics()
    first.sent = 1
    assert sample(second, "daebus_messages_sent_total") == 0
