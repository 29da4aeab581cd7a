"""The five fields of `cron=`: what they mean, in which time zone, and what happens when the clocks change."""

from __future__ import annotations

import datetime
import os
import time
from collections.abc import Iterator
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from apscheduler.triggers.cron import CronTrigger
from daebus_runtime import Daebus
from daebus_runtime.errors import RegistrationError
from daebus_runtime.schedule import make_times
from daebus_runtime.testing import TestApp
from hypothesis import given, settings
from hypothesis import strategies as st

UTC = datetime.UTC
SPRING = datetime.datetime(2026, 3, 28, 22, tzinfo=UTC)  # two hours before the day on which the clocks go forward
AUTUMN = datetime.datetime(2026, 10, 24, 21, tzinfo=UTC)  # one hour before the day on which they go back
BERLIN = "Europe/Berlin"
POSIX = "CET-1CEST,M3.5.0,M10.5.0/3"


def planned(
    cron: str, start: datetime.datetime, count: int, zone: str | None = BERLIN, show: str = BERLIN
) -> list[str]:
    """The next planned times in local time; +1 or +2 is the zone's offset from UTC in hours."""
    times, when, found = make_times("x", None, cron, zone), start.timestamp(), []
    for _ in range(count):
        when = times.next_after(when)
        local = datetime.datetime.fromtimestamp(when, ZoneInfo(show))
        ahead = local.utcoffset()
        assert ahead is not None
        found.append(f"{local:%d %H:%M}{ahead.total_seconds() / 3600:+g}")
    return found


# --- when the clocks change


@pytest.mark.parametrize("zone", [BERLIN, None])
def test_a_fixed_time_that_is_repeated_runs_once(zone: str | None, machine: Machine) -> None:
    machine.zone(POSIX)
    assert planned("30 2 * * *", AUTUMN, 2, zone) == ["25 02:30+2", "26 02:30+1"]
    assert planned("15,45 2 * * *", AUTUMN, 3, zone) == ["25 02:15+2", "25 02:45+2", "26 02:15+1"]
    assert planned("0 */2 * * *", AUTUMN, 3, zone) == ["25 00:00+2", "25 02:00+2", "25 04:00+1"]
    assert planned("*/30 1-3 * * *", AUTUMN, 7, zone)[2:6] == ["25 02:00+2", "25 02:30+2", "25 03:00+1", "25 03:30+1"]


@pytest.mark.parametrize("zone", [BERLIN, None])
def test_a_fixed_time_that_is_skipped_runs_at_the_change(zone: str | None, machine: Machine) -> None:
    machine.zone(POSIX)
    assert planned("30 2 * * *", SPRING, 2, zone) == ["29 03:00+2", "30 02:30+2"]
    assert planned("*/5 2 * * *", SPRING, 2, zone) == ["29 03:00+2", "30 02:00+2"]
    assert planned("0 2,3 * * *", SPRING, 3, zone) == ["29 03:00+2", "30 02:00+2", "30 03:00+2"]
    assert planned("30 2 29 3 *", SPRING - datetime.timedelta(days=300), 1, zone) == ["29 03:00+2"]
    assert planned("30 2 * * *", datetime.datetime(2026, 3, 29, 0, 59, 59, tzinfo=UTC), 1, zone) == ["29 03:00+2"]


@pytest.mark.parametrize("zone", [BERLIN, None])
@pytest.mark.parametrize("hours", ["*", "0-23", "*/1"])
def test_an_hourly_task_runs_once_per_elapsed_hour(zone: str | None, hours: str, machine: Machine) -> None:
    machine.zone(POSIX)
    assert planned(f"30 {hours} * * *", AUTUMN, 5, zone)[1:] == ["25 00:30+2", "25 01:30+2", "25 02:30+2", "25 02:30+1"]
    assert planned(f"30 {hours} * * *", SPRING, 5, zone)[1:] == ["29 00:30+1", "29 01:30+1", "29 03:30+2", "29 04:30+2"]


