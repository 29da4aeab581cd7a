"""What the signals mean for a service, from the import of `Daebus` on. Imports nothing that is slow to import.

SIGTERM, SIGINT, SIGQUIT and SIGHUP ask for a graceful stop: the service drains and exits with code 0. A second SIGTERM,
SIGINT or SIGQUIT ends it at once, with code 130. SIGHUP never counts as the second signal, because a closing terminal
sends it more than once. If SIGHUP was ignored at the start (nohup), it stays ignored.

    `daebus run`      nothing of the service is imported yet: the process ends immediately, without any cleanup
    before app.run()  nothing is served yet, so the program ends immediately: Asked is raised in the main thread
    while it runs     Asks handles them; with HTTP it is gunicorn's master (master.py)
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
OTHERS = (signal.SIGUSR1, signal.SIGUSR2)  # their default action would end the process
IMPATIENT = 130
Handler = Callable[[int, FrameType | None], Any]

_early: list[int] = []
_ours: dict[int, Handler] = {}


class Asked(KeyboardInterrupt, SystemExit):
    """The program was asked to stop before it served anything. No traceback is printed and the exit code is 0. It is
    both base classes, so code that handles Ctrl-C or sys.exit() (a test runner, for example) works as usual."""

    code = 0


def heed() -> None:
    """From now on the signals above stop the program gracefully. Signals that the program already handles or ignores
    are left alone; in an interactive Python all are."""
    _handle(_end)


def heed_at_once() -> None:
    """Until `heed` is called, the signals above end the process with code 0, without unwinding. For a command that has
    not started anything yet: an exception would end in its argument parser, which reports an interrupted command."""
    _handle(_leave)


def _handle(handler: Handler) -> None:
    if sys.flags.interactive or hasattr(sys, "ps1"):
        return
    for number in ENDING:
        if signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler, _leave):
            try:
                install(number, handler)
            except ValueError:  # not the main thread: Python cannot set handlers here
                return


def _leave(number: int, frame: FrameType | None) -> None:
    os._exit(0)


def _end(number: int, frame: FrameType | None) -> None:
    _early.append(number)
    if sum(early in COUNTED for early in _early) > 1:
        os._exit(IMPATIENT)
    if number in COUNTED or len(_early) == 1:  # the second SIGHUP of a closing terminal must not interrupt a `finally`
        raise Asked


def asked_early() -> bool:
    """Whether a signal came before the service ran, and other code has swallowed the exception."""
    return bool(_early)


def install(number: int, handler: Handler) -> Any:
    """signal.signal, except that children which the author's code forks get the default handlers back."""
    before = signal.signal(number, handler)
    _ours[number] = handler
    return before


class Asks:
    """Context in which the signals above call `stop`. For a service without HTTP, which is one process."""

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
            os._exit(IMPATIENT)  # a second signal means: do not wait for the drain
        self._stop()

    def _other(self, number: int, frame: FrameType | None) -> None:
        os.write(2, f"daebus: {signal.Signals(number).name} means nothing to this service\n".encode())


def _is_ignored_hangup(number: int) -> bool:
    return number not in COUNTED and signal.getsignal(number) is signal.SIG_IGN


@contextmanager
def blocked() -> Iterator[None]:
    """Block the signals during a fork. The child calls `unblock` once it has installed its own handlers."""
    signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)
    try:
        yield
    finally:
        unblock()


def unblock() -> None:
    signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING)


@contextmanager
def kept(numbers: Iterator[int] | list[int]) -> Iterator[None]:
    """Restores the handlers of these signals at the end."""
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
