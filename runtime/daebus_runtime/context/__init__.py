"""The context of the message, task run or thread that is being handled.

    __init__.py   Context, and which one is the current one      proxies.py    `request` and `response`
    requests.py   the objects behind `request`                   broadcasts.py `broadcast`
    responses.py  the object behind `response` in an action      cache.py      `cache`
    about.py      the fields of each log line                    trace.py      W3C Trace Context

A context belongs to the handler's greenlet and every greenlet that it spawns: gevent passes a greenlet's
`spawn_tree_locals` on to its children, and each message gets a new one. The OS thread of a blocking handler has the
context for the duration of the run. Nothing else is kept between messages.
"""

from __future__ import annotations

import functools
import hashlib
import secrets
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from gevent import getcurrent

from ..dispatch.guard import contain
from ..envelope import Identity, Request, Trail
from ..errors import OutsideHandler
from ..transport import Transport
from . import trace

if TYPE_CHECKING:
    import redis

SLOT = "daebus"
T = TypeVar("T")


class Service(Protocol):
    """What a context needs from the application."""

    @property
    def service(self) -> str | None: ...

    @property
    def transport(self) -> Transport: ...

    @property
    def redis(self) -> redis.Redis: ...


class Context:
    """One message, task run or thread, with its trace."""

    __slots__ = ("_sent", "_trace_id", "app", "handler", "request", "response")

    def __init__(self, app: Service, request: Any = None, response: Any = None, handler: str = "") -> None:
        self.handler = handler
        """Tells the handlers apart that run for one message."""
        self._sent = 0
        self.app = app
        self.request = request
        self.response = response
        self._trace_id: str | None = None

    @property
    def trail(self) -> Trail:
        """Where the message comes from, and until when its sender waits."""
        found = getattr(self.request, "trail", None)
        return found if isinstance(found, Trail) else Trail(correlation=getattr(self.request, "request_id", None))

    @property
    def trace_id(self) -> str:
        """The W3C trace id that came with the message, else a new one."""
        if self._trace_id is None:
            parts = trace.parse(getattr(self.request, "traceparent", None))
            self._trace_id = parts[1] if parts else secrets.token_hex(16)
        return self._trace_id

    @property
    def onward(self) -> Trail:
        """The trail for messages that the handler sends: same chain and deadline, one step further.

        It has a traceparent if the handled message had a valid one; Daebus does not start traces.
        """
        trail, request = self.trail, self.request
        traceparent = trace.onward(getattr(request, "traceparent", None))
        tracestate = trace.state(getattr(request, "tracestate", None)) if traceparent is not None else None
        cause = getattr(request, "request_id", None)
        return Trail(
            trail.deadline,
            correlation=trail.correlation,
            causation=cause,
            traceparent=traceparent,
            tracestate=tracestate,
        )

    def next_identity(self) -> Identity | None:
        """For a message that the handler sends to be stored: the same if the handled message is delivered again and the
        handler does the same again. None if the handled message is never repeated."""
        stored = getattr(getattr(self.request, "delivery", None), "id", None)
        if stored is None:
            return None
        self._sent += 1
        place = f"{stored} {self.handler} {self._sent}"
        return Identity(hashlib.blake2b(place.encode(), digest_size=16).hexdigest(), "")


def current() -> Context | None:
    """The context of this greenlet, if there is one."""
    local = getattr(getcurrent(), "spawn_tree_locals", None)
    return local.get(SLOT) if local else None


def pass_on(request: Request) -> float | None:
    """Give an outgoing request the trail of the message being handled. Returns its deadline (time.monotonic()), which
    holds for what is called on its behalf too; None without one."""
    if not _running:  # a program that only calls services has no contexts
        return None
    context = current()
    if context is None or context.request is None:
        return None
    onward = context.onward
    for name in ("traceparent", "tracestate", "correlation", "causation"):
        value = getattr(onward, name)
        if value is not None:
            request.raw[name] = value
    return onward.deadline


def identify(message: Request, given: object, content: Any) -> None:
    """Set what makes a message that is to be stored the same as another one: the author's id, if it is given; in a
    handler, its place in the handling of the message. InvalidArgument for an id that cannot be used."""
    if given is not None:
        message.identity = Identity.given(given, content)
        message.request_id = message.identity.id
    elif (context := current()) is not None:
        message.identity = context.next_identity()


def call_here(context: Context | None, function: Callable[..., T], *args: Any) -> T:
    """Call `function` with `context` as the context of this greenlet or OS thread. Only this function sets it."""
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
    """Call the author's function in a context, here or, with `run`, in an OS thread. Raises what `contain` raises."""
    if run is None:
        here: T = call_here(context, contain, function, *args)
        return here
    elsewhere: T = run(call_here, context, contain, function, *args)
    return elsewhere


def carried(function: Callable[..., T]) -> Callable[..., T]:
    """Wraps `function` so that it runs elsewhere (another thread, an executor) with the current context."""
    context = current()

    @functools.wraps(function)
    def run(*args: Any, **kwargs: Any) -> T:
        return call_here(context, functools.partial(function, *args, **kwargs))

    return run


_running: list[Service] = []


def running(app: Service, is_running: bool) -> None:
    """Called by the runner when an application starts or ends in this process."""
    if is_running and app not in _running:
        _running.append(app)
    elif not is_running and app in _running:
        _running.remove(app)


def running_app() -> Service | None:
    """The application that runs in this process; the latest if there are several."""
    return _running[-1] if _running else None


def get_daemon() -> Any:
    """The application whose message is being handled, else the one that runs in this process. OutsideHandler if there
    is none."""
    context = current()
    app = context.app if context is not None else running_app()
    if app is None:
        raise OutsideHandler("no Daebus application runs in this process yet")
    return app
