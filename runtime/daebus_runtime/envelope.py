"""The messages of the compatible wire format (wire.md §1) as objects, and their bytes. Knows nothing of transports and
handlers.

A `Request` goes to a service, a `Reply` comes back. Encoding and parsing of both are here, so that one module defines
the format.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from typing import Any

from . import codec, keys
from .errors import ERROR, InvalidArgument, MalformedMessage

SUCCESS = "success"
MOST_ID = 200


@dataclasses.dataclass(frozen=True, slots=True)
class Trail:
    """Where a message comes from, and until when its sender waits.

    deadline: when its sender stops waiting, in this process's time.monotonic(). attempt: 1 for the first delivery.
    correlation: id of the message that started the chain. causation: id of the message whose handler sent this one.
    traceparent, tracestate: the W3C trace context.
    """

    deadline: float | None = None
    attempt: int = 1
    correlation: Any = None
    causation: Any = None
    traceparent: str | None = None
    tracestate: str | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Identity:
    """What makes two messages the same one.

    id: as the author gave it, or made by Daebus; unique for the target service and action, or for the channel. digest:
    of the content, which must be the same; empty if that does not matter.
    """

    id: str
    digest: str

    @classmethod
    def given(cls, identity: object, payload: Any) -> Identity:
        """For an id that the author gave. InvalidArgument if it cannot be one."""
        if not isinstance(identity, str) or not 0 < len(identity) <= MOST_ID or keys.UNUSABLE.search(identity):
            form = f"an id has 1 to {MOST_ID} characters, no white space or control characters, and is Unicode"
            raise InvalidArgument(f"{form}: {str(identity)[:60]!r}")
        return cls(identity, hashlib.blake2b(codec.dumps(_ordered(payload)), digest_size=12).hexdigest())


def _ordered(value: Any) -> Any:
    """The same value with its keys in order."""
    if isinstance(value, dict):
        return {key: _ordered(value[key]) for key in sorted(value, key=str)}
    return [_ordered(one) for one in value] if isinstance(value, (list, tuple)) else value


@dataclasses.dataclass(slots=True)
class Request:
    """One request. `raw` is the whole message object, including fields that this version does not know.

    attempt: 1 for the first delivery. deadline: when its caller stops waiting, in time.monotonic(); None if the sender
    gave none. delivery: what the transport has received; None for a request that is being sent. identity: of a request
    to be sent that may be sent again.
    """

    service: str
    action: str | None
    payload: Any = None
    reply_to: str | None = None
    request_id: Any = None
    raw: dict[str, Any] = dataclasses.field(default_factory=dict)
    attempt: int = dataclasses.field(default=1, repr=False, compare=False)
    deadline: float | None = dataclasses.field(default=None, repr=False, compare=False)
    delivery: Any = dataclasses.field(default=None, repr=False, compare=False)
    identity: Identity | None = dataclasses.field(default=None, repr=False, compare=False)

    def __getstate__(self) -> dict[str, Any]:
        # A copy is the message; it cannot be answered or committed.
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self) if field.name != "delivery"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.delivery = None
        for name, value in state.items():
            setattr(self, name, value)

    @property
    def redelivered(self) -> bool:
        """Whether an earlier run of this message may have begun: its replica died, or lost the bus. Always False on the
        compatible layer, which never repeats a message."""
        return self.attempt > 1

    def commit(self, pipe: Any) -> None:
        """Run a Redis pipeline's commands in one step with the outcome of this message: if and only if the handler
        returns, and once, however often the message is delivered.

        pipe: of `cache.pipeline()`; its commands are taken over now, so it may be left or used again. May be called
        several times. Redis does not roll back: what it refuses later does not undo the commands before it.
        ValueError for a pipeline with WATCH, and for commands that cannot run in a script.
        """
        if self.delivery is None:
            raise TypeError("only a request that is being handled can be committed")
        self.delivery.commit(pipe)

    @property
    def trail(self) -> Trail:
        """Where the message comes from, and until when its sender waits."""
        get = self.raw.get
        return Trail(
            self.deadline, self.attempt, get("correlation", self.request_id), get("causation"), self.traceparent
        )

    @property
    def traceparent(self) -> Any:
        """The W3C trace context, if the sender gave one."""
        return self.raw.get("traceparent")

    @property
    def tracestate(self) -> Any:
        """What tracing systems add to the trace context, if the sender gave it."""
        return self.raw.get("tracestate")

    def encode(self) -> bytes:
        """The bytes for PUBLISH on the service's channel."""
        message = {
            "action": self.action,
            "payload": self.payload,
            "reply_to": self.reply_to,
            "request_id": self.request_id,
            "service": self.service,
        }
        if self.raw:
            message |= self.raw  # traceparent, correlation, causation; the original ignores unknown fields
        return codec.dumps(message)


