"""A handler that blocks the event loop is logged by name, once, while it still blocks; the loop's lag is a metric."""

from __future__ import annotations

import re
import time
from collections.abc import Callable

import pytest
from daebus_runtime import Daebus
from daebus_runtime.testing import TestApp

from tests.support.waiting import wait_until

pytestmark = pytest.mark.alone

HELD = "event loop has been held"


def hold(seconds: float) -> None:
    """Compute without a switch to the event loop."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        sum(range(1000))


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Callable[[], Daebus]:
    monkeypatch.setenv("DAEBUS_BLOCK_SECONDS", "0.2")

    def make() -> Daebus:
        app = Daebus("slow")

        @app.action("compute")
        def compute() -> str:
            hold(1.0)
            return "done"

        @app.action("quick")
        def quick() -> str:
            time.sleep(0.6)
            return "done"

        return app

    return make


def test_a_handler_that_blocks_the_loop_is_named_once(
    service: Callable[[], Daebus], caplog: pytest.LogCaptureFixture
) -> None:
    app = service()
    with TestApp(app) as running:
        assert running.call("compute") == "done"
    (line,) = [record.getMessage() for record in caplog.records if HELD in record.getMessage()]
    assert re.search(r"held for \d\.\d s by action 'compute', at .*test_watchdog\.py:\d+", line)
    assert "blocking=True" in line


def test_a_handler_that_waits_is_not_named(service: Callable[[], Daebus], caplog: pytest.LogCaptureFixture) -> None:
    with TestApp(service()) as running:
        assert running.call("quick") == "done"
    assert HELD not in caplog.text


def test_the_worst_lag_of_the_loop_is_a_metric(service: Callable[[], Daebus]) -> None:
    app = service()
    with TestApp(app) as running:
        running.call("compute")
        wait_until(lambda: app.metrics.loop_lag > 0.5, 5, lambda: f"the lag is {app.metrics.loop_lag}")
        assert lag_in(app.metrics.text()) > 0.5
        assert lag_in(app.metrics.text()) < 0.5, "each scrape tells of the time since the one before"


def lag_in(text: bytes) -> float:
    return float(next(line.split()[1] for line in text.splitlines() if line.startswith(b"daebus_loop_lag_seconds ")))
