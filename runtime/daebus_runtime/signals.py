"""What the signals of a service mean, from the import of `Daebus` on. Imports nothing that takes time.

SIGTERM, SIGINT, SIGQUIT and SIGHUP ask for an orderly end: the service drains and its process ends with code 0. Asking
again with one of the first three ends it at once, with code 130. SIGHUP never counts as the second: a terminal that
closes sends it more than once. Where SIGHUP was ignored from the start (nohup), it stays ignored.

    until app.run()   nothing is served yet, so the program ends there and then: Asked is raised in the main thread
    while it runs     Asks, or with HTTP gunicorn's master (master.py)
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

ENDING = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGINT", "SIGQUIT", "SIGHUP") if hasattr(signal, name))
COUNTED = tuple(number for number in ENDING if number.name != "SIGHUP")
OTHERS = (signal.SIGUSR1, signal.SIGUSR2)  # they would end a process that has no handler for them
IMPATIENT = 130
Handler = Callable[[int, FrameType | None], Any]

_early: list[int] = []
_ours: dict[int, Handler] = {}


class Asked(KeyboardInterrupt, SystemExit):
    """The program was asked to end before it served anything. Nobody prints a traceback for it, and the exit code is 0;
    who handles Ctrl-C or sys.exit() (a test runner, a `finally`) sees what it expects."""

    code = 0


def heed() -> None:
    """From now on the signals above end the program in order. Leaves alone what the program handles or ignores itself,
    and an interactive Python."""
    if sys.flags.interactive or hasattr(sys, "ps1"):
        return
    for number in ENDING:
        if signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):
            try:
                install(number, _end)
            except ValueError:  # not the main thread: signals are not ours there
                return


def _end(number: int, frame: FrameType | None) -> None:
    _early.append(number)
    if sum(early in COUNTED for early in _early) > 1:
        os._exit(IMPATIENT)
    if number in COUNTED or len(_early) == 1:  # a closing terminal's second SIGHUP interrupts no `finally`
        raise Asked


def asked_early() -> bool:
    """Whether it was asked to end before it ran, and something has swallowed the exception."""
    return bool(_early)


def install(number: int, handler: Handler) -> Any:
    """signal.signal, but not for children that are forked by the author's code: there it is as if we were not."""
    before = signal.signal(number, handler)
    _ours[number] = handler
    return before


class Asks:
    """While it is entered, the signals above call `stop`. For the one process of a service without HTTP."""

    def __init__(self, stop: Callable[[], None]) -> None:
        self._stop = stop
        self._count = 0

    def __enter__(self) -> Asks:
        self._before = {number: install(number, self._asked) for number in ENDING if not _is_ignored_hangup(number)}
        for number in OTHERS:
            if signal.getsignal(number) is signal.SIG_DFL:
                self._before[number] = install(number, self._other)
        if asked_early():
            self._asked(_early[0], None)
        return self

    def __exit__(self, *exc: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        _early.clear()

    def _asked(self, number: int, frame: FrameType | None) -> None:
        self._count += number in COUNTED
        if self._count > 1:
            os._exit(IMPATIENT)  # whoever asks twice does not want to wait for the drain
        self._stop()

    def _other(self, number: int, frame: FrameType | None) -> None:
        os.write(2, f"daebus: {signal.Signals(number).name} means nothing to this service\n".encode())


def _is_ignored_hangup(number: int) -> bool:
    return number not in COUNTED and signal.getsignal(number) is signal.SIG_IGN


@contextmanager
def blocked() -> Iterator[None]:
    """Hold the signals back: across a fork, until the child has handlers of its own (it calls `unblock`)."""
    signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)
    try:
        yield
    finally:
        unblock()


def unblock() -> None:
    signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING)


@contextmanager
def kept(numbers: Iterator[int] | list[int]) -> Iterator[None]:
    """Afterwards the handlers of these signals are what they were before."""
    before = {number: signal.getsignal(number) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        _early.clear()


def _forget() -> None:
    for number, handler in _ours.items():
        if signal.getsignal(number) == handler:
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    _ours.clear()


os.register_at_fork(after_in_child=_forget)
