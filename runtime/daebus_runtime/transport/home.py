"""The loop on which connections live, and how anybody else in the process waits for something that happens there.

A service has one gevent hub, the main thread's, and that is the home. A program that gevent has not patched (Flask's
own server, asyncio, a notebook) gets a daemon thread with a hub of its own, so that it needs to know nothing of gevent.
Callers may be greenlets of the home hub, greenlets of another one, or OS threads; `Waiter` blocks each in its own way.
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

from ..turn import NextTurn

SWEEP_SECONDS = 0.02
LONG_SECONDS = 1e6
TURN_SECONDS = 0.005  # for how long woken greenlets run before the loop looks at its sockets again
_start_thread = monkey.get_original("_thread", "start_new_thread")
_native_lock = monkey.get_original("_thread", "allocate_lock")
get_ident = monkey.get_original("_thread", "get_ident")


class Home:
    """One hub, the thread it runs in, and the deadlines of all who wait on it."""

    def __init__(self, hub: Hub) -> None:
        self.hub = hub
        self.thread = get_ident()
        self.soon = hub.loop.run_callback
        self.deadlines: dict[Waiter, float] = {}
        """When each waiter of the home thread gives up (time.monotonic)."""
        self.sweeping = False
        self.woken: list[Waiter] = []
        self.waking = False
        self._next_turn = NextTurn(hub.loop, self.resume)
        self._sweeper = hub.loop.timer(SWEEP_SECONDS, SWEEP_SECONDS)

        self.ending: Any = None
        """Set to end the thread, where it is one of our own."""

    def is_here(self) -> bool:
        """Whether the calling thread is the one that the hub runs in."""
        here: bool = get_ident() == self.thread
        return here

    def run(self, callback: Callable[..., Any], *args: Any) -> None:
        """Run a callback that does not block: at once when called from the home thread, else as soon as the loop
        turns."""
        if get_ident() == self.thread:
            callback(*args)
        else:
            self.hub.loop.run_callback_threadsafe(callback, *args)

    def call(self, function: Callable[..., Any], *args: Any) -> Any:
        """Run a function that may wait on this loop, and wait for it here, in whatever thread that is."""
        if self.is_here():
            return function(*args)
        waiter = Waiter(self)
        self.run(gevent.spawn, lambda: waiter.wake(_outcome(function, *args)))
        result, error = waiter.wait(time.monotonic() + LONG_SECONDS)
        if error is not None:
            raise error
        return result

    def resume(self) -> None:
        """Let all who were woken go on: one callback of the loop for a whole batch of replies."""
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
        """Look after `deadlines` until there are none; called when the first is put there."""
        self.sweeping = True
        self._sweeper.start(self._sweep)

    def _sweep(self) -> None:
        # One timer for everybody who waits: a gevent.Timeout for each would cost more than the message itself.
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
"""What `Waiter.wait` returns when its time is up."""


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
        """Whether it waits on the home thread itself."""
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
        """A callback for commands whose good answer is of no interest."""
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
            # Also when the greenlet is killed while it waits: nobody may switch to it any more.
            self.greenlet = None
            home.deadlines.pop(self, None)
        return self.items.pop(0)

    def expire(self) -> None:
        self.wake(TIMEOUT)

    def resume(self) -> None:
        """On the hub of the waiting greenlet: let it go on."""
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


_lock = _native_lock()
_home: Home | None = None


def current() -> Home:
    """The home of this process, made at first use. Anew in a forked child: a hub does not survive a fork as it was.

    In a patched program that is the main thread's hub. Another thread cannot make that one, so what it uses first gets
    a home of its own; a service that starts later in the main thread has the main one all the same.
    """
    global _home
    main = monkey.is_module_patched("socket") and get_ident() == MAIN_THREAD_IDENT
    with _lock:
        if _home is None or (main and _home.thread != MAIN_THREAD_IDENT):
            _home = Home(get_hub()) if main else _thread_home()
        return _home


def _thread_home() -> Home:
    ready: SimpleQueue[Home] = SimpleQueue()
    ended = _native_lock()
    ended.acquire()

    def live() -> None:
        home = Home(get_hub())
        home.ending = ending = gevent.event.Event()
        ready.put(home)
        while not ending.wait(3600):
            pass  # a loop without a timer has nothing to wait for, and ends
        ended.release()

    # Not `threading.Thread`: in a patched program that is a greenlet.
    _start_thread(live, ())
    home = ready.get()
    pid = os.getpid()

    def end() -> None:
        if os.getpid() == pid:
            home.hub.loop.run_callback_threadsafe(home.ending.set)
            ended.acquire(True, 1.0)

    atexit.register(end)
    return home


def _after_fork() -> None:
    global _home, _lock
    _home, _lock = None, _native_lock()


os.register_at_fork(after_in_child=_after_fork)
