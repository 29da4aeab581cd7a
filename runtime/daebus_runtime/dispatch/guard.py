"""The rule for exceptions of the author's code, the same for handlers, listeners, hooks, tasks, threads and routes.

An exception ends this run and nothing else. It is logged once with its traceback, counted as a failure, and answered if
somebody waits. This also holds for `sys.exit()`, KeyboardInterrupt, gevent.Timeout and every other BaseException: none
of them stops the service. The only exception to the rule is a kill: a GreenletExit thrown by another greenlet ends the
greenlet, because the killer may wait for its end.

`contain` runs the author's function by this rule, so its callers only need `except FAULTS`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import gevent

from ..errors import HandlerAborted

T = TypeVar("T")
ASYNCIO_ERRORS = ("cannot be called from a running event loop", "while another loop is running")
FAULTS = (Exception, gevent.Timeout, SystemExit)
"""What `contain` raises when the author's function fails. Threads treat SystemExit differently from the others."""


def contain(function: Callable[..., T], *args: Any) -> T:
    """Call the author's function. Raises only FAULTS, or the GreenletExit of a kill.

    Any other BaseException is raised as HandlerAborted, with the original as its cause.
    """
    try:
        return function(*args)
    except FAULTS as error:
        advise(error)
        raise
    except gevent.GreenletExit as error:
        if is_kill(error):
            raise
        raise HandlerAborted(str(error) or type(error).__name__) from error
    except BaseException as error:
        raise HandlerAborted(str(error) or type(error).__name__) from error


def advise(error: BaseException) -> None:
    """Add a note with the solution to asyncio's errors about a loop that already runs in the thread."""
    if isinstance(error, RuntimeError) and any(text in str(error) for text in ASYNCIO_ERRORS):
        error.add_note(
            "asyncio allows one loop in a thread, and handlers on greenlets share one thread: blocking=True (for a "
            "thread: native=True) runs the handler in an OS thread, where it may have a loop of its own"
        )


def is_kill(error: BaseException) -> bool:
    """Whether another greenlet threw this GreenletExit. Then it comes from gevent's `switch`, not from a `raise` in the
    author's code."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    module = trace.tb_frame.f_globals.get("__name__", "") if trace is not None else "gevent"
    return bool(module.partition(".")[0] == "gevent")
