"""`request`, `response`, `broadcast`, `cache` and `logger`: always those of the message being handled here.

"Here" is the handler's greenlet and every greenlet it spawns: gevent hands a greenlet's `spawn_tree_locals` to its
children, and each message gets a fresh one. OS threads of blocking handlers set theirs for the length of the run.
Nothing else is kept between messages. Outside a handler `request` and `response` raise OutsideHandler; `broadcast` and
`cache` then belong to the service that runs in this process.
"""

from __future__ import annotations

import concurrent.futures
import functools
import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol, TypeVar

import redis
from gevent import getcurrent

from . import codec, keys, logs
from .dispatch import DONE, Outcome
from .dispatch.faults import code_of, text_of
from .dispatch.guard import contain
from .envelope import Reply, error_reply
from .envelope import Request as PubSubRequest
from .errors import ERROR, OutsideHandler
from .transport import Delivery, Transport

_SLOT = "daebus"
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
    def trace_id(self) -> str:
        """The W3C trace id that came with the message, else a new one."""
        if self._trace_id is None:
            given = getattr(self.request, "traceparent", None)
            parts = given.split("-") if isinstance(given, str) else []
            known = len(parts) == 4 and len(parts[1]) == 32
            self._trace_id = parts[1] if known else secrets.token_hex(16)
        return self._trace_id


def current() -> Context | None:
    """The context of this greenlet, if there is one."""
    local = getattr(getcurrent(), "spawn_tree_locals", None)
    return local.get(_SLOT) if local else None


@contextmanager
def active(context: Context | None) -> Iterator[None]:
    """Make `context` the one of this greenlet (or OS thread) for the length of the block."""
    greenlet: Any = getcurrent()
    before = getattr(greenlet, "spawn_tree_locals", None)
    greenlet.spawn_tree_locals = {_SLOT: context} if context is not None else {}
    try:
        yield
    finally:
        greenlet.spawn_tree_locals = before or {}


def carried(function: Callable[..., T]) -> Callable[..., T]:
    """`function`, run elsewhere (another thread, an executor) with the context of this moment."""
    context = current()

    @functools.wraps(function)
    def run(*args: Any, **kwargs: Any) -> T:
        with active(context):
            return function(*args, **kwargs)

    return run


def _carry_into_executors() -> None:
    # A pool's thread lives longer than the message during which it was started: without this, work handed to it later
    # would see that message instead of its own.
    submit = concurrent.futures.ThreadPoolExecutor.submit

    def submit_carried(self: Any, fn: Any, /, *args: Any, **kwargs: Any) -> Any:
        return submit(self, carried(fn), *args, **kwargs)

    concurrent.futures.ThreadPoolExecutor.submit = submit_carried  # type: ignore[method-assign]


_carry_into_executors()

_running: list[Service] = []


def running(app: Service, is_running: bool) -> None:
    """Told by the runner: which applications run in this process."""
    if is_running and app not in _running:
        _running.append(app)
    elif not is_running and app in _running:
        _running.remove(app)


def get_daemon() -> Any:
    """The application whose message is handled here, else the one that runs in this process. OutsideHandler when
    there is none."""
    context = current()
    if context is not None:
        return context.app
    if _running:
        return _running[-1]
    raise OutsideHandler("no Daebus application runs in this process yet")


# --- messages on the bus
# ------------------------------------------------------------------------------------------------


class PubSubResponse:
    """The ways an action answers. A final reply ends the exchange; one that is sent after it is logged and dropped."""

    __slots__ = ("_delivery",)

    def __init__(self, delivery: Delivery) -> None:
        self._delivery = delivery

    @property
    def answered(self) -> bool:
        return self._delivery.answered

    def send(self, data: Any, final: bool = True) -> None:
        """Send `data` (anything codec.py encodes); `final=False` sends an intermediate reply."""
        self._reply(Reply(self._delivery.request.request_id, data, final=bool(final)))

    success = send

    def error(self, err: Any, final: bool = True) -> None:
        """Send an error; the caller's exception carries its text, and an exception's `code` when that is a short
        text."""
        if isinstance(err, BaseException):
            text, code = text_of(err), code_of(err)
        else:
            text, code = err if isinstance(err, str) else codec.dumps(err).decode(), ERROR
        reply = error_reply(self._delivery.request.request_id, text, code)
        reply.final = bool(final)
        self._reply(reply)

    def progress(self, payload: Any, percentage: float | None = None) -> None:
        """Send an intermediate reply; the caller's `on_progress` gets it."""
        data = dict(payload) if isinstance(payload, Mapping) else {"data": payload}
        if percentage is not None:
            data["progress_percentage"] = percentage
        self._reply(Reply(self._delivery.request.request_id, data, final=False))

    def _reply(self, reply: Reply) -> None:
        if self._delivery.answered:
            logs.runtime_logger.warning("a reply after the final one was not sent (request %s)", reply.request_id)
        else:
            self._delivery.reply(reply)


