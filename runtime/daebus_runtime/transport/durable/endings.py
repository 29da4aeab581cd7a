"""How the messages of the own service end: outcomes, replies, acknowledgements, in one step for each turn of the loop.

What was ended while the bus was away waits until this replica has joined again. A batch whose answer was lost with the
connection is sent again; the server does nothing twice.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Protocol

from ... import codec
from ...envelope import error_reply
from ...logs import runtime_logger
from ...native import get_ident
from ..bus import Bus
from .delivery import DurableDelivery
from .refusals import Refusals
from .steps import SUPERSEDED, Ending, Steps, place

MOST_ENDED = 500  # Lua passes at most some thousand values to one command
REPLY_SECONDS = 5.0  # how long a reply that is published alone waits for a lost bus


class Member(Protocol):
    """What the endings need of their replica."""

    service: str
    replica: Any
    refusals: Refusals

    @property
    def present(self) -> str | None: ...

    def superseded(self, replica: str) -> None: ...

    def not_done(self, what: str, error: Exception) -> None: ...


class Endings:
    """The ended messages of one replica. `flushed` runs after each batch. Home loop only, but for `owe` and `post`."""

    def __init__(self, member: Member, bus: Bus, steps: Steps, flushed: Callable[[], None]) -> None:
        self._member, self._bus, self._home, self._steps = member, bus, bus.home, steps
        self._flushed = flushed
        self._owed: list[DurableDelivery] = []
        self._ended: list[Ending] = []
        self._unsure: list[list[Ending]] = []
        self._scheduled = False
        self._newest = self._leftover = b""
        """The newest entry that this replica has read, and one that was the newest: see docs/protocol.md, "finish"."""

    def have_read(self, entry: bytes) -> None:
        """This replica has read entries; the newest of them."""
        if entry and place(entry) > place(self._newest):
            self._newest = entry

    @property
    def entries(self) -> list[bytes]:
        """The entries whose end the server has not confirmed."""
        return [ending.entry for batch in (self._ended, *self._unsure) for ending in batch]

    def post(self, inbox: str | None, data: bytes) -> None:
        """Publish a reply at once."""
        if inbox:
            self._home.run(self._bus.post, inbox, data, None, REPLY_SECONDS)

    def owe(self, delivery: DurableDelivery) -> None:
        """Its final reply leaves with the next batch, at the end of this turn of the loop, if not before."""
        if get_ident() == self._home.thread:
            self._owed.append(delivery)
            self._soon()
        else:
            self._home.run(self.owe, delivery)

    def add(self, delivery: DurableDelivery) -> None:
        """The delivery was settled."""
        answer = delivery.answer or b""
        inbox = "" if delivery.published or not answer else delivery.request.reply_to or ""
        self._ended.append(
            Ending(delivery.entry, delivery.size, delivery.key, answer, inbox, answer, delivery.commands)
        )
        self._soon()

    def _soon(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            self._home.soon(self.flush)

    def resume(self) -> None:
        """This replica has joined again."""
        unsure, self._unsure = self._unsure, []
        for batch in unsure:
            self._finish(batch, again=True)
        self.flush()

    def flush(self) -> None:
        """Send what has ended."""
        self._scheduled = False
        owed, self._owed = self._owed, []
        for delivery in owed:
            if delivery.answer is not None and not delivery.settled and not delivery.keep:
                delivery.published = True
                self.post(delivery.request.reply_to, delivery.answer)
        while self._ended and self._member.present is not None:
            batch, self._ended = self._ended[:MOST_ENDED], self._ended[MOST_ENDED:]
            self._finish(batch)
        self._flushed()

    def clear(self) -> None:
        """Forget everything: this replica was taken out."""
        self._ended, self._unsure, self._newest, self._leftover = [], [], b"", b""

    def _finish(self, batch: list[Ending], again: bool = False) -> None:
        replica = self._member.present
        assert replica is not None
        newest, leftover = self._newest, self._leftover
        if any(ending.entry == newest for ending in batch):
            self._leftover = newest
        if leftover == newest:
            leftover = b""
        done = functools.partial(self._finished, replica, batch)
        self._steps.finish(self._member.service, replica, batch, newest, leftover, again, done)

    def _finished(self, replica: str, batch: list[Ending], value: Any) -> None:
        member = self._member
        if replica != member.replica:
            pass  # it was taken out
        elif value is SUPERSEDED:
            member.superseded(replica)
        elif isinstance(value, Exception):
            self._unsure.append(batch)
            member.not_done("finish", value)
        else:
            member.refusals.works("finish")
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
