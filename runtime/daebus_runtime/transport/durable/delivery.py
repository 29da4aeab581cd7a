"""One message of the stream, as its replica has it."""

from __future__ import annotations

import time
from typing import Any, Protocol

from ...envelope import Reply, Request
from ...errors import ReplyTooLarge
from .. import Delivery, Outcome
from ..delivery import last_words
from .commands import taken
from .steps import Entry


class Replica(Protocol):
    """What a delivery needs of the replica that has it."""

    most: int

    def check(self, commands: list[list[bytes]]) -> str: ...

    def post(self, inbox: str | None, data: bytes) -> None: ...

    def owe(self, delivery: DurableDelivery) -> None: ...

    @property
    def doubtful(self) -> bool: ...

    def doubt(self, delivery: DurableDelivery) -> None: ...

    def too_late(self, delivery: DurableDelivery) -> None: ...

    def end(self, delivery: DurableDelivery) -> None: ...


class DurableDelivery(Delivery):
    """It is acknowledged, and its outcome recorded, when it is settled.

    deadline: in time.monotonic(). begun: whether its handler has begun. released: it belongs to another replica now.
    id: as it is stored. key: under which its outcome is recorded; empty if nobody asks for it. answer: the final reply.
    published: it was sent before the delivery was settled.
    """

    __slots__ = (
        *("_replica", "answer", "attempt", "begun", "commands", "deadline"),
        *("entry", "id", "key", "published", "released", "size"),
    )

    def __init__(self, request: Request, replica: Replica, entry: Entry, deadline: float | None) -> None:
        self.request, self._replica = request, replica
        request.attempt, request.deadline, request.delivery = entry.attempt, deadline, self
        self.keep = self.answered = self.settled = self.begun = self.released = self.published = False
        self.entry, self.id, self.size = entry.entry, entry.id, len(entry.envelope)
        self.key = entry.id
        self.attempt, self.deadline = entry.attempt, deadline
        self.answer: bytes | None = None
        self.commands: list[Any] = []

    def begin(self) -> bool:
        if self.released or self.settled:
            return False
        if self._replica.doubtful:
            self._replica.doubt(self)
            return False
        self.begun = True
        if self.deadline is not None and time.monotonic() >= self.deadline:
            self._replica.too_late(self)
            return False
        return True

    def abandon(self, outcome: Outcome) -> None:
        self.settled = self.released = True  # it becomes free when this replica leaves

    def commit(self, pipe: Any) -> None:
        commands = taken(pipe)
        if fault := self._replica.check(commands):
            raise ValueError(f"request.commit: {fault}")
        self.keep = True
        self.commands += commands

    def savepoint(self) -> int:
        return len(self.commands)

    def rollback(self, savepoint: int) -> None:
        del self.commands[savepoint:]

    def reply(self, reply: Reply) -> None:
        data = reply.encode()
        if len(data) > self._replica.most:
            raise ReplyTooLarge(f"the reply has {len(data)} bytes, more than DAEBUS_MESSAGE_LIMIT allows")
        if not reply.final:
            self._replica.post(self.request.reply_to, data)
            return
        self.answer = data
        self.answered = True
        if not self.keep:
            self._replica.owe(self)

    def settle(self, outcome: Outcome) -> None:
        if self.settled:
            return
        self.settled = True
        reply = outcome.reply
        if reply is not None and (not self.answered or self.keep):
            self.answer = last_words(reply, self._replica.most)
        self.answered = True
        if outcome.error is not None:
            self.commands.clear()
        self._replica.end(self)
