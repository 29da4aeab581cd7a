"""Ends a process that does not come to its end: an OS thread, because what hangs may hold the loop."""

from __future__ import annotations

import os
import time

from gevent import monkey

TEXT = "daebus: the service did not end within its time and is cut off: something holds its loop\n"

_start_thread = monkey.get_original("_thread", "start_new_thread")
_make_lock = monkey.get_original("_thread", "allocate_lock")


class Cutoff:
    """Armed when the end begins; `called_off` once it is reached. Exit code 1."""

    def __init__(self) -> None:
        self._ended = _make_lock()
        self._ended.acquire()
        self._deadline = 0.0

    def arm(self, seconds: float) -> None:
        """The process has so many seconds left; armed again, the earlier end counts."""
        first = not self._deadline
        deadline = time.monotonic() + seconds
        self._deadline = deadline if first else min(self._deadline, deadline)
        if first:
            _start_thread(self._watch, ())

    def call_off(self) -> None:
        """The end was reached."""
        if self._ended.locked():
            self._ended.release()

    def _watch(self) -> None:
        while (left := self._deadline - time.monotonic()) > 0:
            if self._ended.acquire(timeout=min(left, 0.5)):
                return
        os.write(2, TEXT.encode())
        os._exit(1)
