"""Detects when code holds the event loop, and logs one line with the name of the handler while it still does.

A timer on the loop ticks, and an OS thread checks the ticks. When they stop, the thread reads the stack of the loop's
thread and searches it for a registered handler.
"""

from __future__ import annotations

import sys
import time
from types import CodeType, FrameType
from typing import Any

from gevent import get_hub

from .. import native
from ..logs import runtime_logger
from ..metrics import Metrics

TICK_SECONDS = 0.05


class Watchdog:
    """Watches the hub of the thread that creates it. `names` maps a handler's code object to its name."""

    def __init__(self, names: dict[CodeType, str], limit: float, metrics: Metrics) -> None:
        self._names, self._limit, self._metrics = names, limit, metrics
        self._thread = native.get_ident()
        self._timer = get_hub().loop.timer(TICK_SECONDS, TICK_SECONDS)
        self._ticked = time.monotonic()
        self._running = False

    def start(self) -> None:
        self._running = True
        self._ticked = time.monotonic()
        self._timer.start(self._tick)
        native.start_thread(self._watch)

    def stop(self) -> None:
        self._running = False
        self._timer.stop()

    def _tick(self) -> None:
        now = time.monotonic()
        self._metrics.loop_lag = max(self._metrics.loop_lag, now - self._ticked - TICK_SECONDS)
        self._ticked = now

    def _watch(self) -> None:
        reported = 0.0
        while self._running:
            native.sleep(self._limit / 2)
            ticked = self._ticked
            held = time.monotonic() - ticked - TICK_SECONDS
            if held > self._limit and reported != ticked and self._running:
                reported = ticked
                frame = sys._current_frames().get(self._thread)
                runtime_logger.warning("the event loop has been held for %.1f s by %s", held, self._describe(frame))

    def _describe(self, frame: FrameType | None) -> str:
        where = f"{frame.f_code.co_filename}:{frame.f_lineno}" if frame else "unknown code"
        while frame is not None:
            name = self._names.get(frame.f_code)
            if name is not None:
                return f"{name}, at {where}; blocking=True runs it in a thread of its own"
            frame = frame.f_back
        return f"code at {where}"


def code_of(function: Any) -> CodeType | None:
    """The code object of a handler, behind `functools.wraps` and bound methods."""
    while hasattr(function, "__wrapped__"):
        function = function.__wrapped__
    code = getattr(getattr(function, "__func__", function), "__code__", None)
    return code if isinstance(code, CodeType) else None
