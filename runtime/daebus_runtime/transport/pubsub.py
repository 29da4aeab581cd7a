"""Requests and replies over anything that can publish and subscribe: the compatible layer (wire.md §1). Not durable.

A subclass brings `_post`, `_listen` and `_unlisten`, and tells `_arrived`, `_confirmed`, and `_unlistened` once nothing
more can come; all of these run on the home loop. One reply inbox serves every caller of the process: replies find their
caller by request id.
"""

from __future__ import annotations

import abc
import itertools
import time
import uuid
from collections.abc import Callable
from typing import Any

from .. import keys
from ..envelope import Reply, Request, error_reply, parse_reply, parse_request
from ..errors import BusError, BusUnavailable, CallTimeout, MalformedMessage, MessageTooLarge
from ..logs import runtime_logger
from ..metrics import Metrics
from . import Capabilities, Delivery, Message, Outcome, Progress, State, Subscription, Transport
from .home import TIMEOUT, Home, Waiter

ANSWER_SECONDS = 5.0  # how long Redis may take to answer a publish that it has received
Callback = Callable[[Any], None]


class PubSubDelivery(Delivery):
    """A request on the compatible layer. Nothing is kept by the server, so there is nothing to settle."""

    __slots__ = ("_transport",)

    def __init__(self, request: Request, transport: PubSub) -> None:
        self.request, self._transport = request, transport
        self.keep = self.answered = self.settled = False
        self._kept = None

    def _check(self, data: bytes) -> None:
        if len(data) > self._transport.message_limit:
            self._transport._refuse_size(data)

    def _post(self, data: bytes) -> None:
        reply_to = self.request.reply_to
        if reply_to:
            self._transport.post(reply_to, data)

    def _end(self, data: bytes | None, outcome: Outcome) -> None:
        if data is not None:
            self._post(data)


def _ignore(channel: str, data: bytes) -> None:
    pass


class _ChannelSubscription(Subscription):
    def __init__(self, transport: PubSub, name: str, callback: Message) -> None:
        self._transport, self.name, self.callback = transport, name, callback
        self.retiring = False

    def cancel(self) -> None:
        self._transport.home.run(self._transport._remove, self)

    def retire(self) -> None:
        self._transport.home.run(self._transport._retire, self)

    @property
    def retired(self) -> bool:
        return self not in self._transport._subscriptions.get(self.name, ())

    @property
    def confirmed(self) -> bool:
        return self._transport._is_confirmed(self.name)


