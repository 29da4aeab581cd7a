"""Runs what would hold the event loop in an OS thread: only the caller waits, and the loop gets Python's lock every
5 ms (`sys.getswitchinterval`).

For code that computes for long. Handlers that block have threads of their own (dispatch/blocking.py).
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any, TypeVar, cast

from gevent import getcurrent
from gevent.hub import Hub

T = TypeVar("T")


def run_aside(function: Callable[..., T], *args: Any) -> T:
    """`function(*args)`. Outside of a loop's greenlets there is nobody to hold up, so it runs here."""
    loop = getcurrent().parent
    if not isinstance(loop, Hub):
        return function(*args)
    done: tuple[T | None, BaseException | None] = loop.threadpool.apply(attempt, (function, *args))
    return outcome(done)


def import_aside(name: str) -> ModuleType:
    """`importlib.import_module(name)`, for a large module that few services need and no start should pay for."""
    return sys.modules.get(name) or run_aside(importlib.import_module, name)


def attempt(function: Callable[..., T], *args: Any) -> tuple[T | None, BaseException | None]:
    """Returns the result and the exception as values, because gevent prints exceptions in its pools to stderr."""
    try:
        return function(*args), None
    except BaseException as error:
        return None, error


def outcome(attempted: tuple[T | None, BaseException | None]) -> T:
    """The result of an `attempt`; raises its exception."""
    result, error = attempted
    if error is not None:
        raise error
    return cast(T, result)
