"""When a task runs: from what an author writes to an APScheduler trigger. Runs nothing."""

from __future__ import annotations

import datetime
import re
from typing import Any

from apscheduler.triggers.cron import CronTrigger
from apscheduler.triggers.interval import IntervalTrigger

from .errors import RegistrationError

WEEKDAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat", "sun")  # as cron counts them: Sunday is 0, and 7 too
NUMBERS = re.compile(r"(?:\*|(?P<first>[0-7])(?:-(?P<last>[0-7]))?)(?:/(?P<step>[1-7]))?")


def make_trigger(
    name: str,
    interval: float | None,
    cron: str | None,
    timezone: str | None = None,
    jitter: float | None = None,
    start: datetime.datetime | None = None,
) -> Any:
    """The trigger of task `name`. An interval (seconds) counts from `start` (now), the first run one interval later.

    RegistrationError for an interval that is no positive number, a cron expression, a time zone or a jitter that
    cannot be used.
    """
    if (interval is None) == (cron is None):
        raise RegistrationError(f"task {name!r} needs either an interval in seconds or cron=, and not both")
    if jitter is not None and (isinstance(jitter, bool) or not isinstance(jitter, (int, float)) or jitter < 0):
        raise RegistrationError(f"task {name!r}: jitter is a number of seconds from 0, not {jitter!r}")
    if interval is not None:
        if isinstance(interval, bool) or not isinstance(interval, (int, float)) or not 0 < interval < 1e9:
            raise RegistrationError(f"task {name!r}: an interval is a number of seconds above 0, not {interval!r}")
        begun = start or datetime.datetime.now(datetime.UTC)
        # To the microsecond: IntervalTrigger takes fractions of seconds through timedelta.
        return IntervalTrigger(
            seconds=interval,
            start_date=begun + datetime.timedelta(seconds=interval),
            timezone=datetime.UTC,
            jitter=jitter,
        )
    try:
        trigger = CronTrigger.from_crontab(_named_weekdays(cron), timezone=timezone)
    except Exception as error:
        raise RegistrationError(
            f"task {name!r}: cron={cron!r}, timezone={timezone!r} cannot be used ({error}); "
            "five fields are expected, as in '*/5 * * * *'"
        ) from None
    trigger.jitter = jitter
    return trigger


def _named_weekdays(cron: Any) -> str:
    """The expression with names instead of numbers in its last field: APScheduler counts weekdays from Monday."""
    *fields, weekdays = str(cron).split() or [""]
    return " ".join([*fields, ",".join(map(_names, weekdays.split(",")))])


def _names(part: str) -> str:
    numbers = NUMBERS.fullmatch(part)
    if numbers is None or part == "*":
        return part
    first, last, step = numbers.group("first", "last", "step")
    begin = int(first or 0)
    end = int(last) if last else begin if first and not step else 6
    names = WEEKDAYS[begin : end + 1 : int(step or 1)]
    if not names:
        raise ValueError(f"the weekdays {part} end before they begin")
    return ",".join(dict.fromkeys(names))