class PubSub(Transport):
    """See the module's text. `message_limit` in bytes, `send_seconds` as the setting of that name."""

    capabilities = Capabilities()

    def __init__(self, home: Home, *, message_limit: int, send_seconds: float, metrics: Metrics | None = None) -> None:
        self.home = home
        self.metrics = metrics or Metrics()
        self.message_limit, self.send_seconds = message_limit, send_seconds
        self._subscriptions: dict[str, tuple[_ChannelSubscription, ...]] = {}
        self._state, self._reason = State.CONNECTING, ""
        self._watchers: list[Callable[[State, str], None]] = []
        self._inbox: _ChannelSubscription | None = None
        self._inbox_name = keys.inbox_channel()
        self._prefix, self._count = uuid.uuid4().hex, itertools.count(1)
        self._waiting: dict[Any, Waiter] = {}
        self._before_inbox: dict[Any, tuple[str, bytes, float]] = {}

    # --- what a subclass brings -----------------------------------------------------------------------------------
    @abc.abstractmethod
    def _post(self, channel: str, data: bytes, callback: Callback | None, hold: float) -> None:
        """Publish; `callback` gets the number of receivers or an exception."""

    @abc.abstractmethod
    def _listen(self, name: str, pattern: bool) -> None: ...

    @abc.abstractmethod
    def _unlisten(self, name: str, pattern: bool) -> None: ...

    @abc.abstractmethod
    def _is_confirmed(self, name: str) -> bool: ...

    # --- state ----------------------------------------------------------------------------------------------------
    @property
    def state(self) -> State:
        return self._state

    @property
    def reason(self) -> str:
        return self._reason

    def watch(self, callback: Callable[[State, str], None]) -> None:
        self._watchers.append(callback)
        callback(self._state, self._reason)

    def _changed(self, state: State, reason: str = "") -> None:
        self._reason = reason
        if self._state in (state, State.CLOSED):
            return
        self._state = state
        for watcher in list(self._watchers):
            watcher(state, reason)

    # --- broadcasts -----------------------------------------------------------------------------------------------
    def publish(self, channel: str, data: bytes) -> int:
        if len(data) > self.message_limit:
            self._refuse_size(data)
        self.open()
        waiter = Waiter(self.home)
        self.home.run(self._post, channel, data, waiter.wake, self.send_seconds)
        value = waiter.wait(time.monotonic() + self.send_seconds + ANSWER_SECONDS)
        if value is TIMEOUT:
            raise BusUnavailable(f"channel {channel!r}: the bus did not answer for {ANSWER_SECONDS:g} s")
        if isinstance(value, Exception):
            error = value if isinstance(value, BusError) else BusError(str(value))
            raise type(error)(f"channel {channel!r}: {value}")
        self.metrics.sent += 1
        return int(value)

    def post(self, channel: str, data: bytes) -> None:
        """Publish without waiting for the number of receivers; held for `send_seconds` while there is no bus."""
        if len(data) > self.message_limit:
            self._refuse_size(data)
        self.metrics.sent += 1
        if self.home.is_here():
            self._post(channel, data, None, self.send_seconds)
        else:
            self.home.run(self._post, channel, data, None, self.send_seconds)

    def subscribe(self, channel: str, callback: Message) -> Subscription:
        subscription = _ChannelSubscription(self, channel, callback)
        self.open()
        self.home.run(self._add, subscription)
        return subscription

    def _add(self, subscription: _ChannelSubscription) -> None:
        there = self._subscriptions.get(subscription.name, ())
        self._subscriptions[subscription.name] = (*there, subscription)
        if all(other.retiring for other in there):
            self._listen(subscription.name, keys.is_pattern(subscription.name))

    def _remove(self, subscription: _ChannelSubscription) -> None:
        there = self._subscriptions.get(subscription.name, ())
        if subscription not in there:
            return
        subscription.callback = _ignore  # also when a message is on its way through `there` at this moment
        left = tuple(other for other in there if other is not subscription)
        if left:
            self._subscriptions[subscription.name] = left
        else:
            del self._subscriptions[subscription.name]
        if not subscription.retiring and all(other.retiring for other in left):
            self._unlisten(subscription.name, keys.is_pattern(subscription.name))

    def _retire(self, subscription: _ChannelSubscription) -> None:
        there = self._subscriptions.get(subscription.name, ())
        subscription.retiring = True
        if subscription in there and all(other.retiring for other in there):
            self._unlisten(subscription.name, keys.is_pattern(subscription.name))

    def _unlistened(self, name: str) -> None:
        for subscription in self._subscriptions.get(name, ()):
            if subscription.retiring:
                self._remove(subscription)

    def _arrived(self, name: str, channel: str, data: bytes) -> None:
        for subscription in self._subscriptions.get(name, ()):
            try:
                subscription.callback(channel, data)
            except Exception:
                runtime_logger.exception("a message on channel %r could not be taken in", channel)

    # --- requests -------------------------------------------------------------------------------------------------
    def send(self, request: Request) -> int:
        return self.publish(keys.service_channel(request.service), request.encode())

    def consume(
        self, service: str, callback: Callable[[Delivery], None], room: Callable[[], int] | None = None
    ) -> Subscription:
        def arrived(channel: str, data: bytes) -> None:
            try:
                request = parse_request(data, service)
            except MalformedMessage as error:
                self._refuse(error)
            else:
                callback(PubSubDelivery(request, self))

        return self.subscribe(keys.service_channel(service), arrived)

    def _refuse(self, error: MalformedMessage) -> None:
        self.metrics.drop(error.code)
        runtime_logger.warning("a message was refused: %s", error)
        if error.reply_to:
            self.post(error.reply_to, error_reply(error.request_id, str(error), error.code).encode())

    def request(self, request: Request, timeout: float, on_progress: Progress | None = None) -> Reply:
        deadline = time.monotonic() + timeout
        if request.request_id is None:
            request.request_id = f"{self._prefix}-{next(self._count)}"
        key = request.request_id
        request.reply_to = self._inbox_name
        data = request.encode()
        if len(data) > self.message_limit:
            self._refuse_size(data)
        if self._state is not State.UP:
            self.open()
        waiter = self._waiting[key] = Waiter(self.home)
        try:
            if waiter.is_home:
                self._begin(key, request.service, data, deadline)
            else:
                self.home.run(self._begin, key, request.service, data, deadline)
            while True:
                value = waiter.wait(deadline)
                if type(value) is Reply:
                    if value.final:
                        return value
                    if on_progress is not None:
                        on_progress(value)
                elif value is TIMEOUT:
                    raise self._too_late(request, timeout)
                elif isinstance(value, Exception):
                    raise BusUnavailable(f"service {request.service!r}, action {request.action!r}: {value}") from value
        finally:
            self._waiting.pop(key, None)
            if self._before_inbox:
                self._before_inbox.pop(key, None)

    def _too_late(self, request: Request, timeout: float) -> Exception:
        who = f"service {request.service!r}, action {request.action!r}"
        if self._state is State.UP:
            return CallTimeout(f"{who}: no reply within {timeout:g} seconds")
        why = f" ({self._reason})" if self._reason else ""
        return BusUnavailable(f"{who}: the bus was not reachable{why}; gave up after {timeout:g} seconds")

    def _begin(self, key: Any, service: str, data: bytes, deadline: float) -> None:
        if not self._is_confirmed(self._inbox_name):
            # A reply that nobody hears yet would be lost: ask only once the server has confirmed the inbox.
            if key in self._waiting:
                self._before_inbox[key] = (service, data, deadline)
            if self._inbox is None:
                self._inbox = _ChannelSubscription(self, self._inbox_name, self._replied)
                self._add(self._inbox)
            return
        waiter = self._waiting.get(key)
        if waiter is not None:
            self.metrics.sent += 1
            hold = 0.0 if self._state is State.UP else deadline - time.monotonic()
            self._post(keys.service_channel(service), data, waiter.wake_if_failed, hold)

    def _confirmed(self) -> None:
        if self._before_inbox and self._is_confirmed(self._inbox_name):
            waiting, self._before_inbox = self._before_inbox, {}
            for key, item in waiting.items():
                self._begin(key, *item)

    def _replied(self, channel: str, data: bytes) -> None:
        try:
            reply = parse_reply(data)
        except MalformedMessage as error:
            self._refuse(error)
            return
        try:
            waiter = self._waiting.get(reply.request_id)
        except TypeError:  # an id that is no text cannot be one of ours
            waiter = None
        if waiter is None:
            self.metrics.drop("late_reply")
        else:
            waiter.wake(reply)

    def _refuse_size(self, data: bytes) -> None:
        raise MessageTooLarge(
            f"the message has {len(data)} bytes, more than the {self.message_limit} that DAEBUS_MESSAGE_LIMIT allows; "
            "it was not sent"
        )

    def _fail_all(self, error: Exception) -> None:
        for waiter in list(self._waiting.values()):
            waiter.wake(error)