class EventRequest(Request):
    """`request` in a durable listener: one event. `request_id` is the same in each delivery of it."""

    __slots__ = ()

    @property
    def channel(self) -> str:
        """The channel that it was sent on."""
        return self.action or ""


class _Requests(type):
    """Makes every Request an instance of PubSubRequest."""

    def __instancecheck__(cls, instance: object) -> bool:
        return isinstance(instance, Request)


class PubSubRequest(Request, metaclass=_Requests):
    """The public name of a request. Made from its fields, or, as authors' tests do, from its message: a JSON object or
    its text.

    TypeError for anything else, ValueError for a text that is not a JSON object. A missing payload becomes `{}`; a
    payload that is a text with JSON in it is parsed.
    """

    __slots__ = ()

    def __init__(self, data: str | dict[str, Any], *fields: Any, **named: Any) -> None:
        if fields or named:
            super().__init__(data, *fields, **named)  # type: ignore[arg-type]
            return
        if not isinstance(data, (str, dict)):
            raise TypeError(f"a request is made from a dict or its JSON text, not from {data!r}")
        message = _object(data.encode()) if isinstance(data, str) else data
        get, payload = message.get, message.get("payload", {})
        payload = _parse_text(payload) if isinstance(payload, str) else payload
        super().__init__(get("service"), get("action"), payload, get("reply_to"), get("request_id"), message)  # type: ignore[arg-type]


def progress_data(payload: Any, percentage: float | None) -> dict[str, Any]:
    """The payload of a progress reply: an object that includes the percentage."""
    data = dict(payload) if isinstance(payload, Mapping) else {"data": payload}
    if percentage is not None:
        data["progress_percentage"] = percentage
    return data


@dataclasses.dataclass(slots=True)
class Reply:
    """One reply. `final` is False for progress and for intermediate results."""

    request_id: Any
    payload: Any
    status: str = SUCCESS
    final: bool = True
    code: str | None = None

    @property
    def ok(self) -> bool:
        return self.status != "error"

    @property
    def error_text(self) -> str:
        """The error as text, whatever shape the other side gave it."""
        error = self.payload.get("error", self.payload) if isinstance(self.payload, dict) else self.payload
        return error if isinstance(error, str) else codec.dumps(error).decode()

    def encode(self) -> bytes:
        message = {"status": self.status, "payload": self.payload, "request_id": self.request_id, "final": self.final}
        if self.code is not None:
            message["code"] = self.code
        return codec.dumps(message)


def error_reply(request_id: Any, text: str, code: str = ERROR) -> Reply:
    """A final error reply, in the form that programs with the original Daebus understand."""
    return Reply(request_id, {"error": text}, status="error", code=code)


_MISSING: Any = object()


def parse_request(data: bytes, service: str) -> Request:
    """The request in `data`, received by `service`.

    Raises MalformedMessage for bytes that are not a JSON object with an `action`; it says where to send the error.
    """
    try:
        message = codec.loads(data)
        get = message.get
    except (ValueError, AttributeError):
        get = _object(data).get  # says what is wrong with it
    action, reply_to, payload = get("action"), get("reply_to"), get("payload", _MISSING)
    if type(reply_to) is not str:
        reply_to = None
    if type(action) is not str or not action:
        raise MalformedMessage(
            "a request needs a text field 'action'", reply_to=reply_to or None, request_id=get("request_id")
        )
    if payload is _MISSING:
        payload = {}
    elif type(payload) is str:
        payload = _parse_text(payload)
    return Request(service, action, payload, reply_to or keys.responses_channel(service), get("request_id"), message)


def _parse_text(payload: str) -> Any:
    """A payload that is a text: parsed if it is JSON, else unchanged."""
    try:
        return codec.loads(payload)
    except ValueError:
        return payload


def parse_replies(data: bytes) -> list[Reply]:
    """The replies in `data`: one JSON object, or, from the durable layer, a list of them. Raises MalformedMessage."""
    try:
        message = codec.loads(data)
    except ValueError as error:
        raise MalformedMessage(f"the message is not JSON: {error}") from None
    return [_reply(one) for one in (message if type(message) is list else (message,))]


def _reply(message: Any) -> Reply:
    """A missing `final` means true."""
    if type(message) is not dict:
        raise MalformedMessage(f"the message is JSON, but not an object: {type(message).__name__}")
    get = message.get
    status, code = get("status", SUCCESS), get("code")
    return Reply(
        get("request_id"),
        get("payload"),
        status if type(status) is str else SUCCESS,
        get("final", True) is not False,
        code if type(code) is str else None,
    )


def _object(data: bytes) -> dict[str, Any]:
    try:
        message = codec.loads(data)
    except ValueError as error:
        raise MalformedMessage(f"the message is not JSON: {error}") from None
    if type(message) is not dict:
        raise MalformedMessage(f"the message is JSON, but not an object: {type(message).__name__}")
    return message
