"""The event loop on which all bus connections run (the home loop), and how other code waits for its results.

In a service the home loop is the main thread's gevent hub. A program that gevent has not patched (Flask's own server,
asyncio, a notebook) gets a daemon thread with its own hub, so the program does not need to know gevent. Callers may be
greenlets of the home hub, greenlets of another hub, or OS threads; `Waiter` has a way to block for each kind.
"""

from __future__ import annotations

import atexit
import os
import time
from _queue import Empty, SimpleQueue  # the C class itself: gevent replaces the name in `queue`
from collections.abc import Callable
from typing import Any

import gevent
import gevent.event
from gevent import get_hub, getcurrent, monkey
from gevent.hub import MAIN_THREAD_IDENT, Hub  # type: ignore[attr-defined]

from .. import native
from ..native import get_ident
from ..turn import NextTurn

SWEEP_SECONDS = 0.02
LONG_SECONDS = 1e6
READ_BYTES = 256 * 1024
END_SECONDS = 1.0  # how long the end of the program waits for connections that are being made
TURN_SECONDS = 0.005  # how long woken greenlets may run before the loop polls its sockets again


class Home:
    """One hub, its thread, and the deadlines of all waiters on it."""

    def __init__(self, hub: Hub) -> None:
        self.hub = hub
        self.thread = get_ident()
        self.soon = hub.loop.run_callback
        self.deadlines: dict[Waiter, float] = {}
        """When each waiter of the home thread times out (time.monotonic)."""
        self.sweeping = False
        self.woken: list[Waiter] = []
        self.waking = False
        self._next_turn = NextTurn(hub.loop, self.resume)
        self._sweeper = hub.loop.timer(SWEEP_SECONDS, SWEEP_SECONDS)
        self.buffer = bytearray(READ_BYTES)
        """What a stream on this loop receives, until it has been parsed. A new buffer for each read would be mapped and
        unmapped by the kernel each time."""
        self.ending: Any = None
        """Set to end the thread if this module has started it."""

    def is_here(self) -> bool:
        """Whether the calling thread is the one that the hub runs in."""
        here: bool = get_ident() == self.thread
        return here

    def run(self, callback: Callable[..., Any], *args: Any) -> None:
        """Run a callback that does not block: at once if called from the home thread, else at the next turn of the
        loop."""
        if get_ident() == self.thread:
            callback(*args)
        else:
            self.hub.loop.run_callback_threadsafe(callback, *args)

    def call(self, function: Callable[..., Any], *args: Any) -> Any:
        """Run a function on this loop, where it may block, and return its result. From any thread."""
        if self.is_here():
            return function(*args)
        waiter = Waiter(self)
        self.run(gevent.spawn, lambda: waiter.wake(_outcome(function, *args)))
        result, error = waiter.wait(time.monotonic() + LONG_SECONDS)
        if error is not None:
            raise error
        return result

    def resume(self) -> None:
        """Switch to all woken greenlets: one callback of the loop serves a whole batch of replies."""
        woken, self.woken = self.woken, []
        now = time.monotonic
        until = now() + TURN_SECONDS
        number = 0
        try:
            for waiter in woken:
                number += 1
                greenlet = waiter.greenlet
                if greenlet is not None and waiter.items:
                    greenlet.switch()
                if now() > until:
                    break
        finally:
            self.woken[:0] = woken[number:]
            self.waking = bool(self.woken)
            if self.waking:
                self._next_turn.ask()

    def sweep(self) -> None:
        """Check `deadlines` regularly until it is empty; called when the first is added."""
        self.sweeping = True
        self._sweeper.start(self._sweep)

    def _sweep(self) -> None:
        # One timer for all waiters: a gevent.Timeout for each would cost more than the message itself.
        now = time.monotonic()
        for waiter in [w for w, deadline in self.deadlines.items() if deadline <= now]:
            del self.deadlines[waiter]
            waiter.expire()
        if not self.deadlines:
            self.sweeping = False
            self._sweeper.stop()


def _outcome(function: Callable[..., Any], *args: Any) -> tuple[Any, BaseException | None]:
    try:
        return function(*args), None
    except BaseException as error:
        return None, error


TIMEOUT: Any = object()
"""Returned by `Waiter.wait` when the deadline has passed."""


