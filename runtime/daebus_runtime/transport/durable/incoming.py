"""The messages of the own service: read by credit, delivered, and ended in batches.

One `Incoming` is one replica on the bus. It has joined once the server knows it. It leaves when the service stops, and
it is superseded when the others took it for dead, or when the server has lost its data; then it joins under a new name.
"""

from __future__ import annotations

import functools
import hashlib
import os
import secrets
import socket
import time
from collections.abc import Callable
from typing import Any

import gevent

from ... import __version__, codec
from ...envelope import Request, error_reply, parse_request
from ...errors import DEADLINE_EXCEEDED, WORKER_DIED, BusUnavailable, MalformedMessage
from ...logs import runtime_logger
from .. import Delivery, Limits, Outcome, Subscription
from ..bus import Bus
from .delivery import DurableDelivery
from .endings import Endings
from .pulse import Pulse
from .steps import LOST, SUPERSEDED, Entry, Steps

MOST_READ = 128
MOST_READ_BESIDE = 16
"""The same where there are other replicas, which shall have their share."""
MOST_ENDED = 500  # Lua passes at most some thousand values to one command
RETRY_SECONDS = 0.5
ROOM_SECONDS = 0.02
"""How often a full service looks for room: requests over publish/subscribe do not say when they end."""
MOST_DEATHS = 3
VERSION = 2


