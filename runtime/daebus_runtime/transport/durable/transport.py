"""The transport of services: durable requests, and the compatible layer for everybody who does not speak them.

A request goes to the stream of its service. If no replica has registered there, but somebody listens on the channel of
the service, it is published instead: the envelope is the same.
"""

from __future__ import annotations

import functools
import time
import uuid
from collections.abc import Callable
from typing import Any

import gevent

from ... import codec, keys
from ...envelope import Request, error_reply, parse_replies
from ...errors import OVERLOADED, BusUnavailable, Overloaded, UnknownService
from .. import Capabilities, Delivery, EventSubscription, Limits, State, Subscription
from ..bus import Bus
from ..compatible import Compatible
from ..home import TIMEOUT, Waiter
from .events import Emission, Emitter, EventQueue, OwnEvents
from .incoming import Incoming
from .outgoing import Outgoing, Parcel
from .steps import ANY, DUPLICATE, UNKNOWN, Steps

FULL = "too many messages wait for the service; it takes no more now"
COMPATIBLE_SECONDS = 1.0
"""How long a service is taken for one that speaks the compatible layer only."""
RETURN_SECONDS = 3.0
"""After an outage the server may have lost its data. So long a service that nobody knows may be on its way back."""
ASK_SECONDS = 0.1
FIRST_ASK_SECONDS, MOST_ASK_SECONDS = 0.02, 0.5
"""How often the outcome of a call is asked for that somebody made before, under the same id."""


