"""Time zones for cron tasks: how far local time is ahead of UTC at a moment. Knows nothing of tasks."""

from __future__ import annotations

import datetime
import os
import re
import time
from collections.abc import Callable
from zoneinfo import ZoneInfo

Zone = Callable[[int], int]
"""The seconds that local time is ahead of UTC at a moment in Unix seconds."""

_NAME = r"(?:[A-Za-z]{3,}|<[A-Za-z0-9+-]{3,}>)"
_MINUTES = r"(?::[0-5]?\d(?::[0-5]?\d)?)?"
_AHEAD = rf"[+-]?(?:2[0-4]|[01]?\d){_MINUTES}"
_DAY = rf"(?:M(?:0?[1-9]|1[0-2])\.[1-5]\.[0-6]|J?\d{{1,3}})(?:/[+-]?\d{{1,3}}{_MINUTES})?"
POSIX = re.compile(rf"{_NAME}{_AHEAD}(?:{_NAME}(?:{_AHEAD})?(?:,{_DAY},{_DAY})?)?", re.ASCII)
"""A zone described by its rules instead of a name, such as `CET-1CEST,M3.5.0,M10.5.0/3`."""


def zone(timezone: object) -> Zone:
    """The zone of an IANA name or a tzinfo; None and "" mean the machine's zone. ValueError for an unknown name."""
    if timezone is None or timezone == "":
        return _machine()
    if isinstance(timezone, datetime.tzinfo):
        return _of(timezone)
    if not isinstance(timezone, str):
        raise ValueError(f"timezone= is a name such as 'Europe/Berlin', not {timezone!r}")
    try:
        return _of(ZoneInfo(timezone))
    except (KeyError, ValueError, OSError):
        raise ValueError(
            f"timezone={timezone!r} is not in the time zone database; a name such as 'Europe/Berlin' is expected"
        ) from None


def _of(timezone: datetime.tzinfo) -> Zone:
    def offset(when: int) -> int:
        ahead = datetime.datetime.fromtimestamp(when, timezone).utcoffset()
        if ahead is None:
            raise ValueError(f"timezone={timezone!r} has no offset from UTC")
        return round(ahead.total_seconds())

    offset(0)
    return offset


def _machine() -> Zone:
    """The zone from `TZ`, in every form that the C library accepts, else the machine's setting. The C library silently
    uses UTC for a value that it does not understand; here that is an error."""
    value = os.environ.get("TZ")
    if value is None:
        return _local
    name = value.removeprefix(":")
    if not name:
        return _of(datetime.UTC)
    try:
        if os.path.isabs(name):
            with open(name, "rb") as file:
                return _of(ZoneInfo.from_file(file))
        return _of(ZoneInfo(name))
    except (KeyError, ValueError, OSError):
        if not POSIX.fullmatch(name):
            raise ValueError(
                f"the environment's TZ={value!r} is no time zone: neither in the database, nor a file of it, "
                "nor in POSIX form"
            ) from None
    time.tzset()  # TZ may have changed since the C library read it
    return _local


def _local(when: int) -> int:
    return time.localtime(when).tm_gmtoff