class Incoming(Subscription):
    """The own service on the bus. `deliver` gets each message, `room` says how many more may come. Home loop only."""

    def __init__(
        self,
        bus: Bus,
        steps: Steps,
        service: str,
        deliver: Callable[[Delivery], None],
        room: Callable[[], int],
        limits: Limits,
    ) -> None:
        self._bus, self._home, self._steps, self.service = bus, bus.home, steps, service
        self._deliver, self._room, self.most, self._queue = deliver, room, limits.message, limits.queue
        self.check = steps.check
        self._reader = steps.reader(service)
        self.replica = self._pulse = None  # type: Any
        self._joined = self._joining = self._reading = self._taking = False
        self._free = self._full = False
        """Whether there may be messages that somebody gave back."""
        self.retiring = self._left = False
        self._refusal = ""
        self._held: dict[bytes, DurableDelivery] = {}
        """The messages that were read and not ended."""
        self._endings = Endings(bus, steps, service, lambda: self._present, self._not_ended, self.want)
        self.post, self.owe = self._endings.post, self._endings.owe

    # --- joining and leaving ----------------------------------------------------------------------------------------
    def join(self) -> None:
        """Make this replica known; called each time the bus is connected."""
        if self._joining or self._left or (self.retiring and self.replica is None):
            return
        self._joining = True
        if self.replica is None:
            self.replica = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}"
            self._steps.register(self.service, self.replica, self._about(), self._queue, self._registered)
        else:  # it may have been taken for dead meanwhile
            known = [*self._held, *self._endings.entries]
            self._steps.recover(self.service, self.replica, known, self._rejoined)

    def _about(self) -> bytes:
        about = {
            "name": self.replica,
            "version": __version__,
            "protocols": [1, VERSION],
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "started": round(time.time(), 3),
        }
        return codec.dumps(about)

    def _registered(self, value: Any) -> None:
        self._joining = False
        if isinstance(value, Exception):
            self._refused(value)
            return
        if self._pulse is None and (vitals := self._steps.vitals()) is not None:
            taken_out = functools.partial(self._home.run, self._superseded, self.replica)
            self._pulse = Pulse(vitals, self.service, self.replica, taken_out)
            self._pulse.start()
        self._go_on()

    def _rejoined(self, value: Any) -> None:
        self._joining = False
        if value is SUPERSEDED:
            self._superseded(self.replica)
        elif isinstance(value, Exception):
            self._refused(value)
        else:
            self._go_on()
            self._came(value)

    def _go_on(self) -> None:
        if self._refusal:
            runtime_logger.info("service %s receives its requests again", self.service)
            self._refusal = ""
        self._joined = self._free = True
        self._endings.resume()

    def _refused(self, error: Exception) -> None:
        self._joined = False
        text = str(error)
        if isinstance(error, BusUnavailable) and not self._bus.up:
            return  # the bus says so; it calls `join` once it is connected
        if text != self._refusal and not isinstance(error, BusUnavailable):
            runtime_logger.error(
                "the requests of service %s cannot be read: %s; this is tried again", self.service, text
            )
        self._refusal = text
        self._home.soon(gevent.spawn_later, RETRY_SECONDS, self.join)

    def _superseded(self, replica: str) -> None:
        if replica != self.replica or self._left:
            return
        running = len(self._held)
        runtime_logger.warning(
            "replica %s of service %s was taken out of the bus (paused for too long, or the server lost its data); "
            "the outcomes of its %d messages do not count",
            replica,
            self.service,
            running,
        )
        if self._pulse is not None:
            self._pulse.stop()
        self._pulse = self.replica = None
        self._joined = self._joining = False
        for delivery in self._held.values():
            delivery.released = True
        self._held.clear()
        self._endings.clear()
        if self._bus.up:
            self.join()

    def lost(self) -> None:
        """The bus is away."""
        self._joined = self._joining = False

    # --- reading ----------------------------------------------------------------------------------------------------
    def woken(self) -> None:
        """Somebody has given messages back."""
        self._free = True
        self.want()

    def want(self) -> None:
        """Read on, if there is room."""
        if not self._joined or self.retiring or self._reading:
            return
        room = min(self._room(), MOST_READ if self._crowd == 1 else MOST_READ_BESIDE)
        if room <= 0:
            if not self._full:
                self._full = True
                self._home.soon(gevent.spawn_later, ROOM_SECONDS, self._look_again)
            return
        self._reading = True
        if self._free:
            self._free = False
            self._steps.take(self.service, self.replica, room, functools.partial(self._taken, room))
        else:
            self._reader.read(self.replica, room, self._got)

    def _look_again(self) -> None:
        self._full = False
        self.want()

    def _taken(self, room: int, value: Any) -> None:
        if type(value) is tuple:
            self._free = len(value[0]) >= room  # there may be more
        self._got(value)

    def _got(self, value: Any) -> None:
        self._reading = False
        if type(value) is tuple:
            self._came(value)
            self.want()
        elif self.retiring:
            pass  # nothing more is read
        elif value is LOST:
            self._joined = False  # until it is known whether messages were lost with the connection
            if self._bus.up:
                self.join()
        elif value is SUPERSEDED:
            self._superseded(self.replica)
        elif "NOGROUP" in str(value):
            self._joined, self._joining = False, True
            self._steps.register(self.service, self.replica, self._about(), self._queue, self._registered)
        else:
            self._refused(value)

    def _came(self, value: tuple[list[Entry], int]) -> None:
        entries, server = value
        if not entries:
            return
        now = time.monotonic()
        for entry in entries:
            if entry.attempt == 1 and entry.entry > self._endings.newest:
                self._endings.newest = entry.entry
            deadline = None
            if entry.budget:
                deadline = now + min(entry.deadline - server, entry.budget) / 1000
            self._receive(entry, deadline)

    def _receive(self, entry: Entry, deadline: float | None) -> None:
        try:
            request = parse_request(entry.envelope, self.service)
        except MalformedMessage as error:
            self._bus.losses.lost(error.code, f"a message was refused: {error}")
            request = Request(self.service, "", request_id=entry.id)
            delivery = DurableDelivery(request, self, entry, deadline)
            delivery.settle(Outcome(error_reply(error.request_id, str(error), error.code)))
            return
        delivery = DurableDelivery(request, self, entry, deadline)
        self._held[entry.entry] = delivery
        if self.retiring:
            self._give_back()
        elif entry.attempt > MOST_DEATHS:
            text = f"action {request.action!r} was begun {MOST_DEATHS} times, and each time its worker died"
            runtime_logger.error("%s (request %s)", text, request.request_id)
            delivery.settle(Outcome(error_reply(request.request_id, text, WORKER_DIED)))
        else:
            self._deliver(delivery)

    # --- ending -----------------------------------------------------------------------------------------------------
    def too_late(self, delivery: DurableDelivery) -> None:
        """Its deadline is over: do not run it."""
        self._bus.metrics.drop(DEADLINE_EXCEEDED)
        text = f"the deadline of action {delivery.request.action!r} was over before it was begun"
        delivery.settle(Outcome(error_reply(delivery.request.request_id, text, DEADLINE_EXCEEDED)))

    def end(self, delivery: DurableDelivery) -> None:
        """The delivery was settled."""
        if self._held.pop(delivery.entry, None) is not None or not delivery.released:
            self._endings.add(delivery)

    def _not_ended(self, value: Any) -> None:
        if value is SUPERSEDED:
            self._superseded(self.replica)
        else:
            self._refused(value)

    # --- Subscription -----------------------------------------------------------------------------------------------
    def retire(self) -> None:
        """Read no more, and give back what was not begun."""
        self._home.run(self._retire)

    def _retire(self) -> None:
        self.retiring = True
        self._reader.stop()
        self._give_back()

    def _give_back(self) -> None:
        idle = [delivery for delivery in self._held.values() if not delivery.begun]
        for delivery in idle:
            delivery.released = True
            del self._held[delivery.entry]
        if idle and self._joined:
            entries = [delivery.entry for delivery in idle]
            self._steps.release(self.service, self.replica, entries, lambda value: None)

    def cancel(self) -> None:
        """Leave the bus."""
        self._home.run(self._leave)

    def _leave(self) -> None:
        self.retiring = True
        if self._left:
            return
        self._endings.flush()
        self._left = True
        self._reader.stop()
        if self._pulse is not None:
            self._pulse.stop()
        if self._joined:
            self._joined = False
            self._steps.leave(self.service, self.replica, lambda value: None)

    @property
    def retired(self) -> bool:
        return self.retiring

    @property
    def confirmed(self) -> bool:
        return self._joined or self.retiring

    @property
    def refused(self) -> str:
        return self._refusal

    @property
    def _present(self) -> str | None:
        """The name of this replica while the server knows it."""
        return self.replica if self._joined else None

    @property
    def _crowd(self) -> int:
        """How many replicas the service has, as last seen."""
        return 1 if self._pulse is None else len(self._pulse.alive)

    # --- messages that every replica gets -----------------------------------------------------------------------------
    def claim(self, data: bytes, delivery: Delivery) -> None:
        """Deliver a request that came over publish/subscribe, if no other replica does."""
        if self._crowd == 1 or not self._joined:
            self._deliver(delivery)
            return
        digest = hashlib.blake2b(data, digest_size=16).hexdigest()
        self._steps.claim(self.service, self.replica, digest, functools.partial(self._claimed, delivery))

    def _claimed(self, delivery: Delivery, value: Any) -> None:
        if value != 0:  # if the bus cannot decide: rather twice than never
            self._deliver(delivery)