class Durable(Compatible):
    """See the module's docstring."""

    capabilities = Capabilities(durable=True, competing=True, redelivery=False)

    def __init__(self, bus: Bus, limits: Limits, steps: Steps) -> None:
        super().__init__(bus, limits)
        self._steps = steps
        self._process = uuid.uuid4().hex
        self._outgoing: dict[str, Outgoing] = {}
        self._published: dict[str, float] = {}
        """Services that speak the compatible layer only, and until when we believe it."""
        self._incoming: list[Incoming] = []
        self._calls: dict[Any, tuple[str, Parcel]] = {}
        """The requests that wait for a reply, with their service."""
        self._interrupted = False
        self._returning = 0.0
        """Until when services may be on their way back after an outage (time.monotonic)."""
        self._emitter = Emitter(self._home, steps, self._store_event, self._publish_event)
        bus.watch(self._changed)
        bus.inbox.on_confirmed = self._ask_again

    # --- the bus ----------------------------------------------------------------------------------------------------
    def _changed(self, state: Any, reason: str) -> None:
        if self.bus.up:
            if self._interrupted:
                self._interrupted, self._returning = False, time.monotonic() + RETURN_SECONDS
            for incoming in self._incoming:  # first, so that this process itself finds them
                incoming.join()
            for outgoing in self._outgoing.values():
                outgoing.resume()
        else:
            self._interrupted = self._interrupted or state is State.DOWN
            for incoming in self._incoming:
                incoming.lost()
                if state is State.CLOSED:
                    incoming.cancel()

    def _ask_again(self) -> None:
        """The inbox is heard again: replies that were published meanwhile stand in the records."""
        services: dict[str, list[Any]] = {}
        for service, parcel in self._calls.values():
            services.setdefault(service, []).append(parcel.id)
        for service, ids in services.items():
            self._steps.outcomes(service, ids, self._recorded)

    def _recorded(self, value: Any) -> None:
        if type(value) is list:
            for record in value:
                if record:
                    self.bus.inbox.arrived(self.bus.inbox.name, record)

    # --- sending ----------------------------------------------------------------------------------------------------
    def _begin(self, key: Any, request: Request, data: bytes, deadline: float) -> None:
        bus, service = self.bus, request.service
        if not bus.is_confirmed(self._inbox.name):
            self._inbox.when_heard(key, functools.partial(self._begin, key, request, data, deadline), deadline)
            return
        waiter = self._inbox.waiting.get(key)
        if waiter is None:
            return
        if self._published and self._published.get(service, 0.0) > time.monotonic():
            super()._begin(key, request, data, deadline)
            return
        identity, digest = _identity(request, request.action) if request.identity is not None else (key, "")
        stored = functools.partial(self._stored, key, key == request.request_id, waiter)
        parcel = Parcel(identity, data, deadline, stored, digest)
        self._calls[key] = service, parcel
        self._store(service, parcel)

    def _store(self, service: str, parcel: Parcel) -> None:
        bus = self.bus
        bus.metrics.sent += 1
        for observer in bus.observers:
            observer(keys.service_channel(service), parcel.envelope)
        self._to(service).add(parcel)

    def _to(self, service: str) -> Outgoing:
        outgoing = self._outgoing.get(service)
        if outgoing is None:
            outgoing = self._outgoing[service] = Outgoing(
                self._steps, self._home, self._process, service, lambda: self.bus.up, self._strayed
            )
            outgoing.accept_all = outgoing.known = keys.is_event_queue(service)
        return outgoing

    def _stored(self, key: Any, alone: bool, waiter: Waiter, value: Any) -> None:
        if value is DUPLICATE or (value is True and not alone):  # the reply goes to another call with this id
            self._ask_for_outcome(key, waiter, FIRST_ASK_SECONDS)
        elif value is False:
            self.bus.metrics.drop(OVERLOADED)
            waiter.wake(error_reply(key, FULL, OVERLOADED))
        elif isinstance(value, Exception):
            waiter.wake(value)

    def _ask_for_outcome(self, key: Any, waiter: Waiter, pause: float) -> None:
        call = self._calls.get(key)
        if call is None:
            return  # nobody waits for it any more

        def recorded(value: Any) -> None:
            if type(value) is list and value[0]:
                waiter.wake(parse_replies(value[0])[-1])
            else:
                longer = min(2 * pause, MOST_ASK_SECONDS)
                self._home.soon(gevent.spawn_later, pause, self._ask_for_outcome, key, waiter, longer)

        service, parcel = call
        self._steps.outcomes(service, [parcel.id], recorded)

    def _too_late(self, key: Any, request: Request, timeout: float) -> Exception:
        _, parcel = self._calls.get(key, (None, None))
        if self.bus.up and parcel is not None and not parcel.stored:
            return BusUnavailable(
                f"service {request.service!r}, action {request.action!r}: the bus did not say within {timeout:g} s "
                "whether it has the request"
            )
        return super()._too_late(key, request, timeout)

    def send(self, request: Request) -> int:
        data = codec.dumps(request.raw) if request.raw or request.action is None else request.encode()
        self.check_size(data)
        self.open()
        waiter = Waiter(self._home)
        identity, digest = next(self._inbox.fresh_ids), ""
        if request.identity is not None:
            identity, digest = _identity(request, request.action)
        parcel = Parcel(identity, data, None, waiter.wake, digest)
        self._home.run(self._store, request.service, parcel)
        value = waiter.wait(time.monotonic() + self.limits.send_seconds)
        parcel.wanted = False
        if value is TIMEOUT:
            raise BusUnavailable(f"service {request.service!r}: the bus did not take the message")
        if value is False:
            raise Overloaded(f"service {request.service!r}: {FULL}")
        if isinstance(value, UnknownService):
            return 0
        if isinstance(value, Exception):
            raise self._failed(request, value)
        return 1 if value is DUPLICATE else int(value)

    def _forget(self, key: Any) -> None:
        super()._forget(key)
        call = self._calls.pop(key, None)
        if call is not None:
            call[1].wanted = False

    def _strayed(self, service: str, why: str, parcels: list[Parcel]) -> None:
        """The service is unknown, or has no replica: does anybody listen on its channel?"""
        if self._outgoing[service].accept_all:  # an event queue has no channel
            self._counted(service, why, parcels, 0)
            return
        self.bus.count_listeners(keys.service_channel(service), functools.partial(self._counted, service, why, parcels))

    def _counted(self, service: str, why: str, parcels: list[Parcel], value: Any) -> None:
        if isinstance(value, Exception):
            for parcel in parcels:
                parcel.done(value)
        elif value > 0:
            self._published[service] = time.monotonic() + COMPATIBLE_SECONDS
            for parcel in parcels:
                parcel.stored = True
                self.bus.post(keys.service_channel(service), parcel.envelope, parcel.done, 0.0)
        elif why is not UNKNOWN or self._outgoing[service].known:
            self._outgoing[service].accept(parcels)
        elif time.monotonic() < self._returning:
            self._home.soon(gevent.spawn_later, ASK_SECONDS, self._ask_for, service, parcels)
        else:
            for parcel in parcels:
                parcel.done(UnknownService("no such service is known on this bus: it never ran here"))

    def _ask_for(self, service: str, parcels: list[Parcel]) -> None:
        for parcel in parcels:
            if parcel.wanted:
                self._outgoing[service].add(parcel)

    # --- events -----------------------------------------------------------------------------------------------------
    def send_event(self, event: Request) -> int:
        channel, plain = event.action or "", codec.dumps(event.payload)
        own = event.request_id or next(self._inbox.fresh_ids)
        identity, digest = _identity(event, channel) if event.identity is not None else (own, "")
        message = {"action": channel, "payload": event.payload, "request_id": own, **event.raw}
        data = codec.dumps(message)
        self.check_size(data)
        self.open()
        waiter = Waiter(self._home)
        emission = Emission(channel, identity, digest, data, plain, waiter.wake)
        self._home.run(self._emitter.emit, emission)
        value = waiter.wait(time.monotonic() + self.limits.send_seconds)
        if value is TIMEOUT:
            self._home.run(emission.give_up)
            raise BusUnavailable(f"channel {channel!r}: the bus did not take the event")
        if isinstance(value, Exception):
            raise type(value)(f"channel {channel!r}: {value}") from value
        return int(value)

    def _store_event(self, queue: str, parcel: Parcel) -> None:
        self.bus.metrics.sent += 1
        self._to(queue).add(parcel)

    def _publish_event(self, channel: str, data: bytes) -> None:
        self.bus.post(channel, data, None, 0.0)

    def consume_events(
        self, service: str, callback: Callable[[Delivery], None], room: Callable[[], int]
    ) -> EventSubscription:
        queue = EventQueue(self.bus, self._steps, service, callback, room, self.limits)
        woken = self.subscribe(keys.ServiceKeys(queue.service).wake, lambda channel, data: queue.woken())
        self._incoming.append(queue)
        if self.bus.up:
            self._home.run(queue.join)
        return OwnEvents(self._home, self._incoming, queue, woken)

    # --- receiving --------------------------------------------------------------------------------------------------
    def consume(
        self, service: str, callback: Callable[[Delivery], None], room: Callable[[], int] | None = None
    ) -> Subscription:
        published = Later(lambda: self._published_requests(service, incoming.claim))
        incoming = Incoming(
            self.bus, self._steps, service, callback, room or (lambda: 1000), self.limits, published.begin
        )
        woken = self.subscribe(keys.ServiceKeys(service).wake, lambda channel, data: incoming.woken())
        self._incoming.append(incoming)
        if self.bus.up:
            self._home.run(incoming.join)
        return Both(self._incoming, incoming, published, woken)


