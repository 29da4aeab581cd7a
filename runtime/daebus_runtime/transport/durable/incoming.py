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
from ...envelope import Reply, Request, error_reply, parse_request
from ...errors import DEADLINE_EXCEEDED, WORKER_DIED, BusUnavailable, MalformedMessage, ReplyTooLarge
from ...logs import runtime_logger
from ...native import get_ident
from .. import Delivery, Limits, Outcome, Subscription
from ..bus import Bus
from ..delivery import SHORT_TEXT
from .commands import taken
from .pulse import TAKEN_OUT, TROUBLE, TRUSTED_SECONDS, Pulse
from .steps import LOST, SUPERSEDED, Ending, Entry, Steps

MOST_READ = 128
MOST_READ_BESIDE = 16
"""The same where there are other replicas, which shall have their share."""
MOST_ENDED = 500  # Lua passes at most some thousand values to one command
RETRY_SECONDS = 0.1
MOST_DEATHS = 3
REGROUP_SECONDS = 0.5  # errors that arrive so soon after each other have the same cause
VERSION = 2


def _place(entry: bytes) -> tuple[int, int]:
    """Orders the ids of entries: milliseconds and a number, "1700000000000-9" before "1700000000000-10"."""
    ms, _, number = entry.partition(b"-")
    return int(ms or 0), int(number or 0)


class DurableDelivery(Delivery):
    """One message of the stream. It is acknowledged, and its outcome recorded, when it is settled."""

    __slots__ = (
        "_incoming",
        "answer",
        "attempt",
        "begun",
        "commands",
        "deadline",
        "entry",
        "key",
        "published",
        "released",
        "size",
    )

    def __init__(self, request: Request, incoming: Incoming, entry: Entry, deadline: float | None) -> None:
        self.request, self._incoming = request, incoming
        request.attempt, request.deadline, request.delivery = entry.attempt, deadline, self
        self.keep = self.answered = self.settled = self.begun = self.released = self.published = False
        self.entry, self.key, self.size = entry.entry, entry.id, len(entry.envelope)
        self.attempt, self.deadline = entry.attempt, deadline
        self.answer: bytes | None = None
        """The final reply, until it was sent."""
        self.commands: list[Any] = []

    def begin(self) -> bool:
        if self.released or self.settled:
            return False
        if self._incoming.doubtful:
            self._incoming.doubt(self)
            return False
        self.begun = True
        if self.deadline is not None and time.monotonic() >= self.deadline:
            self._incoming.too_late(self)
            return False
        return True

    def abandon(self, outcome: Outcome) -> None:
        self.settled = self.released = True  # it becomes free when this replica leaves

    def commit(self, pipe: Any) -> None:
        commands = taken(pipe)
        if fault := self._incoming.check(commands):
            raise ValueError(f"request.commit: {fault}")
        self.keep = True
        self.commands += commands

    def reply(self, reply: Reply) -> None:
        data = reply.encode()
        if len(data) > self._incoming.most:
            raise ReplyTooLarge(f"the reply has {len(data)} bytes, more than DAEBUS_MESSAGE_LIMIT allows")
        if not reply.final:
            self._incoming.post(self.request.reply_to, data)
            return
        self.answer = data
        self.answered = True
        if not self.keep:
            self._incoming.owe(self)

    def settle(self, outcome: Outcome) -> None:
        if self.settled:
            return
        self.settled = True
        reply = outcome.reply
        if reply is not None and (not self.answered or self.keep):
            data = reply.encode()
            if len(data) > self._incoming.most:
                short = {"error": reply.error_text[:SHORT_TEXT]}
                data = Reply(reply.request_id, short, "error", code=reply.code).encode()
            self.answer = data
        self.answered = True
        if outcome.error is not None:
            self.commands.clear()
        self._incoming.end(self)

    def _check(self, data: bytes) -> None: ...

    def _post(self, data: bytes) -> None: ...

    def _end(self, data: bytes | None, outcome: Outcome) -> None: ...


