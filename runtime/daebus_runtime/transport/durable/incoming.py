"""The messages of the own service: read by credit, delivered, given back."""

from __future__ import annotations

import functools
import hashlib
import time
from collections.abc import Callable
from typing import Any

import gevent

from ...envelope import Request, error_reply, parse_request
from ...errors import DEADLINE_EXCEEDED, WORKER_DIED, BusUnavailable, MalformedMessage
from ...logs import runtime_logger
from .. import Delivery, Limits, Outcome, Subscription
from ..bus import Bus
from .delivery import DurableDelivery
from .endings import Endings
from .membership import Membership
from .steps import FREE, LOST, SUPERSEDED, VERSION, Entry, Steps, free_for

MOST_READ = 128
MOST_READ_BESIDE = 16
"""The same where there are other replicas, which shall have their share."""
ROOM_SECONDS = 0.02
"""How often a full service looks for room: requests over publish/subscribe do not say when they end."""
MOST_DEATHS = 3
AGREE_SECONDS = 0.8
"""How long a replica that is not the only one waits before it receives published requests: longer than the others may
believe that they are alone (ALONE_SECONDS)."""


class Incoming(Membership, Subscription):
    """The own service on the bus. `deliver` gets each message, `room` says how many more may come. `channel` is called
    once this replica may receive what all replicas get. Home loop only."""

    what = "action"
    keeps_outcomes = True
    """Whether somebody may ask for the outcomes of its messages."""

    def __init__(
        self,
        bus: Bus,
        steps: Steps,
        service: str,
        deliver: Callable[[Delivery], None],
        room: Callable[[], int],
        limits: Limits,
        channel: Callable[[], None] | None = None,
    ) -> None:
        super().__init__(bus, steps, service, limits.queue)
        self._channel = channel
        self._deliver, self._room, self.most = deliver, room, limits.message
        self.check = steps.check
        self._reader = steps.reader(service)
        self._reading = self._taking = self._full = False
        self._free: dict[str, None] = {}
        """The consumers that may have messages which somebody gave back."""
        self._passed: set[int | str] = set()
        """What has been said to be missing here."""
        self._twice: set[bytes] | None = None
        """While two answers may bring the same message: those that have come."""
        self._doubted = False
        """Whether deliveries were dropped that the next recovery has to bring."""
        self._alone: DurableDelivery | None = None
        """The last message that came for its last attempt."""
        self._held: dict[bytes, DurableDelivery] = {}
        """The messages that were read and not ended."""
        self._endings = Endings(self, bus, steps, self.want)
        self.post, self.owe = self._endings.post, self._endings.owe

    # --- as a member --------------------------------------------------------------------------------------------------
    def known(self) -> list[bytes]:
        return [*self._held, *self._endings.entries]

    def recovering(self) -> None:
        self._twice, self._doubted = set(), False

    def recovered(self, value: Any) -> bool:
        if self._doubted:
            return False
        self._came(value)
        self._twice = self._twice if self._reading else None
        return True

    def resume(self) -> None:
        self._free = self.consumers()
        self._endings.resume()

    def settled(self) -> None:
        if self._channel is not None:
            self._steps.count(self.service, self._counted)

    def _counted(self, value: Any) -> None:
        """How many replicas there are. If there are others, each must know of this one before it gets what they get."""
        if not isinstance(value, BusUnavailable):  # else it joins again
            alone = not isinstance(value, int) or value <= 1
            self._home.soon(gevent.spawn_later, 0 if alone else AGREE_SECONDS, self._open_channel)

    def _open_channel(self) -> None:
        begin, self._channel = self._channel, None
        if begin is not None and not self.retiring:
            begin()

    def forget(self) -> None:
        self._twice = None
        for delivery in self._held.values():
            delivery.released = True
        self._held.clear()
        self._endings.clear()

    # --- what only some replicas can handle ---------------------------------------------------------------------------
    def consumers(self) -> dict[str, None]:
        """The consumers of free messages that this replica can handle."""
        return {FREE: None}

    def handles(self, request: Request) -> bool:
        """Whether this replica can handle a message, as far as its action or channel goes."""
        return True

    def _pass_on(self, entry: Entry, need: int | str) -> None:
        if need not in self._passed:
            self._passed.add(need)
            what = f"version {need} of the envelope" if isinstance(need, int) else f"a durable listener on {need!r}"
            text = "messages of service %s wait for another replica: this one has not %s"
            runtime_logger.warning(text, self.service, what)
        self._steps.release(self.service, self.replica, free_for(need), [entry.entry], lambda value: None)

    # --- reading ------------------------------------------------------------------------------------------------------
    def woken(self) -> None:
        self._free = self.consumers()
        self.want()

    def want(self) -> None:
        """Read on, if there is room."""
        if not self._joined or self.retiring or self._taking:
            return
        # The free ones are older, so they come first.
        free = bool(self._free) and (self._alone is None or self._alone.entry not in self._held)
        if self._reading and not free:
            return
        room = min(self._room(), MOST_READ if self.crowd == 1 else MOST_READ_BESIDE)
        if room <= 0:
            self._look_again()
        elif free:
            self._taking, consumer = True, next(iter(self._free))
            del self._free[consumer]
            taken = functools.partial(self._taken, self.replica, consumer)
            self._steps.take(self.service, self.replica, consumer, room, MOST_DEATHS, taken)
        else:
            self._reading = True
            self._reader.read(self.replica, room, functools.partial(self._read, self.replica))

    def _look_again(self) -> None:
        if not self._full:
            self._full = True
            self._home.soon(gevent.spawn_later, ROOM_SECONDS, self._perhaps)

    def _perhaps(self) -> None:
        self._full = False
        self.want()

    def _taken(self, replica: str, consumer: str, value: Any) -> None:
        self._taking = False
        if replica != self.replica:
            self.want()
            return
        if type(value) is not tuple or value[0]:  # there may be more
            self._free = {consumer: None, **self._free}
        self._got("take", value)

    def _read(self, replica: str, value: Any) -> None:
        self._reading = False
        if replica != self.replica:  # it was taken out meanwhile, so nobody else will find what this has read
            if value is LOST or (type(value) is tuple and value[0]):
                self._steps.leave(self.service, replica, lambda value: None)
            self.want()
        elif type(value) is tuple and value[0] and self.doubtful:
            self.ask_again()  # which brings them again
        else:
            self._got("read", value)
            if not self._joining:
                self._twice = None

    def _got(self, what: str, value: Any) -> None:
        if type(value) is tuple:
            self.refusals.works(what)
            self._came(value)
            self.want()
        elif self._left:
            pass
        elif value is SUPERSEDED:
            self.superseded(self.replica)
        elif value is LOST or "UNBLOCKED" in str(value):
            self.ask_again()
        else:
            self.not_done(what, value)

    def _came(self, value: tuple[list[Entry], int]) -> None:
        entries, server = value
        if not entries:
            return
        if self._twice is not None:
            entries = [entry for entry in entries if entry.entry not in self._twice]
            self._twice.update([entry.entry for entry in entries])
        now = time.monotonic()
        if entries:
            self._endings.have_read(entries[-1].entry)
        for entry in entries:
            deadline = None
            if entry.budget:
                deadline = now + min(entry.deadline - server, entry.budget) / 1000
            self._receive(entry, deadline)

    def parse(self, entry: Entry) -> Request:
        """The message of an entry. MalformedMessage."""
        return parse_request(entry.envelope, self.service)

    def _receive(self, entry: Entry, deadline: float | None) -> None:
        if entry.entry in self._held:
            return  # somebody has removed the group, and the new one begins anew
        if entry.version > VERSION:
            self._pass_on(entry, entry.version)
            return
        try:
            request = self.parse(entry)
        except MalformedMessage as error:
            self._bus.losses.lost(error.code, f"a message was refused: {error}")
            request = Request(self.service, "", reply_to=error.reply_to, request_id=error.request_id)
            delivery = DurableDelivery(request, self, entry, deadline)
            delivery.settle(Outcome(error_reply(error.request_id, str(error), error.code)))
            return
        if not self.handles(request):
            self._pass_on(entry, request.action or "")
            return
        delivery = self._held[entry.entry] = DurableDelivery(request, self, entry, deadline)
        if not self.keeps_outcomes:
            delivery.key = ""
        if entry.attempt > 1:
            self._bus.metrics.redelivered += 1
            if entry.attempt >= MOST_DEATHS:
                self._alone = delivery
        if self.retiring:
            self._give_back()
        elif entry.attempt > MOST_DEATHS:
            self._too_often(delivery)
        else:
            self._deliver(delivery)

    def _too_often(self, delivery: DurableDelivery) -> None:
        request = delivery.request
        text = f"{self.what} {request.action!r} was begun {MOST_DEATHS} times, and each time its worker died"
        runtime_logger.error("%s (request %s)", text, request.request_id)
        delivery.settle(Outcome(error_reply(request.request_id, text, WORKER_DIED)))

    # --- what a delivery needs ----------------------------------------------------------------------------------------
    def doubt(self, delivery: DurableDelivery) -> None:
        """This replica may be dead for the others: ask before a message is begun. It comes again, here or elsewhere."""
        self._doubted = True
        delivery.released = True
        self._held.pop(delivery.entry, None)
        self.ask_again()

    def too_late(self, delivery: DurableDelivery) -> None:
        """Its deadline is over: do not run it."""
        self._bus.metrics.drop(DEADLINE_EXCEEDED)
        text = f"the deadline of action {delivery.request.action!r} was over before it was begun"
        delivery.settle(Outcome(error_reply(delivery.request.request_id, text, DEADLINE_EXCEEDED)))

    def end(self, delivery: DurableDelivery) -> None:
        """The delivery was settled."""
        if self._held.pop(delivery.entry, None) is not None or not delivery.released:
            self._endings.add(delivery)

    # --- messages that every replica gets -----------------------------------------------------------------------------
    def claim(self, data: bytes, delivery: Delivery) -> None:
        """Deliver a request that came over publish/subscribe, if no other replica does."""
        if self.alone or not self._joined:
            self._deliver(delivery)
            return
        digest = hashlib.blake2b(data, digest_size=16).hexdigest()
        self._steps.claim(self.service, self.replica, digest, functools.partial(self._claimed, delivery))

    def _claimed(self, delivery: Delivery, value: Any) -> None:
        if value != 0:  # if the bus cannot decide: rather twice than never
            self._deliver(delivery)

    # --- Subscription -------------------------------------------------------------------------------------------------
    def retire(self) -> None:
        """Read no more, and give back what was not begun."""
        self._home.run(self._retire)

    def _retire(self) -> None:
        self.retiring = True
        self._reader.cut_short()
        self._give_back()

    def _give_back(self) -> None:
        idle = [delivery for delivery in self._held.values() if not delivery.begun]
        for delivery in idle:
            delivery.released = True
            del self._held[delivery.entry]
        if idle and self._joined:
            entries = [delivery.entry for delivery in idle]
            self._steps.release(self.service, self.replica, FREE, entries, lambda value: None)

    def cancel(self) -> None:
        """Leave the bus."""
        self._home.run(self._leave)

    def _leave(self) -> None:
        self.retiring = True
        if not self._left:
            self._endings.flush()
            self.depart()
            self._reader.close()

    @property
    def retired(self) -> bool:
        return self.retiring and not self._reading and not self._taking

    @property
    def confirmed(self) -> bool:
        return (self._joined and not self.refused) or self.retiring

    @property
    def refused(self) -> str:
        return self.refusals.reason