def _identity(message: Request, scope: str | None) -> tuple[Any, str]:
    """The id under which a message is stored, and its digest. An id is unique within the action or channel."""
    assert message.identity is not None
    return f"={scope} {message.identity.id}", message.identity.digest or ANY


class Later(Subscription):
    """A subscription that `begin` makes."""

    def __init__(self, make: Callable[[], Subscription]) -> None:
        self._make = make
        self._made: Subscription | None = None
        self._over = False

    def begin(self) -> None:
        if not self._over and self._made is None:
            self._made = self._make()

    def cancel(self) -> None:
        self._over = True
        if self._made is not None:
            self._made.cancel()

    def retire(self) -> None:
        self._over = True
        if self._made is not None:
            self._made.retire()

    @property
    def retired(self) -> bool:
        return self._over if self._made is None else self._made.retired

    @property
    def confirmed(self) -> bool:
        return self._over if self._made is None else self._made.confirmed

    @property
    def refused(self) -> str:
        return "" if self._made is None else self._made.refused


class Both(Subscription):
    """The requests of a service in its stream and on its channel."""

    def __init__(self, served: list[Incoming], incoming: Incoming, *channels: Subscription) -> None:
        self._served, self._incoming = served, incoming
        self._all: tuple[Subscription, ...] = (*channels, incoming)

    def cancel(self) -> None:
        if self._incoming in self._served:
            self._served.remove(self._incoming)
        for one in self._all:
            one.cancel()

    def retire(self) -> None:
        for one in self._all:
            one.retire()

    @property
    def retired(self) -> bool:
        return all(one.retired for one in self._all)

    @property
    def confirmed(self) -> bool:
        return all(one.confirmed for one in self._all)

    @property
    def refused(self) -> str:
        return next((one.refused for one in self._all if one.refused), "")