class Incoming(Subscription):
    """The own service on the bus. `deliver` gets each message, `room` says how many more may come. Home loop only, but
    for `owe` and `post`."""

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
        self._joined = self._joining = self._reading = self._taking = self._retrying = self._entered = False
        self._free = False
        """Whether there may be messages that somebody gave back."""
        self.retiring = self._left = False
        self._refusals: dict[str, str] = {}
        """Why the server refuses what a replica does, by kind."""
        self._told = ""
        """What of it was logged last."""
        self._twice: set[bytes] | None = None
        """While two answers may bring the same message: those that have come."""
        self._doubted = False
        """Whether deliveries were dropped that the next recovery has to bring."""
        self._regrouped = 0.0
        self._alone: DurableDelivery | None = None
        """The last message that came for its last attempt."""
        self._held: dict[bytes, DurableDelivery] = {}
        """The messages that were read and not ended."""
        self._owed: list[DurableDelivery] = []
        self._ended: list[Ending] = []
        self._unsure: list[list[Ending]] = []
        self._scheduled = False
        self._newest = self._leftover = b""

    # --- joining and leaving ----------------------------------------------------------------------------------------
    def join(self) -> None:
        """Make this replica known; called each time the bus is connected."""
        if self._joining or self._left or (self.retiring and self.replica is None):
            return
        self._joining = True
        if self.replica is None:
            self.replica = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}"
        if not self._entered:
            self._register(again=False)
        else:  # it may have been taken for dead meanwhile
            known = [*self._held, *(ending.entry for batch in (self._ended, *self._unsure) for ending in batch)]
            self._twice, self._doubted = set(), False
            self._steps.recover(self.service, self.replica, known, functools.partial(self._rejoined, self.replica))

    def _register(self, again: bool) -> None:
        self._joining = True
        done = functools.partial(self._registered, self.replica)
        self._steps.register(self.service, self.replica, self._about(), self._queue, again, done)

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

    def _registered(self, replica: str, value: Any) -> None:
        self._joining = False
        if value is SUPERSEDED:
            self._superseded(replica)
        elif isinstance(value, Exception):
            self._refused("join", value)
        else:
            self._entered = True
            if self._pulse is None and not self._left:
                self._live()
            self._go_on()

    def _live(self) -> None:
        vitals = self._steps.vitals(self.service, self.replica, self._about(), self._queue)
        if vitals is not None:
            tell = functools.partial(self._home.run, self._felt, self.replica)
            self._pulse = Pulse(vitals, self.service, self.replica, tell)
            self._pulse.start()

    def _felt(self, replica: str, what: str) -> None:
        """What the pulse tells."""
        if replica != self.replica:
            pass
        elif what is TAKEN_OUT:
            self._superseded(replica)
        elif what is not TROUBLE:
            self.woken()
        elif self._pulse.trouble:
            self._complain(self._pulse.trouble)
        else:
            self._well()

    def _rejoined(self, replica: str, value: Any) -> None:
        if replica != self.replica:
            return
        self._joining = False
        if value is SUPERSEDED:
            self._superseded(replica)
        elif isinstance(value, Exception):
            self._refused("join", value)
        elif self._doubted:
            self.join()
        else:
            if self._pulse is not None:
                self._pulse.beaten = time.monotonic()
            self._came(value)
            self._twice = self._twice if self._reading else None
            self._go_on()

    def _go_on(self) -> None:
        self._joined = self._free = True
        self._refusals.pop("join", None)
        self._well()
        unsure, self._unsure = self._unsure, []
        for batch in unsure:
            self._finish(batch, again=True)
        self._flush()
        self.want()

    def _refused(self, what: str, error: Exception) -> None:
        self._joined = False
        text, passing = str(error), isinstance(error, BusUnavailable)
        if self._left or (passing and not self._bus.up):
            return  # the bus says so; it calls `join` once it is connected
        if "NOGROUP" in text:
            self._regroup()
            return
        if text == self._refusals.get(what) or not passing:
            self._complain(text)
        self._refusals[what] = text
        if not self._retrying:
            self._retrying = True
            self._home.soon(gevent.spawn_later, RETRY_SECONDS, self._retry)

    def _works(self, what: str) -> None:
        if self._refusals and self._refusals.pop(what, None) is not None:
            self._well()

    def _complain(self, text: str) -> None:
        if text != self._told:
            self._told = text
            runtime_logger.error(
                "the requests of service %s cannot be served: %s; this is tried again", self.service, text
            )

    def _well(self) -> None:
        if self._told and not self.refused:
            self._told = ""
            runtime_logger.info("service %s receives its requests again", self.service)

    def _retry(self) -> None:
        self._retrying = False
        if not self._joined and self._bus.up:
            self.join()

    def _regroup(self) -> None:
        if self._joining:
            return
        if time.monotonic() - self._regrouped > REGROUP_SECONDS:
            runtime_logger.warning(
                "somebody has removed the stream of service %s or its group; they are made anew", self.service
            )
        self._regrouped = time.monotonic()
        self._register(again=True)

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
        self._pulse = self.replica = self._twice = None
        self._joined = self._joining = self._entered = False
        self._refusals.clear()
        for delivery in self._held.values():
            delivery.released = True
        self._held.clear()
        self._ended, self._unsure, self._newest, self._leftover = [], [], b"", b""
        if self._bus.up:
            self.join()

    def lost(self) -> None:
        """The bus is away."""
        self._joined = self._joining = False
        self._refusals.clear()
        self._told = ""

    @property
    def doubtful(self) -> bool:
        """Whether the others may have taken this replica for dead."""
        pulse = self._pulse
        return pulse is not None and time.monotonic() - pulse.beaten > TRUSTED_SECONDS

    def doubt(self, delivery: DurableDelivery | None = None) -> None:
        """Ask whether this replica is known before anything is begun. The delivery comes again, here or elsewhere."""
        if delivery is not None:
            self._doubted = True
            delivery.released = True
            self._held.pop(delivery.entry, None)
        self._joined = False
        if self._bus.up:
            self.join()

    # --- reading ----------------------------------------------------------------------------------------------------
    def woken(self) -> None:
        """Somebody has given messages back."""
        self._free = True
        self.want()

    def want(self) -> None:
        """Read on, if there is room."""
        if not self._joined or self.retiring or self._taking:
            return
        # The free ones are older, so they come first.
        free = self._free and (self._alone is None or self._alone.entry not in self._held)
        if self._reading and not free:
            return
        room = min(self._room(), MOST_READ if self._crowd == 1 else MOST_READ_BESIDE)
        if room <= 0:
            return
        if free:
            self._taking, self._free = True, False
            taken = functools.partial(self._taken, self.replica)
            self._steps.take(self.service, self.replica, room, MOST_DEATHS, taken)
        else:
            self._reading = True
            self._reader.read(self.replica, room, functools.partial(self._read, self.replica))

    def _taken(self, replica: str, value: Any) -> None:
        self._taking = False
        if replica != self.replica:
            self.want()
            return
        self._free = self._free or type(value) is not tuple or bool(value[0])  # there may be more
        self._got("take", value)

    def _read(self, replica: str, value: Any) -> None:
        self._reading = False
        if replica != self.replica:  # it was taken out meanwhile, so nobody else will find what this has read
            if value is LOST or (type(value) is tuple and value[0]):
                self._steps.leave(self.service, replica, lambda value: None)
            self.want()
        elif type(value) is tuple and value[0] and self.doubtful:
            self.doubt()  # which brings them again
        else:
            self._got("read", value)
            if not self._joining:
                self._twice = None

    def _got(self, what: str, value: Any) -> None:
        if type(value) is tuple:
            self._works(what)
            self._came(value)
            self.want()
        elif self._left:
            pass
        elif value is SUPERSEDED:
            self._superseded(self.replica)
        elif value is LOST or "UNBLOCKED" in str(value):
            self._joined = False  # until it is known what has become of the messages
            if self._bus.up:
                self.join()
        else:
            self._refused(what, value)

    def _came(self, value: tuple[list[Entry], int]) -> None:
        entries, server = value
        if not entries:
            return
        if self._twice is not None:
            entries = [entry for entry in entries if entry.entry not in self._twice]
            self._twice.update([entry.entry for entry in entries])
        if entries and _place(entries[-1].entry) > _place(self._newest):
            self._newest = entries[-1].entry
        now = time.monotonic()
        for entry in entries:
            deadline = None
            if entry.budget:
                deadline = now + min(entry.deadline - server, entry.budget) / 1000
            self._receive(entry, deadline)

    def _receive(self, entry: Entry, deadline: float | None) -> None:
        if entry.entry in self._held:
            return  # somebody has removed the group, and the new one begins anew
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
        if entry.attempt >= MOST_DEATHS:
            self._alone = delivery
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

    def post(self, inbox: str | None, data: bytes) -> None:
        """Publish a reply at once."""
        if inbox:
            self._home.run(self._bus.post, inbox, data, None, 5.0)

    def owe(self, delivery: DurableDelivery) -> None:
        """Its final reply leaves with the next batch, at the end of this turn of the loop, if not before."""
        if get_ident() == self._home.thread:
            self._owed.append(delivery)
            self._soon()
        else:
            self._home.run(self.owe, delivery)

    def end(self, delivery: DurableDelivery) -> None:
        """The delivery was settled."""
        if self._held.pop(delivery.entry, None) is None and delivery.released:
            return  # superseded
        answer = delivery.answer or b""
        inbox = "" if delivery.published or not answer else delivery.request.reply_to or ""
        self._ended.append(
            Ending(delivery.entry, delivery.size, delivery.key, answer, inbox, answer, delivery.commands)
        )
        self._soon()

    def _soon(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            self._home.soon(self._flush)

    def _flush(self) -> None:
        self._scheduled = False
        if self._owed:
            owed, self._owed = self._owed, []
            for delivery in owed:
                if delivery.answer is not None and not delivery.settled and not delivery.keep:
                    delivery.published = True
                    self.post(delivery.request.reply_to, delivery.answer)
        while self._ended and self._joined:
            batch, self._ended = self._ended[:MOST_ENDED], self._ended[MOST_ENDED:]
            self._finish(batch)
        self.want()

    def _finish(self, batch: list[Ending], again: bool = False) -> None:
        newest, leftover = self._newest, self._leftover
        if any(ending.entry == newest for ending in batch):
            self._leftover = newest
        if leftover == newest:
            leftover = b""
        done = functools.partial(self._finished, self.replica, batch)
        self._steps.finish(self.service, self.replica, batch, newest, leftover, again, done)

    def _finished(self, replica: str, batch: list[Ending], value: Any) -> None:
        if replica != self.replica:
            pass  # it was taken out
        elif value is SUPERSEDED:
            self._superseded(replica)
        elif isinstance(value, Exception):
            self._unsure.append(batch)
            self._refused("finish", value)
        else:
            self._works("finish")
            for index, text in value:
                if index < 0:
                    self._bus.losses.lost("refused", f"replies were not taken by the bus: {text}")
                else:
                    self._uncommitted(batch[index], text)

    def _uncommitted(self, ending: Ending, text: str) -> None:
        runtime_logger.error("the bus refused a command of request.commit: %s", text)
        reply = (
            error_reply(codec.loads(ending.reply)["request_id"], f"commit: {text}").encode() if ending.reply else b""
        )
        self._ended.append(ending._replace(record=reply, reply=reply, commands=()))
        self._soon()

    # --- Subscription -----------------------------------------------------------------------------------------------
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
            self._steps.release(self.service, self.replica, entries, lambda value: None)

    def cancel(self) -> None:
        """Leave the bus."""
        self._home.run(self._leave)

    def _leave(self) -> None:
        self.retiring = True
        if self._left:
            return
        self._flush()
        self._left = True
        self._reader.close()
        if self._pulse is not None:
            self._pulse.stop()
        if self._joined:
            self._joined = False
            self._steps.leave(self.service, self.replica, lambda value: None)

    @property
    def retired(self) -> bool:
        return self.retiring and not self._reading and not self._taking

    @property
    def confirmed(self) -> bool:
        return (self._joined and not self.refused) or self.retiring

    @property
    def refused(self) -> str:
        trouble = self._pulse.trouble if self._pulse is not None else ""
        return next(iter(self._refusals.values()), trouble)

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
