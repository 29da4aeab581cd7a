"""Runs handlers in OS threads, for code that blocks in C (serial ports, GPIO, vendor libraries): the loop runs on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

from gevent import get_hub
from gevent.threadpool import ThreadPool

T = TypeVar("T")


class BlockingPool:
    """Runs at most `size` functions at the same time, each in an OS thread; others wait for a free thread."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._pool: ThreadPool | None = None

    def run(self, function: Callable[..., T], *args: Any) -> T:
        """Run in a thread and wait for it, while other greenlets run. Raises what the function raises."""
        if self._pool is None:
            self._pool = ThreadPool(self.size, hub=get_hub())
        result, error = self._pool.apply(attempt, (function, *args))
        if error is not None:
            raise error
        return cast(T, result)

    def close(self) -> None:
        """End the threads. None may still run a function."""
        if self._pool is not None:
            self._pool.kill()
            self._pool = None


def attempt(function: Callable[..., T], *args: Any) -> tuple[T | None, BaseException | None]:
    """Returns the result and the exception as values, because gevent prints exceptions in its pools to stderr."""
    try:
        return function(*args), None
    except BaseException as error:
        return None, error
