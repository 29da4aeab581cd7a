"""Cron expressions: parses the five fields and computes the planned times. Runs nothing.

APScheduler's CronTrigger finds the next matching date. The fields are parsed here, because CronTrigger counts weekdays
from Monday, ignores text after a name and does not say which field is wrong. Local time is also computed here, because
CronTrigger has no rule for hours that a clock change skips or repeats.
"""

from __future__ import annotations

import dataclasses
import datetime
import math
import re
from typing import Any

from apscheduler.triggers.cron import CronTrigger

from .zones import Zone

DAY_SECONDS = 86_400
LAST = "last"
LONGEST_MONTHS = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
WEEKDAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
ITEM = re.compile(r"(?:\*|(?P<first>[0-9]+|[a-z]+)(?:-(?P<last>[0-9]+|[a-z]+))?)(?:/(?P<step>[0-9]+))?")


@dataclasses.dataclass(frozen=True)
class Field:
    """One of the five fields: its title, its least and greatest number, and names for the numbers from the least on."""

    title: str
    least: int
    most: int
    names: tuple[str, ...] = ()

    def numbers(self, text: str) -> set[int]:
        """The numbers that the field's text means. ValueError names the field."""
        found: set[int] = set()
        for item in text.lower().split(","):
            found |= self._item(item, text)
        return found

    def _item(self, item: str, text: str) -> set[int]:
        parts = ITEM.fullmatch(item)
        if parts is None:
            raise self._wrong(text)
        first, last, step = parts.group("first", "last", "step")
        least = self.least if first is None else self._number(first, text)
        most = self._end(least, first, last, step, text)
        if most < least:
            raise ValueError(f"{self.title}: {item!r} ends before it begins")
        by = 1 if step is None else int(step)
        if not 0 < by <= self.most:
            raise ValueError(f"{self.title}: the step in {item!r} is not within 1 to {self.most}")
        return set(range(least, most + 1, by))

    def _end(self, least: int, first: str | None, last: str | None, step: str | None, text: str) -> int:
        if last is not None:
            return self._number(last, text)
        return least if first is not None and step is None else self.most

    def _number(self, word: str, text: str) -> int:
        if word in self.names:
            return self.least + self.names.index(word)
        if not word.isdigit() or not self.least <= int(word) <= self.most:
            raise self._wrong(text)
        return int(word)

    def _wrong(self, text: str) -> ValueError:
        named = f" or {self.names[0]} to {self.names[-1]}" if self.names else ""
        return ValueError(
            f"{self.title} is {self.least} to {self.most}{named}, in lists, ranges and steps, not {text!r}"
        )


class Weekdays(Field):
    """Sunday is both 0 and 7, so a range may begin or end with it."""

    def numbers(self, text: str) -> set[int]:
        return {number % 7 for number in super().numbers(text)}

    def _end(self, least: int, first: str | None, last: str | None, step: str | None, text: str) -> int:
        if last is None and (first is None or step is not None):
            return max(least, 6)
        end = super()._end(least, first, last, step, text)
        return 7 if end == 0 < least else end


MINUTE, HOUR = Field("the minute", 0, 59), Field("the hour", 0, 23)
DAY, MONTH = Field("the day of the month", 1, 31), Field("the month", 1, 12, MONTHS)
WEEKDAY = Weekdays("the weekday", 0, 7, WEEKDAYS)


class Cron:
    """The planned times of one expression, in whole Unix seconds.

    When the clocks go back, a repeated local time is planned once, at its first occurrence. When they go forward, a
    skipped local time is planned for the moment of the change. An expression for every hour follows elapsed hours.
    """

    on_wall = True
    longest_jitter = math.inf

    def __init__(self, expression: object, zone: Zone) -> None:
        if not isinstance(expression, str):
            raise ValueError("it is no text")
        fields = expression.split()
        if len(fields) != 5:
            raise ValueError(f"it has {len(fields)} field{'' if len(fields) == 1 else 's'}")
        hours, months = HOUR.numbers(fields[1]), MONTH.numbers(fields[3])
        self._zone = zone
        self._hourly = len(hours) == 24
        self._dates = CronTrigger(
            minute=_listed(MINUTE.numbers(fields[0]), 60),
            hour=_listed(hours, 24),
            day=_days(fields[2], months),
            month=_listed(months, 12),
            day_of_week=_listed({(number - 1) % 7 for number in WEEKDAY.numbers(fields[4])}, 7),
            timezone=datetime.UTC,
        )

    def next_after(self, when: float) -> float:
        """The first planned time after `when`; infinity if it is beyond the calendar."""
        try:
            return self._search(when)
        except (ValueError, OverflowError, OSError):
            return math.inf

    def _search(self, when: float) -> float:
        low = math.floor(when)  # `offset` is valid at this moment
        start = low + 1
        while (local := self._matching(start + (offset := self._zone(low)))) is not None:
            found = local - offset
            if self._zone(found) == offset:
                if self._hourly or not self._repeated(found, offset):
                    return found
                low, start = found, found + 1
                continue
            # The clocks change before the found time, and `offset` is valid only up to the change.
            change = self._change(low, found, offset)
            if not self._hourly and local < change + self._zone(change):
                return change
            low = start = change
        return math.inf

    def latest(self, planned: float, now: float) -> float:
        """The last planned time up to `now`, but not before `planned`. The cost is independent of their number."""
        low, high, back = self.next_after(planned), now, 60.0
        if low > now:
            return planned
        while low < now - back:
            if (found := self.next_after(now - back)) <= now:
                low = found
            back *= 8
        while (following := self.next_after(low)) <= now:
            middle = (low + high) / 2
            later = self.next_after(middle)
            low, high = (later, high) if later <= now else (following, middle)
        return low

    def _matching(self, local: int) -> int | None:
        date = datetime.datetime.fromtimestamp(local, datetime.UTC)
        found = self._dates.get_next_fire_time(None, date)
        return None if found is None else round(found.timestamp())

    def _repeated(self, when: int, offset: int) -> bool:
        """Whether this local time has occurred before."""
        before = self._zone(when - DAY_SECONDS)
        return before > offset and self._zone(when - (before - offset)) == before

    def _change(self, low: int, high: int, offset: int) -> int:
        """The first second with another offset; `low` still has this offset, `high` does not."""
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if self._zone(middle) == offset else (low, middle)
        return high


def _listed(numbers: set[int], all_of_them: int) -> str:
    return "*" if len(numbers) == all_of_them else ",".join(map(str, sorted(numbers)))


def _days(text: str, months: set[int]) -> Any:
    """The days in CronTrigger's form. ValueError for a day that none of the months has."""
    if text.lower() == LAST:
        return LAST
    days = DAY.numbers(text)
    if min(days) > max(LONGEST_MONTHS[month - 1] for month in months):
        raise ValueError(f"{DAY.title}: none of the months has a day {min(days)}")
    return _listed(days, 31)
