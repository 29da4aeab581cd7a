"""The forms of settings: functions that read a value of one form from its text, or from a value of its type.

Each raises ValueError (TypeError, OverflowError) for anything else; settings.py says which setting it was.
"""

from __future__ import annotations

import decimal
import ipaddress
import numbers
import os
import re
from collections.abc import Callable
from typing import Any

DIGITS = re.compile(r"[0-9]+")
_DECIMAL = re.compile(r"[0-9]+(\.[0-9]+)?|\.[0-9]+")


def text(value: Any) -> str:
    """A setting's text without surrounding white space. ValueError if it has characters that are not printable."""
    if not isinstance(value, str):
        raise ValueError
    stripped = value.strip()
    if not stripped or not stripped.isprintable():
        raise ValueError
    return stripped


def integer(least: int, most: int) -> Callable[[Any], int]:
    """Reads whole numbers from `least` to `most`; ValueError for anything else."""

    def parse(value: Any) -> int:
        if isinstance(value, numbers.Integral) and not isinstance(value, bool):
            number = int(value)
        elif DIGITS.fullmatch(digits := text(value)):
            number = int(digits)
        else:
            raise ValueError
        if not least <= number <= most:
            raise ValueError
        return number

    return parse


def seconds(least: float, most: float) -> Callable[[Any], float]:
    """Reads numbers from `least` to `most`, with or without a decimal point; ValueError for anything else."""

    def parse(value: Any) -> float:
        if isinstance(value, (numbers.Real, decimal.Decimal)) and not isinstance(value, bool):
            number = float(value)
        elif _DECIMAL.fullmatch(digits := text(value)):
            number = float(digits)
        else:
            raise ValueError
        if not least <= number <= most:  # also refuses nan
            raise ValueError
        return number

    return parse


def one_of(*words: str) -> Callable[[Any], str]:
    def parse(value: Any) -> str:
        if (word := text(value).lower()) not in words:
            raise ValueError
        return word

    return parse


def flag(value: Any) -> bool:
    if isinstance(value, int) and value in (0, 1):
        return bool(value)
    words = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}
    if (word := text(value).lower()) not in words:
        raise ValueError
    return words[word]


def peers(value: Any) -> tuple[str, ...] | None:
    words = text(value) if isinstance(value, str) else ",".join(value)
    entries = [entry.strip() for entry in words.lower().split(",")]
    if entries == ["none"]:
        return None
    for entry in entries:
        if entry not in ("*", "unix"):
            ipaddress.ip_network(entry)
    return tuple(entries)


def path(value: Any) -> str:
    return text(os.fspath(value))
