"""The time limit of a handler: `DAEBUS_REQUEST_SECONDS`, or `timeout` of its route. Without a limit nothing here runs.

The handler's greenlet is interrupted at the deadline. A handler in an OS thread cannot be: its client is answered, and
the thread goes on. Nested calls see the deadline (`request.deadline`) and end by it in either case.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import falcon
import gevent

from ..report import FAULTS
from .requests import HttpRequest

TEXT = "Gateway Timeout"
Call = Callable[[HttpRequest], Any]


class Overdue(Exception):
    """The handler did not end within its time limit, or failed after it."""


def limited(call: Call, seconds: float) -> Call:
    """`call` with a time limit, after which it raises Overdue."""

    def run(request: HttpRequest) -> Any:
        request.deadline = time.monotonic() + seconds
        timer = gevent.Timeout(seconds)
        timer.start()
        try:
            return call(request)
        except falcon.HTTPError:
            raise
        except FAULTS as error:
            # A nested call ends at the same moment, so its CallTimeout may come first.
            if error is timer or time.monotonic() >= request.deadline:
                raise Overdue(f"no answer within {seconds:g} s") from error
            raise
        finally:
            timer.close()

    return run
