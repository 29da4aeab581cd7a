"""The atomic steps of the durable layer, as an interface. Each step happens wholly or not at all.

Every step returns at once. Its callback runs on the home loop and gets the result, or an exception as a value:
BusUnavailable means that nobody knows whether the step was done, unless it is a NotNow. Steps of one bus happen in the
order of the calls.
"""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from ...errors import BusUnavailable
from .look import Look

Done = Callable[[Any], None]

SUPERSEDED = "superseded"
"""Instead of a result: this replica was taken for dead, and its messages run elsewhere."""
LOST = "lost"
"""Instead of a result of `Reader.read`."""
GONE = "gone"
"""Instead of a beat: this is no replica any more, but it has messages."""
VERSION = 2
"""The newest version of the envelope that this program speaks."""
FREE = "free:2"
"""The consumer that holds messages which any replica may take; they have version 2 of the envelope."""


def free_for(need: int | str) -> str:
    """The consumer of the messages that only some replicas can handle: those that speak a version of the envelope, or
    listen on a channel."""
    return f"free:{need}"


ANY = "*"
"""A digest that agrees with every other one."""
STORED, DUPLICATE, REUSED = 1, 2, 3
"""What `send` says of a message: it is stored; it was stored before; another one was stored under its id."""
UNKNOWN, ASLEEP, KNOWN = "unknown", "asleep", "known"
"""Instead of a result of `send`: nobody ever registered the service; it has no replica at present."""


@dataclasses.dataclass(frozen=True)
class Bounds:
    """Settings of the durable layer: times in seconds, sizes in bytes."""

    entries: int = 1_000_000
    bytes: int = 256 * 1024 * 1024
    outcome_seconds: float = 3600.0
    outcome_bytes: int = 4 * 1024 * 1024
    known_days: float = 90.0


DAY_MS = 24 * 3600 * 1000
MARGIN_DAYS = 120
"""So much longer than a service is known do its keys live. A server's clock may jump by months, and TTLs follow it."""


def life_ms(bounds: Bounds) -> int:
    """The TTL of a service's keys."""
    return int((bounds.known_days + MARGIN_DAYS) * DAY_MS)


class NotNow(BusUnavailable):
    """The server said that it cannot do it now (LOADING, READONLY, …), so the step was not done."""


class Letter(NamedTuple):
    """A message to be stored: `number` counts the messages of its sender, `budget` is in ms (0: no deadline, so it is
    no call). digest: empty for a message that is sent once; else of its content, or ANY, and another message with this
    id is not stored."""

    number: int
    digest: str
    budget: int
    id: str
    envelope: bytes


class Entry(NamedTuple):
    """A stored message as it was read. `deadline` is in ms of the server's clock (0: none); `attempt` counts its
    deliveries, this one included."""

    entry: bytes
    version: int
    id: str
    deadline: int
    budget: int
    envelope: bytes
    attempt: int


def place(entry: bytes) -> tuple[int, int]:
    """Orders the ids of entries: milliseconds and a number, "1700000000000-9" before "1700000000000-10"."""
    ms, _, number = entry.partition(b"-")
    return int(ms or 0), int(number or 0)


class Ending(NamedTuple):
    """How a message ended. `record` is kept under `key`; `reply` goes to `inbox`; `commands` run in the same step."""

    entry: bytes
    size: int
    key: str
    record: bytes
    inbox: str
    reply: bytes
    commands: Sequence[Sequence[Any]] = ()


