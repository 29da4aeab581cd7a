"""Makes the standard library cooperative with gevent, even if the program has imported parts of it before. Done once
per process.

gevent replaces `ssl.SSLContext` and `ssl.SSLSocket` with its own classes. A module that has imported them by name keeps
the old classes. The setters of the old SSLContext look up their class by name, find the new one and recurse for ever.
So after patching, those names are set to the new classes, and the old class is repaired for existing contexts.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import functools
import importlib.metadata
import logging
import os
import ssl
import sys
import warnings
from collections.abc import Callable, Iterator
from typing import Any

from gevent import get_hub, monkey

from . import native
from .processes import patch_processes

SETTERS = ("options", "verify_flags", "verify_mode", "minimum_version", "maximum_version")
_done = False


def patch() -> None:
    """Patch everything. Gives at most one warning, which names modules that stay blocking, and the solution."""
    global _done
    if _done:
        return
    _done = True
    _patch()
    _free_logging()
    # Create the hub now: gevent imports modules for the first hub. If an OS thread created it while this thread creates
    # its own, each could wait for the other's import for ever.
    get_hub()
    patch_processes()


def _patch() -> None:
    if monkey.is_module_patched("socket") and monkey.is_module_patched("ssl"):
        return
    old = {name: getattr(ssl, name) for name in ("SSLContext", "SSLSocket")}
    with warnings.catch_warnings(), _one_scan_of_entry_points():
        warnings.simplefilter("ignore", monkey.MonkeyPatchWarning)
        monkey.patch_all()
    stubborn = _rebind(old) if ssl.SSLContext is not old["SSLContext"] else []
    if stubborn:
        warnings.warn(
            f"{', '.join(stubborn)} imported parts of ssl before Daebus could make them cooperative, so "
            "TLS in it blocks all other handlers; import daebus first",
            RuntimeWarning,
            stacklevel=_programs_frame(),
        )


@contextlib.contextmanager
def _one_scan_of_entry_points() -> Iterator[None]:
    """Context in which `importlib.metadata.entry_points` scans the installed packages only once.

    gevent asks for its plugins at each of the 25 steps of patching, and each time the files of all installed packages
    are read. Together these scans would take longer than the patching itself.
    """
    scan = importlib.metadata.entry_points
    found: list[Any] = []

    def entry_points(**params: Any) -> Any:
        if not found:
            found.append(scan())
        return found[0].select(**params) if params else found[0]

    importlib.metadata.entry_points = entry_points
    try:
        yield
    finally:
        importlib.metadata.entry_points = scan


def carry_into_executors(carried: Callable[[Any], Any]) -> None:
    """Make executors run a function with the context in which it was submitted; `carried` wraps the function.

    The threads of an executor live longer than the message during which they were started. Without this, later work
    would see that message instead of its own.
    """
    submit: Any = concurrent.futures.ThreadPoolExecutor.submit
    if getattr(submit, "carries", False):
        return

    @functools.wraps(submit)
    def submit_carried(self: Any, fn: Any, /, *args: Any, **kwargs: Any) -> Any:
        return submit(self, carried(fn), *args, **kwargs)

    submit_carried.carries = True  # type: ignore[attr-defined]
    concurrent.futures.ThreadPoolExecutor.submit = submit_carried  # type: ignore[method-assign]


def _programs_frame() -> int:
    """The stack level of the program's own import statement, for `warnings.warn`."""
    level, frame = 1, sys._getframe(1)
    ours = (os.path.dirname(__file__) + os.sep, os.path.dirname(importlib.__file__) + os.sep, "<frozen importlib")
    while frame.f_back is not None and (
        frame.f_code.co_filename.startswith(ours) or frame.f_globals.get("__name__") == "daebus"
    ):
        # `warnings` does not count the frames of the import machinery.
        level += not frame.f_code.co_filename.startswith("<frozen importlib")
        frame = frame.f_back
    return level


def _free_logging() -> None:
    """Make all logging handlers, existing and future ones, use native locks.

    A gevent lock can lose a wake-up when more than two OS threads wait for it; then nothing is ever logged again.
    Writing a record usually does not switch greenlets, so a native lock is held only briefly. If it does switch (a
    handler that writes to a socket), the lock is reentrant, so other greenlets of the thread are not blocked.
    """
    make = native.make_rlock

    def create_lock(handler: logging.Handler) -> None:
        handler.lock = make()
        logging._register_at_fork_reinit_lock(handler)  # type: ignore[attr-defined]

    logging.Handler.createLock = create_lock  # type: ignore
    logging._lock = make()  # type: ignore[attr-defined]
    for reference in list(logging._handlerList):  # type: ignore[attr-defined]
        handler = reference()
        if handler is not None and handler.lock is not None:
            handler.createLock()


def _rebind(old: dict[str, Any]) -> list[str]:
    """Point names taken from ssl to the new classes; the modules that subclassed an old one, which nothing can
    repair."""
    context, sock = old["SSLContext"], old["SSLSocket"]
    _repair(context, ssl.SSLContext)
    for module in list(sys.modules.values()):
        if module is None or module is ssl or getattr(module, "__name__", "").startswith("gevent"):
            continue
        names = getattr(module, "__dict__", None)
        for name in [n for n, value in list((names or {}).items()) if value is context or value is sock]:
            original = next(key for key, value in old.items() if value is names[name])  # type: ignore[index]
            setattr(module, name, getattr(ssl, original))
    new = set(map(id, (ssl.SSLContext, ssl.SSLSocket)))
    derived = [c for o in old.values() for c in o.__subclasses__() if id(c) not in new]
    return sorted({c.__module__ for c in derived if not c.__module__.startswith("gevent")})


def _repair(old: Any, new: Any) -> None:
    base = old.__mro__[1]
    for name in SETTERS:
        inherited = getattr(base, name, None)
        if inherited is not None:
            getter = vars(old)[name].fget if isinstance(vars(old).get(name), property) else inherited.__get__
            setattr(old, name, property(getter, inherited.__set__))
    # Existing contexts now wrap sockets cooperatively too.
    old.wrap_socket, old.sslsocket_class = new.wrap_socket, new.sslsocket_class
