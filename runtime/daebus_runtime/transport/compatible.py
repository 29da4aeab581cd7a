"""The compatible layer (wire.md §1): requests and replies over PUBLISH and SUBSCRIBE. At most once, not durable."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from typing import Any

from .. import codec, keys
from ..envelope import Reply, Request, error_reply, parse_request
from ..errors import (
    BusUnavailable,
    CallTimeout,
    InvalidArgument,
    MalformedMessage,
    MessageTooLarge,
    ReplyTooLarge,
    Unsupported,
)
from ..native import get_ident
from . import (
    Capabilities,
    Delivery,
    EventSubscription,
    Limits,
    Message,
    Outcome,
    Progress,
    State,
    Subscription,
    Transport,
)
from .bus import Bus
from .delivery import last_words
from .home import TIMEOUT, Waiter

ANSWER_SECONDS = 5.0  # how long Redis may take to answer a publish that it has received


class CompatibleDelivery(Delivery):
    """A request on the compatible layer. The server keeps nothing, so settling only sends the reply."""

    __slots__ = ("_kept", "_transport")

    def __init__(self, request: Request, transport: Compatible) -> None:
        self.request, self._transport = request, transport
        self.keep = self.answered = self.settled = False
        self._kept: bytes | None = None

    def reply(self, reply: Reply) -> None:
        data = reply.encode()
        try:
            if self.keep and reply.final:
                self._transport.check_size(data)
                self._kept = data
            else:
                self._post(data)
        except MessageTooLarge as error:
            raise ReplyTooLarge(str(error)) from None
        if reply.final:
            self.answered = True

    def settle(self, outcome: Outcome) -> None:
        if self.settled:
            return
        self.settled = True
        reply = outcome.reply
        if reply is not None and (not self.answered or self.keep):
            self._post(last_words(reply, self._transport.limits.message))
        elif self._kept is not None and outcome.error is None:
            self._post(self._kept)
        self.answered = True

    def _post(self, data: bytes) -> None:
        reply_to = self.request.reply_to
        if reply_to:
            self._transport.post(reply_to, data)


class Compatible(Transport):
    """Requests over `bus`, within `limits`."""

    capabilities = Capabilities()

    def __init__(self, bus: Bus, limits: Limits) -> None:
        self.bus, self.limits = bus, limits
        self._inbox, self._home = bus.inbox, bus.home

    # --- state ----------------------------------------------------------------------------------------------------
    def open(self) -> None:
        self.bus.open()

    def close(self) -> None:
        self.bus.close()

    def flush(self, timeout: float) -> bool:
        return self.bus.flush(timeout)

    @property
    def state(self) -> State:
        return self.bus.state

    @property
    def reason(self) -> str:
        return self.bus.reason

    def watch(self, callback: Callable[[State, str], None]) -> None:
        self.bus.watch(callback)

    def observe(self, callback: Callable[[str, bytes], None]) -> None:
        self.bus.observers.append(callback)

    # --- broadcasts -----------------------------------------------------------------------------------------------
    def publish(self, channel: str, data: bytes) -> int:
        self.check_size(data)
        self.open()
        waiter = Waiter(self._home)
        self._home.run(self.bus.post, channel, data, waiter.wake, self.limits.send_seconds)
        value = waiter.wait(time.monotonic() + self.limits.send_seconds + ANSWER_SECONDS)
        if value is TIMEOUT:
            raise BusUnavailable(f"channel {channel!r}: the bus did not answer for {ANSWER_SECONDS:g} s")
        if isinstance(value, Exception):
            error = self.bus.explain(value, channel)
            raise type(error)(f"channel {channel!r}: {error}")
        self.bus.metrics.sent += 1
        return int(value)

    def post(self, channel: str, data: bytes) -> None:
        """Publish without waiting for the number of receivers. Without a connection it waits up to `send_seconds`."""
        if len(data) > self.limits.message:
            self.check_size(data)
        bus, home = self.bus, self._home
        bus.metrics.sent += 1
        if get_ident() == home.thread:
            bus.post(channel, data, None, self.limits.send_seconds)
        else:
            home.run(bus.post, channel, data, None, self.limits.send_seconds)

    def check_size(self, data: bytes) -> None:
        """MessageTooLarge if `data` is too large to be sent."""
        if len(data) > self.limits.message:
            raise MessageTooLarge(
                f"the message has {len(data)} bytes, more than the {self.limits.message} that DAEBUS_MESSAGE_LIMIT "
                "allows; it was not sent"
            )

    def subscribe(self, channel: str, callback: Message) -> Subscription:
        self.open()
        return self.bus.channels.subscribe(channel, callback)

    # --- durable events -------------------------------------------------------------------------------------------
    def send_event(self, event: Request) -> int:
        raise Unsupported("this transport stores no events")

    def consume_events(
        self, service: str, callback: Callable[[Delivery], None], room: Callable[[], int]
    ) -> EventSubscription:
        raise Unsupported("this transport stores no events")

    # --- requests -------------------------------------------------------------------------------------------------
    def send(self, request: Request) -> int:
        data = codec.dumps(request.raw) if request.raw or request.action is None else request.encode()
        return self.publish(keys.service_channel(request.service), data)

    def consume(
        self, service: str, callback: Callable[[Delivery], None], room: Callable[[], int] | None = None
    ) -> Subscription:
        return self._published_requests(service, lambda data, delivery: callback(delivery))

    def _published_requests(self, service: str, callback: Callable[[bytes, Delivery], None]) -> Subscription:
        """Call `callback(bytes, delivery)` for each request on the service's channel."""

        def arrived(channel: str, data: bytes) -> None:
            try:
                request = parse_request(data, service)
            except MalformedMessage as error:
                self._refuse(error)
            else:
                callback(data, CompatibleDelivery(request, self))

        return self.subscribe(keys.service_channel(service), arrived)

    def _refuse(self, error: MalformedMessage) -> None:
        self.bus.losses.lost(error.code, f"a message was refused: {error}")
        if error.reply_to:
            self.post(error.reply_to, error_reply(error.request_id, str(error), error.code).encode())

    def request(self, request: Request, timeout: float, on_progress: Progress | None = None) -> Reply:
        deadline = time.monotonic() + timeout
        inbox = self._inbox
        if request.request_id is None:
            request.request_id = next(inbox.fresh_ids)
        key = request.request_id
        if key in inbox.waiting:  # another caller of this process has given the same id
            key = next(inbox.fresh_ids)
        request.reply_to = inbox.name
        data = request.encode()
        if len(data) > self.limits.message:
            self.check_size(data)
        if self.bus.state is not State.UP:
            self.open()
        waiter = inbox.waiting[key] = Waiter(self._home)
        try:
            if waiter.is_home:
                self._begin(key, request, data, deadline)
            else:
                self._home.run(self._begin, key, request, data, deadline)
            while True:
                value = waiter.wait(deadline)
                if type(value) is Reply:
                    if value.final:
                        return value
                    if on_progress is not None:
                        on_progress(value)
                elif value is TIMEOUT:
                    raise self._too_late(key, request, timeout)
                elif isinstance(value, Exception):
                    raise self._failed(request, value) from value
        finally:
            self._forget(key)

    def _forget(self, key: Any) -> None:
        """Nobody waits for the reply any more."""
        inbox = self._inbox
        inbox.waiting.pop(key, None)
        if inbox.not_begun or inbox.held:
            inbox.forget(key)

    def _begin(self, key: Any, request: Request, data: bytes, deadline: float) -> None:
        bus = self.bus
        if not bus.is_confirmed(self._inbox.name):
            self._inbox.when_heard(key, functools.partial(self._begin, key, request, data, deadline), deadline)
            return
        waiter = self._inbox.waiting.get(key)
        if waiter is not None:
            bus.metrics.sent += 1
            hold = 0.0 if bus.state is State.UP else deadline - time.monotonic()
            held = bus.post(keys.service_channel(request.service), data, waiter.wake_if_failed, hold)
            if held is not None:
                self._inbox.held[key] = held

    def _failed(self, request: Request, value: Exception) -> Exception:
        if isinstance(value, InvalidArgument):
            return type(value)(f"{_who(request)}: {value}")
        error = self.bus.explain(value, keys.service_channel(request.service))
        return type(error)(f"{_who(request)}: {error}")

    def _too_late(self, key: Any, request: Request, timeout: float) -> Exception:
        if self.bus.state is State.UP:
            return CallTimeout(f"{_who(request)}: no reply within {timeout:g} seconds")
        why = f" ({self.bus.reason})" if self.bus.reason else ""
        return BusUnavailable(f"{_who(request)}: the bus was not reachable{why}; gave up after {timeout:g} seconds")


def _who(request: Request) -> str:
    return f"service {request.service!r}, action {request.action!r}"
