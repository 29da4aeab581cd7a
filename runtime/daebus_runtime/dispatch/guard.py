"""The one rule for what the author's code raises, wherever that is: handler, listener, hook, task, thread, route.

Whatever is raised ends that run and nothing else. It is logged once with its traceback, counted as a failure, and
answered where somebody waits. `sys.exit()`, KeyboardInterrupt, gevent.Timeout and every other BaseException are no
different: none of them stops the service. Only a kill passes: a GreenletExit that another greenlet threw in ends its
greenlet, because whoever killed it may wait for its end.

`contain` runs the author's function and keeps that rule, so that its callers need `except FAULTS` and no more.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import gevent

from ..errors import HandlerAborted

T = TypeVar("T")
ASYNCIO_ERRORS = ("cannot be called from a running event loop", "while another loop is running")
FAULTS = (Exception, gevent.Timeout, SystemExit)
"""What comes out of `contain` when the author's function fails. A thread may tell SystemExit from the others."""


def contain(function: Callable[..., T], *args: Any) -> T:
    """Call the author's function. What it raises is one of FAULTS, or a kill.

    A BaseException that is none of FAULTS comes out as HandlerAborted, with the original as its cause.
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
    """Name the cure in the traceback of an error that comes of where the handler runs."""
    if isinstance(error, RuntimeError) and any(text in str(error) for text in ASYNCIO_ERRORS):
        error.add_note(
            "asyncio allows one loop in a thread, and handlers on greenlets share one thread: blocking=True (for a "
            "thread: native=True) runs the handler in an OS thread, where it may have a loop of its own"
        )


def is_kill(error: BaseException) -> bool:
    """Whether another greenlet threw this GreenletExit in. It then comes out of gevent's switch, not out of a `raise`
    in the author's code."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    module = trace.tb_frame.f_globals.get("__name__", "") if trace is not None else "gevent"
    return bool(module.partition(".")[0] == "gevent")
