"""Runs handlers in OS threads, for code that blocks in C (serial ports, GPIO, vendor libraries): the loop runs on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from gevent import get_hub
from gevent.threadpool import ThreadPool

from ..aside import attempt, outcome

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
        done: tuple[T | None, BaseException | None] = self._pool.apply(attempt, (function, *args))
        return outcome(done)

    def close(self) -> None:
        """End the threads. None may still run a function."""
        if self._pool is not None:
            self._pool.kill()
            self._pool = None
