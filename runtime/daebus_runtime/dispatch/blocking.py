"""Handlers in OS threads, for what blocks in C: serial ports, GPIO, vendor libraries. The loop goes on meanwhile."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

from gevent import get_hub
from gevent.threadpool import ThreadPool

T = TypeVar("T")


class BlockingPool:
    """At most `size` functions at the same time, each in an OS thread; further ones wait for a free thread."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._pool: ThreadPool | None = None

    def run(self, function: Callable[..., T], *args: Any) -> T:
        """Run in a thread and wait for it, letting other greenlets run. What it raises is raised here."""
        if self._pool is None:
            self._pool = ThreadPool(self.size, hub=get_hub())
        result, error = self._pool.apply(attempt, (function, *args))
        if error is not None:
            raise error
        return cast(T, result)

    def close(self) -> None:
        """End the threads; none may be at work."""
        if self._pool is not None:
            self._pool.kill()
            self._pool = None


def attempt(function: Callable[..., T], *args: Any) -> tuple[T | None, BaseException | None]:
    """What a function returns or raises, as a value: gevent writes what is raised in its pools to stderr."""
    try:
        return function(*args), None
    except BaseException as error:
        return None, error
