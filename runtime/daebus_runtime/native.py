"""OS threads, their locks and clocks, also in a program that gevent has patched."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gevent import monkey

get_ident: Callable[[], int] = monkey.get_original("_thread", "get_ident")
make_lock: Callable[[], Any] = monkey.get_original("_thread", "allocate_lock")
make_rlock: Callable[[], Any] = monkey.get_original("_thread", "RLock")
sleep: Callable[[float], None] = monkey.get_original("time", "sleep")
Local: Any = monkey.get_original("threading", "local")
"""Values of one OS thread; gevent's `local` holds those of one greenlet."""

_start_new_thread = monkey.get_original("_thread", "start_new_thread")
BEGIN_SECONDS = 5.0


def start_thread(function: Callable[[], object]) -> None:
    """Run a function in an OS thread that does not keep the process alive. Returns once the thread runs.

    If Python ended before that, the new thread would use memory that Python has freed, and the process would crash.
    """
    running = make_lock()
    running.acquire()

    def run() -> None:
        running.release()
        function()

    _start_new_thread(run, ())
    running.acquire(True, BEGIN_SECONDS)


def sleep_forever() -> None:
    """The calling thread does nothing more, until the process ends."""
    never = make_lock()
    never.acquire()
    never.acquire()
