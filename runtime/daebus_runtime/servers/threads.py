"""Runs what `@app.thread` declares, for as long as the service does; started again with backoff after an exception."""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable
from typing import Any

import gevent
from gevent.event import Event

from ..context import Context, Service, call_in_context
from ..dispatch.blocking import BlockingPool
from ..dispatch.guard import FAULTS
from ..logs import runtime_logger
from ..registry import Thread

BACKOFF_FIRST, BACKOFF_MOST = 0.5, 30.0
STEADY_SECONDS = 60.0  # one that ran this long before it failed begins anew with the first backoff


class _Running:
    """One started thread."""

    def __init__(self) -> None:
        self.wanted = True
        self.told = Event()
        self.greenlet: Any = None

    def running(self) -> bool:
        """Handed to the author's function, which may ask from an OS thread."""
        return self.wanted

    def tell(self) -> None:
        self.wanted = False
        self.told.set()


class Threads:
    """The threads of one application."""

    def __init__(self, app: Service) -> None:
        self._app = app
        self._declared: dict[str, Thread] = {}
        self._started: dict[str, _Running] = {}

    def add(self, thread: Thread) -> None:
        self._declared[thread.name] = thread

    def start_all(self) -> None:
        """Start those that are declared with auto_start."""
        for thread in self._declared.values():
            if thread.auto_start:
                self.start(thread.name)

    def start(self, name: str) -> bool:
        """Start a thread unless it runs; whether it is declared."""
        thread = self._declared.get(name)
        if thread is None:
            runtime_logger.warning("there is no thread %r to start", name)
            return False
        there = self._started.get(name)
        if there is None or there.greenlet.ready():
            state = self._started[name] = _Running()
            state.greenlet = gevent.spawn(self._live, thread, state)
        return True

    def stop(self, name: str, timeout: float) -> bool:
        """Tell a thread to end; whether it has within `timeout` seconds."""
        if name not in self._declared:
            runtime_logger.warning("there is no thread %r to stop", name)
            return False
        state = self._started.get(name)
        if state is None:
            return True
        state.tell()
        state.greenlet.join(timeout)
        return bool(state.greenlet.ready())

    def tell_all(self) -> None:
        """`running()` is False from now on, everywhere."""
        for state in self._started.values():
            state.tell()

    def drain(self, deadline: float) -> bool:
        """Wait for all of them until `deadline` (time.monotonic); whether they ended. Greenlets that did not are cut
        off."""
        greenlets = [state.greenlet for state in self._started.values()]
        gevent.joinall(greenlets, timeout=max(0.0, deadline - time.monotonic()))
        late = [name for name, state in self._started.items() if not state.greenlet.ready()]
        if late:
            runtime_logger.warning("threads that did not end in time: %s", ", ".join(late))
            gevent.killall([self._started[name].greenlet for name in late], block=False)
        return not late

    def _live(self, thread: Thread, state: _Running) -> None:
        call = _call_of(thread.function, state.running)
        run = BlockingPool(1).run if thread.native else None
        backoff = BACKOFF_FIRST
        while state.wanted:
            begun = time.monotonic()
            try:
                context = Context(self._app)
                call_in_context(context, call, run=run)
                return
            except SystemExit:  # ends a thread and nothing else, as in Python's own
                return
            except FAULTS:
                if time.monotonic() - begun > STEADY_SECONDS:
                    backoff = BACKOFF_FIRST
                runtime_logger.exception("thread %r failed; it is started again in %.1f s", thread.name, backoff)
            state.told.wait(backoff)
            backoff = min(backoff * 2, BACKOFF_MOST)


def _call_of(function: Callable[..., Any], running: Callable[[], bool]) -> Callable[[], Any]:
    try:
        inspect.signature(function).bind(running)
    except TypeError:
        return function
    return lambda: function(running)
