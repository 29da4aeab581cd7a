"""Runs the functions of `@app.thread` as long as the service runs; restarts them with backoff after an exception."""

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
STEADY_SECONDS = 60.0  # after running this long before a failure, a thread starts again with the first backoff


class _Running:
    """One started thread."""

    def __init__(self) -> None:
        self.wanted = True
        self.told = Event()
        self.greenlet: Any = None

    def running(self) -> bool:
        """Passed to the author's function, which may call it in an OS thread."""
        return self.wanted

    def tell(self) -> None:
        self.wanted = False
        self.told.set()


class Threads:
    """The threads of one application. release: called in an OS thread before it ends, to free its resources."""

    def __init__(self, app: Service, release: Callable[[], None] | None = None) -> None:
        self._app, self._release = app, release
        self._declared: dict[str, Thread] = {}
        self._started: dict[str, _Running] = {}
        self._told = False
        self._kept: list[BlockingPool] = []

    def add(self, thread: Thread) -> None:
        self._declared[thread.name] = thread

    def start_all(self) -> None:
        """Start the threads that are declared with auto_start."""
        for thread in self._declared.values():
            if thread.auto_start:
                self.start(thread.name)

    def start(self, name: str) -> bool:
        """Start a thread unless it runs; returns whether it runs now.

        False, with a warning, if it is not declared, if it was asked to end and has not ended yet, and while the
        service stops.
        """
        thread = self._declared.get(name)
        if thread is None:
            runtime_logger.warning("there is no thread %r to start", name)
            return False
        there = self._started.get(name)
        if self._told or (there is not None and not there.greenlet.ready() and not there.wanted):
            why = "the service stops" if self._told else "it was asked to end and has not ended yet"
            runtime_logger.warning("thread %r is not started: %s", name, why)
            return False
        if there is None or there.greenlet.ready():
            state = self._started[name] = _Running()
            state.greenlet = gevent.spawn(self._live, thread, state)
        return True

    def stop(self, name: str, timeout: float) -> bool:
        """Ask a thread to end; returns whether it did within `timeout` seconds."""
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
        """From now on `running()` is False in all threads, and no thread is started."""
        self._told = True
        for state in self._started.values():
            state.tell()

    def drain(self, deadline: float) -> bool:
        """Wait for all threads until `deadline` (time.monotonic), then kill the remaining greenlets. Returns whether
        all ended in time."""
        greenlets = [state.greenlet for state in self._started.values()]
        gevent.joinall(greenlets, timeout=max(0.0, deadline - time.monotonic()))
        late = [name for name, state in self._started.items() if not state.greenlet.ready()]
        if late:
            runtime_logger.warning("threads that did not end in time: %s", ", ".join(late))
            gevent.killall([self._started[name].greenlet for name in late], block=False)
        return not late

    def _live(self, thread: Thread, state: _Running) -> None:
        if not thread.native:
            self._keep_alive(thread, state, None)
            return
        pool = BlockingPool(1)
        self._keep_alive(thread, state, pool.run)
        # Not in a `finally`: when this greenlet is killed at the end, the function still runs in the OS thread.
        if self._release is not None:
            pool.run(self._release)
        # When the service stops, Python ends soon. A thread that ended at that moment would use memory that Python has
        # freed, and crash. So it stays and waits.
        if self._told:
            self._kept.append(pool)
        else:
            pool.close()

    def _keep_alive(self, thread: Thread, state: _Running, run: Callable[..., Any] | None) -> None:
        call = _call_of(thread.function, state.running)
        backoff = BACKOFF_FIRST
        while state.wanted:
            begun = time.monotonic()
            try:
                context = Context(self._app)
                call_in_context(context, call, run=run)
                return
            except SystemExit as error:  # ends only the thread, as in Python's threading
                runtime_logger.warning("thread %r ended itself: SystemExit(%s)", thread.name, error)
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