def answering(
    app: Service, function: Callable[[], Any], run: Callable[..., Any] | None = None, keep: bool = False
) -> Callable[[Delivery], Outcome]:
    """The innermost handler of an action: the author's function in its context. `run` puts it into an OS thread;
    `keep` holds the final reply back until the delivery is settled."""

    def handle(delivery: Delivery) -> Outcome:
        delivery.keep = keep
        context = Context(app, delivery.request, PubSubResponse(delivery))
        if run is None:
            greenlet: Any = getcurrent()
            greenlet.spawn_tree_locals = {_SLOT: context}
            try:
                result = function()
            finally:
                greenlet.spawn_tree_locals = {}
        else:
            result = run(_in_context, context, function)
        if result is not None and not delivery.answered:
            delivery.reply(Reply(delivery.request.request_id, result))
        return DONE

    return handle


def _in_context(context: Context, function: Callable[..., T], *args: Any) -> T:
    with active(context):
        return contain(function, *args)


def call_in_context(
    context: Context, function: Callable[..., T], *args: Any, run: Callable[..., Any] | None = None
) -> T:
    """Call the author's function in a context, here or, with `run`, in an OS thread."""
    if run is None:
        return _in_context(context, function, *args)
    result: T = run(_in_context, context, function, *args)
    return result


class ListenRequest:
    """A broadcast as a listener sees it through `request`."""

    __slots__ = ("channel", "payload", "raw", "request_id", "service", "traceparent")

    def __init__(self, service: str | None, channel: str, payload: Any) -> None:
        self.payload = self.raw = payload
        self.channel = channel
        self.service = service
        self.request_id = None
        self.traceparent = payload.get("traceparent") if isinstance(payload, dict) else None


class TaskRequest:
    """A scheduled run as a task sees it: `scheduled` is the planned time in Unix seconds."""

    __slots__ = ("name", "payload", "request_id", "scheduled", "service")

    def __init__(self, service: str | None, name: str, scheduled: float) -> None:
        self.name, self.scheduled, self.service = name, scheduled, service
        self.request_id = None
        self.payload: dict[str, Any] = {}


# --- what is imported by name
# -------------------------------------------------------------------------------------------


class _Here:
    """Leads each attribute to the object of the message being handled here."""

    __slots__ = ("_slot",)

    def __init__(self, slot: str) -> None:
        object.__setattr__(self, "_slot", slot)

    def __getattr__(self, name: str) -> Any:
        try:
            greenlet: Any = getcurrent()
            return getattr(getattr(greenlet.spawn_tree_locals[_SLOT], self._slot), name)
        except (AttributeError, KeyError):
            return getattr(self._target(), name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._target(), name, value)

    def __repr__(self) -> str:
        return f"<{self._slot} of the message being handled>"

    def _target(self) -> Any:
        context = current()
        if context is None:
            raise OutsideHandler(
                f"`{self._slot}` can be used only while a message is handled: in a handler or what it calls"
            )
        target = getattr(context, self._slot)
        if target is None:
            raise OutsideHandler(f"there is no `{self._slot}` here: nobody waits for an answer to what is handled now")
        return target


class Broadcast:
    """Publishes on the bus the service runs on."""

    def send(self, channel: str, payload: dict[str, Any]) -> int:
        """Publish a JSON object; the number of receivers that this server saw.

        ValueError for a bad channel name, TypeError for a payload that is no dict or has no JSON form,
        MessageTooLarge above `DAEBUS_MESSAGE_LIMIT`, BusUnavailable when there is no bus for `DAEBUS_SEND_SECONDS`.
        """
        return publish_object(get_daemon().transport, channel, payload)


def publish_object(transport: Transport, channel: str, payload: Any) -> int:
    """Publish `payload`, which must be a dict, as JSON. Errors as in Broadcast.send."""
    keys.check_channel(channel)
    if not isinstance(payload, dict):
        raise TypeError(f"a broadcast's payload is a dict, not {type(payload).__name__}")
    return transport.publish(channel, codec.dumps(payload))


class _Cache:
    """The Redis client of the service, text in and out; every command of redis-py's `Redis`."""

    def __getattr__(self, name: str) -> Any:
        return getattr(get_daemon().redis, name)

    def __repr__(self) -> str:
        return "<the service's Redis client>"


request: Any = _Here("request")
response: Any = _Here("response")
broadcast = Broadcast()
cache: Any = _Cache()


def _about() -> Mapping[str, Any]:
    context = current()
    if context is None:
        return {"service": _running[-1].service} if _running else {}
    about: dict[str, Any] = {"service": context.app.service}
    if context.request is not None:
        if (request_id := getattr(context.request, "request_id", None)) is not None:
            about["request_id"] = request_id
        about["trace_id"] = context.trace_id
    return about


logs.bind(_about)

__all__ = ["PubSubRequest", "PubSubResponse", "broadcast", "cache", "get_daemon", "request", "response"]
