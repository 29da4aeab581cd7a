"""Ends a process that does not finish its shutdown in time. Uses an OS thread, because the loop itself may hang."""

from __future__ import annotations

import os
import time

from . import native

TEXT = "daebus: the service did not end within its time and is cut off: something holds its loop\n"


class Cutoff:
    """Armed when the shutdown begins, called off when it is complete. Exit code 1."""

    def __init__(self) -> None:
        self._ended = native.make_lock()
        self._ended.acquire()
        self._deadline = 0.0

    def arm(self, seconds: float) -> None:
        """End the process after `seconds`. If armed several times, the earliest deadline counts."""
        first = not self._deadline
        deadline = time.monotonic() + seconds
        self._deadline = deadline if first else min(self._deadline, deadline)
        if first:
            native.start_thread(self._watch)

    def call_off(self) -> None:
        """The shutdown is complete."""
        if self._ended.locked():
            self._ended.release()

    def _watch(self) -> None:
        while (left := self._deadline - time.monotonic()) > 0:
            if self._ended.acquire(timeout=min(left, 0.5)):
                return
        os.write(2, TEXT.encode())
        os._exit(1)