class Waiter:
    """One caller that waits for values from the home loop. `wake` is called there, `wait` by the caller."""

    __slots__ = ("_hub", "_queue", "greenlet", "home", "is_home", "items")

    def __init__(self, home: Home) -> None:
        self.home = home
        self.items: list[Any] = []
        self.greenlet: Any = None
        self._hub: Any = None
        self._queue: SimpleQueue[Any] | None = None
        self.is_home: bool = get_ident() == home.thread
        """Whether the caller runs in the home thread."""
        if not self.is_home:
            if isinstance(getcurrent().parent, Hub):
                self._hub = get_hub()
            else:
                self._queue = SimpleQueue()

    def wake(self, value: Any) -> None:
        if self._queue is not None:
            self._queue.put(value)
            return
        self.items.append(value)
        if self._hub is not None:
            self._hub.loop.run_callback_threadsafe(self.resume)
        elif self.greenlet is not None:
            home = self.home
            home.woken.append(self)
            if not home.waking:
                home.waking = True
                home.soon(home.resume)

    def wake_if_failed(self, value: Any) -> None:
        """A callback for commands of which only a failure matters."""
        if isinstance(value, Exception):
            self.wake(value)

    def wait(self, deadline: float) -> Any:
        """The next value, or TIMEOUT once `time.monotonic()` passes `deadline`."""
        if self._queue is not None:
            try:
                return self._queue.get(timeout=max(0.0, deadline - time.monotonic()))
            except Empty:
                return TIMEOUT
        if self._hub is not None:
            return self._wait_elsewhere(deadline)
        if self.items:
            return self.items.pop(0)
        home = self.home
        home.deadlines[self] = deadline
        if not home.sweeping:
            home.sweep()
        self.greenlet = getcurrent()
        try:
            while not self.items:
                home.hub.switch()
        finally:
            # Needed when the greenlet is killed while it waits: it must not be switched to afterwards.
            self.greenlet = None
            home.deadlines.pop(self, None)
        return self.items.pop(0)

    def expire(self) -> None:
        self.wake(TIMEOUT)

    def resume(self) -> None:
        """Runs in the hub of the waiting greenlet and switches to it."""
        greenlet = self.greenlet
        if greenlet is not None and self.items:
            greenlet.switch()

    def _wait_elsewhere(self, deadline: float) -> Any:
        self.greenlet = getcurrent()
        try:
            with gevent.Timeout(max(0.0, deadline - time.monotonic()), False):  # type: ignore[arg-type]
                while not self.items:
                    self._hub.switch()
            return self.items.pop(0) if self.items else TIMEOUT
        finally:
            self.greenlet = None


_lock = native.make_lock()
_home: Home | None = None


def current() -> Home:
    """The home of this process, created at first use. A forked child creates a new one, because a hub does not survive
    a fork.

    In a patched program it is the main thread's hub. Only the main thread can create that hub. So if another thread
    comes first, it gets a home of its own; a service that starts later in the main thread still uses the main hub.
    """
    global _home
    main = monkey.is_module_patched("socket") and get_ident() == MAIN_THREAD_IDENT
    with _lock:
        if _home is None or (main and _home.thread != MAIN_THREAD_IDENT):
            _home = Home(get_hub()) if main else _thread_home()
        return _home


def _thread_home() -> Home:
    ready: SimpleQueue[Home] = SimpleQueue()
    ended = native.make_lock()
    ended.acquire()

    def live() -> None:
        home = Home(get_hub())
        connecting = home.hub.threadpool  # links make their connections there, if the program is not patched
        home.ending = ending = gevent.event.Event()
        ready.put(home)
        while not ending.wait(3600):
            pass  # the timer keeps the loop running: a loop with nothing to wait for ends
        with gevent.Timeout(END_SECONDS, False):  # type: ignore[arg-type]
            connecting.join()  # OpenSSL is cleaned up when Python ends
        ended.release()
        # Python ends now. A thread that has run greenlets must not end meanwhile: greenlet then tidies up after it, in
        # memory that Python may have freed.
        native.sleep_forever()

    # Not `threading.Thread`, which is a greenlet in a patched program.
    native.start_thread(live)
    home = ready.get()
    pid = os.getpid()

    def end() -> None:
        if os.getpid() == pid:
            home.hub.loop.run_callback_threadsafe(home.ending.set)
            ended.acquire(True, 2 * END_SECONDS)

    atexit.register(end)
    return home


def _after_fork() -> None:
    global _home, _lock
    _home, _lock = None, native.make_lock()


os.register_at_fork(after_in_child=_after_fork)
