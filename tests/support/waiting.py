"""Waiting for conditions, so that no test sleeps for a guessed time."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def wait_until(condition: Callable[[], T], timeout: float = 5.0, message: str | Callable[[], str] = "") -> T:
    """Waits until the condition returns a true value, and returns it; fails the test after `timeout` seconds.

    `message` says what was waited for. A function is called only on failure, so it can show the state at that time.
    """
    deadline = time.monotonic() + timeout
    pause = 0.002
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() >= deadline:
            text = message() if callable(message) else message
            raise AssertionError(f"not within {timeout:g} s: {text or condition}")
        time.sleep(pause)
        pause = min(pause * 1.5, 0.05)