def test_a_clock_change_of_half_an_hour_and_one_of_a_day() -> None:
    howe, apia = "Australia/Lord_Howe", "Pacific/Apia"
    start = datetime.datetime(2026, 4, 4, 13, 30, tzinfo=UTC)
    assert planned("*/30 * * * *", start, 4, howe, howe) == [
        "05 01:00+11",
        "05 01:30+11",
        "05 01:30+10.5",
        "05 02:00+10.5",
    ]
    assert planned("45 1 * * *", start, 2, howe, howe) == ["05 01:45+11", "06 01:45+10.5"]
    start = datetime.datetime(2011, 12, 30, tzinfo=UTC)  # Samoa skipped 30 December 2011
    assert planned("0 12 * * *", start, 3, apia, apia) == ["31 00:00+14", "31 12:00+14", "01 12:00+14"]


def test_under_testapp_the_repeated_hour_counts_once() -> None:
    app, runs = Daebus("night"), []
    app.background("fixed", cron="30 2 * * *", timezone=BERLIN)(lambda: runs.append("fixed"))
    app.background("hourly", cron="30 * * * *", timezone=BERLIN)(lambda: runs.append("hourly"))
    with TestApp(app) as service:
        service.clock.now = AUTUMN
        service.clock.advance(0)
        runs.clear()
        service.clock.advance(25 * 3600)
    assert (runs.count("fixed"), runs.count("hourly")) == (1, 25)


# --- the fields


@pytest.mark.parametrize(
    ("cron", "reason"),
    [
        ("61 * * * *", "the minute is 0 to 59, in lists, ranges and steps, not '61'"),
        ("1,,2 * * * *", "the minute is 0 to 59"),
        ("mon * * * *", "the minute is 0 to 59"),
        ("-1 * * * *", "the minute is 0 to 59"),
        ("٣ * * * *", "the minute is 0 to 59"),
        ("*/90 * * * *", "the minute: the step in '*/90' is not within 1 to 59"),
        ("*/0 * * * *", "the minute: the step in '*/0' is not within 1 to 59"),
        ("0 24 * * *", "the hour is 0 to 23"),
        ("0 22-2 * * *", "the hour: '22-2' ends before it begins"),
        ("0 0 0 * *", "the day of the month is 1 to 31"),
        ("0 0 lastx * *", "the day of the month is 1 to 31"),
        ("0 0 30 2 *", "the day of the month: none of the months has a day 30"),
        ("0 0 31 feb,apr *", "the day of the month: none of the months has a day 31"),
        ("0 0 1 13 *", "the month is 1 to 12 or jan to dec"),
        ("0 0 1 mon *", "the month is 1 to 12 or jan to dec"),
        ("0 0 * * 8", "the weekday is 0 to 7 or sun to sat"),
        ("0 0 * * jan", "the weekday is 0 to 7 or sun to sat"),
        ("0 0 * * mon-", "the weekday is 0 to 7 or sun to sat"),
        ("@daily", "it has 1 field;"),
        ("0 0 * * * *", "it has 6 fields;"),
    ],
)
def test_a_wrong_field_is_named(cron: str, reason: str) -> None:
    with pytest.raises(RegistrationError) as error:
        Daebus("clock").background("tick", cron=cron)
    assert f"task 'tick': cron={cron!r} cannot be used: {reason}" in str(error.value)


def test_names_of_months_mean_the_same_as_their_numbers() -> None:
    start = datetime.datetime(2026, 1, 15, tzinfo=UTC)
    for names, numbers in (("jan-jun/2", "1-6/2"), ("FEB,Nov", "2,11"), ("mar/4", "3/4"), ("oct-dec", "10-12")):
        assert planned(f"0 0 1 {names} *", start, 8) == planned(f"0 0 1 {numbers} *", start, 8)


def field(least: int, most: int) -> st.SearchStrategy[str]:
    number = st.integers(least, most)
    pair = st.tuples(number, number).map(sorted)
    return st.one_of(
        st.just("*"),
        st.integers(1, most - least).map(lambda step: f"*/{step}"),
        st.lists(number, min_size=1, max_size=4).map(lambda many: ",".join(map(str, many))),
        pair.map(lambda ends: f"{ends[0]}-{ends[1]}"),
        pair.filter(lambda ends: ends[1] - ends[0] > 2).map(lambda ends: f"{ends[0]}-{ends[1]}/2"),
    )


