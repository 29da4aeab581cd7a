"""`cron=` counts weekdays as cron does, Sunday first, and not as APScheduler does."""

from __future__ import annotations

import datetime

import pytest
from daebus_runtime.errors import RegistrationError
from daebus_runtime.schedule import make_times

SUNDAY = datetime.datetime(2026, 11, 22, 0, 0, 30, tzinfo=datetime.UTC)
WEEK_LONG = datetime.timedelta(days=7)
WEEK = ("Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat")


def days(field: str) -> list[str]:
    """The weekdays of one week, beginning on Sunday, on which a noon task with this field runs."""
    times = make_times("x", None, f"0 12 * * {field}", "UTC")
    found, when, end = [], SUNDAY.timestamp(), (SUNDAY + WEEK_LONG).timestamp()
    while (when := times.next_after(when)) < end:
        found.append(datetime.datetime.fromtimestamp(when, datetime.UTC).strftime("%a"))
    return found


@pytest.mark.parametrize(
    ("field", "expected"),
    [
        ("*", list(WEEK)),
        ("0", ["Sun"]),
        ("7", ["Sun"]),
        ("1", ["Mon"]),
        ("1-5", list(WEEK[1:6])),
        ("0-6", list(WEEK)),
        ("5-7", ["Sun", "Fri", "Sat"]),
        ("*/2", ["Sun", "Tue", "Thu", "Sat"]),
        ("1/2", ["Mon", "Wed", "Fri"]),
        ("1,3", ["Mon", "Wed"]),
        ("mon-fri", list(WEEK[1:6])),
        ("sat", ["Sat"]),
        ("sun-tue", ["Sun", "Mon", "Tue"]),
        ("fri-sun", ["Sun", "Fri", "Sat"]),
        ("5-0", ["Sun", "Fri", "Sat"]),
        ("sun-sat", list(WEEK)),
        ("0-7", list(WEEK)),
        ("mon-fri/2", ["Mon", "Wed", "Fri"]),
        ("1-5/2", ["Mon", "Wed", "Fri"]),
        ("mon/2", ["Mon", "Wed", "Fri"]),
        ("sun/3", ["Sun", "Wed", "Sat"]),
        ("*/7", ["Sun"]),
        ("MON,wed,5-Sat", ["Mon", "Wed", "Fri", "Sat"]),
    ],
)
def test_a_weekday_field_has_the_meaning_of_cron(field: str, expected: list[str]) -> None:
    assert days(field) == expected


@pytest.mark.parametrize(
    "field", ["8", "5-1", "fri-mon", "funday", "mondays", "", "1-", "mon-fri/0", "mon-fri/8", "mon/", "tue-/2"]
)
def test_a_weekday_field_that_means_nothing_is_refused(field: str) -> None:
    with pytest.raises(RegistrationError, match="five fields are expected"):
        make_times("x", None, f"0 12 * * {field}")


def test_no_expression_at_all_is_refused() -> None:
    with pytest.raises(RegistrationError, match="five fields are expected"):
        make_times("x", None, "")
