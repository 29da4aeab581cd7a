"""What is being handled here: the context of one message, task run or thread.

    __init__.py   Context, and which one is the current one      proxies.py    `request` and `response`
    requests.py   what `request` can stand for                   broadcasts.py `broadcast`
    responses.py  what `response` stands for in an action        cache.py      `cache`
    about.py      what each log line says of the context

"Here" is the handler's greenlet and every greenlet it spawns: gevent hands a greenlet's `spawn_tree_locals` to its
children, and each message gets a fresh one. OS threads of blocking handlers set theirs for the length of the run.
Nothing else is kept between messages.
"""

from __future__ import annotations

import functools
import secrets
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from gevent import getcurrent

from ..dispatch.guard import contain
from ..envelope import Request, Trail
from ..errors import OutsideHandler
from ..transport import Transport

if TYPE_CHECKING:
    import redis

SLOT = "daebus"
T = TypeVar("T")


class Service(Protocol):
    """What a context needs to know of the application."""

    @property
    def service(self) -> str | None: ...

    @property
    def transport(self) -> Transport: ...

    @property
    def redis(self) -> redis.Redis: ...


class Context:
    """One message, task run or thread, and what may be said about it."""

    __slots__ = ("_trace_id", "app", "request", "response")

    def __init__(self, app: Service, request: Any = None, response: Any = None) -> None:
        self.app = app
        self.request = request
        self.response = response
        self._trace_id: str | None = None

    @property
    def trail(self) -> Trail:
        """Where the message comes from and until when it is wanted."""
        found = getattr(self.request, "trail", None)
        return found if isinstance(found, Trail) else Trail(correlation=getattr(self.request, "request_id", None))

    @property
    def trace_id(self) -> str:
        """The W3C trace id that came with the message, else a new one."""
        if self._trace_id is None:
            parts = self._trace()
            self._trace_id = parts[1] if parts else secrets.token_hex(16)
        return self._trace_id

    @property
    def onward(self) -> Trail:
        """The trail of a message that is sent from here: the same chain and deadline, one step further.

        It has a traceparent when the handled message had one. Daebus begins no trace of its own.
        """
        trail, parts = self.trail, self._trace()
        traceparent = "-".join((parts[0], parts[1], secrets.token_hex(8), parts[3])) if parts else None
        cause = getattr(self.request, "request_id", None)
        return Trail(trail.deadline, correlation=trail.correlation, causation=cause, traceparent=traceparent)

    def _trace(self) -> list[str]:
        given = getattr(self.request, "traceparent", None)
        parts = given.split("-") if isinstance(given, str) else []
        return parts if [len(part) for part in parts] == [2, 32, 16, 2] else []


def current() -> Context | None:
    """The context of this greenlet, if there is one."""
    local = getattr(getcurrent(), "spawn_tree_locals", None)
    return local.get(SLOT) if local else None


def pass_on(request: Request) -> None:
    """Give a request that is sent from here the trace of the message being handled, where that has one."""
    if not _running:  # a program that only calls: there are no contexts
        return
    context = current()
    if context is not None and getattr(context.request, "traceparent", None) is not None:
        traceparent = context.onward.traceparent
        if traceparent is not None:
            request.raw["traceparent"] = traceparent


def call_here(context: Context | None, function: Callable[..., T], *args: Any) -> T:
    """Call `function` with `context` as the one of this greenlet or OS thread. The only place that sets it."""
    greenlet: Any = getcurrent()
    before = getattr(greenlet, "spawn_tree_locals", None)
    greenlet.spawn_tree_locals = {SLOT: context} if context is not None else {}
    try:
        return function(*args)
    finally:
        greenlet.spawn_tree_locals = before or {}


def call_in_context(
    context: Context, function: Callable[..., T], *args: Any, run: Callable[..., Any] | None = None
) -> T:
    """Call the author's function in a context, here or, with `run`, in an OS thread. Raises what `contain` does."""
    if run is None:
        here: T = call_here(context, contain, function, *args)
        return here
    elsewhere: T = run(call_here, context, contain, function, *args)
    return elsewhere


def carried(function: Callable[..., T]) -> Callable[..., T]:
    """`function`, run elsewhere (another thread, an executor) with the context of this moment."""
    context = current()

    @functools.wraps(function)
    def run(*args: Any, **kwargs: Any) -> T:
        return call_here(context, functools.partial(function, *args, **kwargs))

    return run


_running: list[Service] = []


def running(app: Service, is_running: bool) -> None:
    """Told by the runner: which applications run in this process."""
    if is_running and app not in _running:
        _running.append(app)
    elif not is_running and app in _running:
        _running.remove(app)


def running_app() -> Service | None:
    """The application that runs in this process, the latest if there are several."""
    return _running[-1] if _running else None


def get_daemon() -> Any:
    """The application whose message is handled here, else the one that runs in this process. OutsideHandler when
    there is none."""
    context = current()
    app = context.app if context is not None else running_app()
    if app is None:
        raise OutsideHandler("no Daebus application runs in this process yet")
    return app