class Steps(abc.ABC):
    """See the module's docstring. `service` is a name, `replica` the name of one of its replicas."""

    @abc.abstractmethod
    def send(self, service: str, process: str, letters: Sequence[Letter], accept: str, again: bool, done: Done) -> None:
        """Store messages in their order. Result: for each STORED, DUPLICATE, REUSED, or 0 if there is no room; or
        UNKNOWN or ASLEEP. again: an earlier try may have stored them. accept: ASLEEP to store them for a service that
        has no replica, KNOWN also if the server does not know the service, because this process does."""

    @abc.abstractmethod
    def listeners(self, channel: str, done: Done) -> None:
        """Result: the services that listen durably on a channel."""

    @abc.abstractmethod
    def listen(self, channel: str, service: str, done: Done) -> None:
        """Note that a service listens durably on a channel."""

    @abc.abstractmethod
    def reader(self, service: str) -> Reader:
        """A new object that reads the messages of a service, with a connection of its own."""

    @abc.abstractmethod
    def take(self, service: str, replica: str, consumer: str, most: int, alone: int, done: Done) -> None:
        """Take messages that their replica gave back to a consumer of free messages, or left behind; one with `alone`
        attempts or more comes alone. Result as of `Reader.read`, or SUPERSEDED."""

    @abc.abstractmethod
    def recover(self, service: str, replica: str, known: Sequence[bytes], done: Done) -> None:
        """Find messages that this replica has and does not know of, since the answer was lost with a connection. Result
        as of `take`."""

    @abc.abstractmethod
    def finish(
        self, service: str, replica: str, endings: Sequence[Ending], read: bytes, left: bytes, again: bool, done: Done
    ) -> None:
        """End messages: commands, records, replies, acknowledgements. Result: (index, error text) of each that the
        server refused (index -1: a reply that it refused); or SUPERSEDED. read: the newest entry that this replica has
        read; it is acknowledged and not deleted. left: one of these from an earlier batch, to be deleted now."""

    @abc.abstractmethod
    def register(self, service: str, replica: str, info: bytes, queue: int, again: bool, done: Done) -> None:
        """Make the service known, and, unless its name is empty, a replica alive. queue: how many calls may wait.
        again: it was alive before; the result is SUPERSEDED if it was taken out since."""

    @abc.abstractmethod
    def count(self, service: str, done: Done) -> None:
        """Result: how many replicas the service has."""

    @abc.abstractmethod
    def release(self, service: str, replica: str, consumer: str, entries: Sequence[bytes], done: Done) -> None:
        """Give messages that were read and not begun to a consumer of free messages. Result: their number, or
        SUPERSEDED."""

    @abc.abstractmethod
    def claim(self, service: str, replica: str, digest: str, done: Done) -> None:
        """Decide which replica runs a message that all of them got. Result: 1 if it is this one, else 0."""

    @abc.abstractmethod
    def outcomes(self, service: str, keys: Sequence[str], done: Done) -> None:
        """Result: the record of each key, or None."""

    @abc.abstractmethod
    def leave(self, service: str, replica: str, done: Done) -> None:
        """Take out the own replica; messages that it still has become free. Result: their number."""

    @abc.abstractmethod
    def check(self, commands: Sequence[Sequence[bytes]]) -> str:
        """Why commands cannot run in `finish`; empty if they can. From any greenlet or thread; may wait."""

    @abc.abstractmethod
    def vitals(self, service: str, replica: str, info: bytes, queue: int) -> Vitals | None:
        """A new object for the signs of life of a replica, registered with these, with a connection of its own; None
        where nobody can die alone."""


class Reader(abc.ABC):
    """Reads the new messages of one service."""

    @abc.abstractmethod
    def read(self, replica: str, most: int, done: Done) -> None:
        """Read at most `most` messages; waits up to a second for the first. Result: a list of Entry, and the time of
        the server's clock in ms; LOST if the connection ended meanwhile, perhaps after messages were read."""

    @abc.abstractmethod
    def cut_short(self) -> None:
        """Let the read that waits, if any, end now; its callback comes soon."""

    @abc.abstractmethod
    def close(self) -> None:
        """Close the connection. The callback of a read that waits may not come."""


class Seen(NamedTuple):
    """`beats` of the replicas, `strays` that are GONE and have messages, and whether there are `free` messages."""

    beats: Mapping[str, int]
    strays: Sequence[str]
    free: bool


class Vitals(abc.ABC):
    """The steps that must go on while a handler holds the loop. Used in one OS thread, where its methods block.
    They raise BusError."""

    @abc.abstractmethod
    def beat(self, look: bool, keep: bool) -> Seen | None:
        """A sign of life. None: the replica was taken out. look: return all that there is to be seen. keep: renew the
        TTL of the service's keys, and look for messages of replicas that are gone."""

    @abc.abstractmethod
    def bury(self, replica: str, beat: int | str) -> bool:
        """Take a dead replica out and free its messages; False if its beat is no longer `beat`, or another did it."""

    @abc.abstractmethod
    def enlist(self, service: str) -> None:
        """Keep the service on the list of those that are known."""

    @abc.abstractmethod
    def look(self, service: str) -> Look | None:
        """What waits for the service; None if it is unknown."""

    @abc.abstractmethod
    def close(self) -> None: ...
