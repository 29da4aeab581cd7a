"""Durable events. Each service that listens has a queue for them, beside that of its requests; its replicas share it.

A sender asks which services listen on the channel, stores the event for each, and then publishes it once for plain
listeners and for programs on the original. In a queue an event is a request whose action is the channel.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import gevent

from ... import keys
from ...envelope import EventRequest, Request, parse_request
from ...errors import BusUnavailable, Overloaded, UnknownService
from .. import Delivery, EventSubscription, Limits, Subscription
from ..bus import Bus
from ..home import Home
from .incoming import Incoming
from .outgoing import AGAIN_SECONDS, Parcel
from .steps import DUPLICATE, Entry, Steps, free_for

RENEW_SECONDS = 3600.0
"""How often a service says again that it listens; the list forgets it after some months."""


class Emission:
    """One event on its way. `done` gets the number of services that it is stored for, or an exception.

    id, envelope: of the stored message. plain: what plain listeners get.
    """

    def __init__(
        self, channel: str, identity: str, digest: str, envelope: bytes, plain: bytes, done: Callable[[Any], None]
    ) -> None:
        self.channel, self.id, self.digest, self.envelope = channel, identity, digest, envelope
        self.plain, self.done = plain, done
        self.wanted = True
        self.parcels: list[Parcel] = []
        self.stored = self.left = self.fresh = 0
        self.error: Exception | None = None

    def give_up(self) -> None:
        """Its sender waits no more: what was not sent is not sent."""
        self.wanted = False
        for parcel in self.parcels:
            parcel.wanted = False


class Emitter:
    """Sends events in the order of the calls. `store(queue, parcel)` puts one into the queue of a service, `publish`
    is for plain listeners. Home loop only."""

    def __init__(
        self,
        home: Home,
        steps: Steps,
        store: Callable[[str, Parcel], None],
        publish: Callable[[str, bytes], None],
    ) -> None:
        self._home, self._steps, self._store, self._publish = home, steps, store, publish
        self._held: list[Emission] = []
        """What waits until the server can be asked."""

    def emit(self, emission: Emission) -> None:
        if self._held:
            self._hold(emission)
        else:
            self._steps.listeners(emission.channel, functools.partial(self._found, emission))

    def _hold(self, emission: Emission) -> None:
        self._held.append(emission)
        if len(self._held) == 1:
            self._home.soon(gevent.spawn_later, AGAIN_SECONDS, self._again)

    def _again(self) -> None:
        held, self._held = self._held, []
        for emission in held:
            if emission.wanted:
                self.emit(emission)

    def _found(self, emission: Emission, value: Any) -> None:
        if isinstance(value, BusUnavailable):
            self._hold(emission)
        elif isinstance(value, Exception):
            emission.done(value)
        elif emission.wanted:
            emission.left = len(value)
            for service in value:
                stored = functools.partial(self._stored, emission, service)
                parcel = Parcel(emission.id, emission.envelope, None, stored, emission.digest)
                emission.parcels.append(parcel)
                self._store(keys.event_queue(service), parcel)
            if not value:
                self._end(emission)

    def _stored(self, emission: Emission, service: str, value: Any) -> None:
        if value is True or value is DUPLICATE:
            emission.stored += 1
            emission.fresh += value is True
        elif value is False:
            emission.error = Overloaded(f"too many events wait for service {service!r}; it takes no more now")
        elif not isinstance(value, UnknownService):  # it was not seen for so long that nothing is kept for it
            emission.error = value
        emission.left -= 1
        if not emission.left:
            self._end(emission)

    def _end(self, emission: Emission) -> None:
        if emission.error is None and (emission.fresh or not emission.stored):  # plain listeners get it once, too
            self._publish(emission.channel, emission.plain)
        emission.done(emission.error or emission.stored)


class EventQueue(Incoming):
    """The queue of the own service, and the channels that it listens on."""

    what = "event"
    keeps_outcomes = False

    def __init__(
        self,
        bus: Bus,
        steps: Steps,
        service: str,
        deliver: Callable[[Delivery], None],
        room: Callable[[], int],
        limits: Limits,
    ) -> None:
        super().__init__(bus, steps, keys.event_queue(service), deliver, room, limits)
        self._listener = service
        self._channels: dict[str, bool] = {}
        """Each with whether the server knows that this service listens there."""
        self._renewing = False

    def consumers(self) -> dict[str, None]:
        return super().consumers() | dict.fromkeys(map(free_for, self._channels))

    def handles(self, request: Request) -> bool:
        # During an update the other version of the service may listen where this one does not.
        return request.action in self._channels

    def parse(self, entry: Entry) -> EventRequest:
        request = parse_request(entry.envelope, self._listener)
        return EventRequest(self._listener, request.action, request.payload, None, request.request_id, request.raw)

    def listen(self, channel: str) -> None:
        """Events on this channel are for this service from now on."""
        if channel not in self._channels:
            self._channels[channel] = False
            if self._entered and self._bus.up:
                self._tell(channel)
        if not self._renewing:
            self._renewing = True
            self._home.soon(gevent.spawn_later, RENEW_SECONDS, self._renew)

    def _register(self, again: bool) -> None:
        # Before the rest, so that a ready replica is one whose events are kept.
        for channel in self._channels:
            self._tell(channel)
        super()._register(again)

    def _tell(self, channel: str) -> None:
        self._steps.listen(channel, self._listener, functools.partial(self._told, channel))

    def _told(self, channel: str, value: Any) -> None:
        if not isinstance(value, Exception):
            self._channels[channel] = True
            self.refusals.works("listen")
        elif not isinstance(value, BusUnavailable):
            self.not_done("listen", value)

    def _renew(self) -> None:
        self._renewing = not self._left
        if self._renewing:
            self._home.soon(gevent.spawn_later, RENEW_SECONDS, self._renew)
            for channel in self._channels if self._joined else ():
                self._tell(channel)

    def resume(self) -> None:
        for channel, told in self._channels.items():
            if not told:
                self._tell(channel)
        super().resume()

    def forget(self) -> None:
        self._channels = dict.fromkeys(self._channels, False)
        super().forget()

    @property
    def confirmed(self) -> bool:
        return super().confirmed and (self.retiring or all(self._channels.values()))


class OwnEvents(EventSubscription):
    """What the service holds: its queue, and the channel that wakes it."""

    def __init__(self, home: Home, served: list[Incoming], queue: EventQueue, woken: Subscription) -> None:
        self._home, self._served, self._queue, self._woken = home, served, queue, woken

    def listen(self, channel: str) -> None:
        self._home.run(self._queue.listen, channel)

    def cancel(self) -> None:
        if self._queue in self._served:
            self._served.remove(self._queue)
        self._woken.cancel()
        self._queue.cancel()

    def retire(self) -> None:
        self._woken.retire()
        self._queue.retire()

    @property
    def retired(self) -> bool:
        return self._woken.retired and self._queue.retired

    @property
    def confirmed(self) -> bool:
        return self._woken.confirmed and self._queue.confirmed

    @property
    def refused(self) -> str:
        return self._woken.refused or self._queue.refused