@settings(max_examples=100, deadline=None)
@given(st.tuples(field(0, 59), field(0, 23), field(1, 28), field(1, 12)), st.integers(0, 4_000_000_000))
def test_the_other_fields_have_apschedulers_meaning(fields: tuple[str, ...], when: int) -> None:
    cron = " ".join([*fields, "*"])
    times, trigger = make_times("x", None, cron, "UTC"), CronTrigger.from_crontab(cron, timezone=UTC)
    for _ in range(4):
        following = trigger.get_next_fire_time(None, datetime.datetime.fromtimestamp(when + 1, UTC))
        assert times.next_after(when) == following.timestamp()
        when = int(following.timestamp())


@settings(max_examples=60, deadline=None)
@given(
    st.tuples(field(0, 59), field(0, 23), field(1, 28), field(1, 12)),
    st.floats(60, 1e9),
    st.sampled_from(["UTC", BERLIN]),
)
def test_the_latest_planned_time_is_the_last_one(fields: tuple[str, ...], span: float, zone: str) -> None:
    times = make_times("x", None, " ".join([*fields, "*"]), zone)
    first = times.next_after(1_700_000_000.5)
    latest = times.latest(first, first + span)
    assert first <= latest <= first + span < times.next_after(latest)


# --- the machine's time zone


class Machine:
    """The machine's time zone, as `TZ` sets it."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self._patch = patch

    def zone(self, value: str | None) -> None:
        if value is None:
            self._patch.delenv("TZ", raising=False)
        else:
            self._patch.setenv("TZ", value)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    yield Machine(monkeypatch)
    monkeypatch.undo()
    time.tzset()


DATABASE = Path("/usr/share/zoneinfo")
SUMMER = datetime.datetime(2026, 7, 14, tzinfo=UTC)


@pytest.mark.parametrize(
    ("value", "hour"),
    [
        (POSIX, "02"),
        ("<+02>-2", "02"),
        ("EST5EDT,M3.2.0,M11.1.0", "20"),
        ("UTC0", "00"),
        ("UTC", "00"),
        ("", "00"),
        (":", "00"),
        ("Europe/Berlin", "02"),
        (":Europe/Berlin", "02"),
    ],
)
def test_a_machines_zone_is_used_in_every_form(machine: Machine, value: str, hour: str) -> None:
    machine.zone(value)
    assert planned(f"0 {int(hour)} * * *", SUMMER - datetime.timedelta(minutes=1), 1, None, "UTC") == ["14 00:00+0"]


@pytest.mark.skipif(not (DATABASE / "Europe" / "Berlin").exists(), reason=f"no time zones in {DATABASE}")
@pytest.mark.parametrize("prefix", ["", ":"])
def test_a_machines_zone_may_be_a_file(machine: Machine, prefix: str) -> None:
    machine.zone(f"{prefix}{DATABASE}/Europe/Berlin")
    assert planned("0 2 * * *", SUMMER - datetime.timedelta(minutes=1), 1, None, "UTC") == ["14 00:00+0"]


@pytest.mark.parametrize(
    "value",
    ["Mars/Base", "CET-1CEST,M13.5.0,M10.5.0", "CET-25", os.devnull, "/no/such/file", "Europe", " ", "Europe/Berlin "],
)
def test_an_unknown_machine_zone_is_named(machine: Machine, value: str) -> None:
    machine.zone(value)
    with pytest.raises(RegistrationError) as error:
        Daebus("clock").background("tick", cron="0 6 * * *")
    assert f"task 'tick': the environment's TZ={value!r} is no time zone" in str(error.value)
    assert "fields" not in str(error.value)
    Daebus("clock").background("tick", cron="0 6 * * *", timezone=BERLIN)(lambda: None)
    Daebus("clock").background("tick", 5)(lambda: None)
