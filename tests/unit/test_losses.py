"""Lost messages: each one is counted, the first is logged, and the end of the losses is logged once more."""

from __future__ import annotations

import logging

import pytest
from daebus_runtime import losses
from daebus_runtime.losses import Losses
from daebus_runtime.metrics import Metrics

from tests.support.waiting import wait_until


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "daebus.runtime"]


def test_a_thousand_losses_are_two_log_lines_one_for_the_first_and_one_for_the_end(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(losses, "QUIET_SECONDS", 0.05)
    caplog.set_level(logging.INFO)
    metrics = Metrics()
    loss = Losses(metrics)
    for _ in range(1000):
        loss.lost("overloaded", "a broadcast was dropped: the queue is full")
    loss.lost("expired", "two replies were not sent", count=2)
    assert metrics.dropped == {"overloaded": 1000, "expired": 2}
    ends = {f"messages are no longer lost (reason {text} were lost" for text in ("overloaded); 1000", "expired); 2")}
    wait_until(lambda: ends <= set(lines(caplog)))  # earlier tests of this process may still log the end of theirs
    begun = [line for line in lines(caplog) if "further ones are only counted" in line]
    assert [line.partition(";")[0] for line in begun] == [
        "a broadcast was dropped: the queue is full",
        "two replies were not sent",
    ]
    loss.lost("overloaded", "a broadcast was dropped again")
    assert lines(caplog)[-1].startswith("a broadcast was dropped again")
    wait_until(lambda: "messages are no longer lost (reason overloaded); 1 were lost" in lines(caplog))
