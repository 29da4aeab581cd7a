"""W3C Trace Context: what of a `tracestate` is passed on."""

from __future__ import annotations

import pytest
from daebus_runtime.context import trace

PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


@pytest.mark.parametrize(
    ("sent", "passed_on"),
    [
        ("a=1", "a=1"),
        (" a=1 ,\tb=2 ", "a=1,b=2"),
        ("a=1,,b=2,", "a=1,b=2"),
        ("0tenant@vendor=x y", "0tenant@vendor=x y"),
        (f"{'k' * 256}={'v' * 255}", f"{'k' * 256}={'v' * 255}"),
        ("a=" + "v" * 200 + ",b=" + "w" * 200 + ",c=" + "x" * 100 + ",d=" + "y" * 100, f"c={'x' * 100},d={'y' * 100}"),
        (",".join(f"k{n}={'v' * 30}" for n in range(32)), ",".join(f"k{n}={'v' * 30}" for n in range(14))),
    ],
)
def test_a_valid_state_is_passed_on_up_to_its_limit(sent: str, passed_on: str) -> None:
    assert trace.state(sent) == passed_on
    assert len(passed_on) <= trace.MOST_STATE


@pytest.mark.parametrize(
    "sent",
    [
        *("", ",", "a", "=1", "a=", "A=1", "a=1=2", "a=1,a=2", "a b=1", "a=\x7f", "ä=1", "a=1\x00", "@v=1", "a@=1"),
        *(
            ",".join(f"k{n}=1" for n in range(33)),
            f"{'k' * 257}=1",
            f"a={'v' * 257}",
            "a=1," * 10_000,
            None,
            5,
            ["a=1"],
        ),
    ],
)
def test_a_malformed_state_is_dropped(sent: object) -> None:
    assert trace.state(sent) is None


@pytest.mark.parametrize("sent", [None, 5, b"x", PARENT + "\n", " " + PARENT, PARENT.replace("0", "\u0660")])
def test_what_is_no_traceparent_goes_nowhere(sent: object) -> None:
    assert trace.parse(sent) is None
    assert trace.onward(sent) is None
