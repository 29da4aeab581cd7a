"""The atomic steps inside one process, for tests: what the scripts do, without a server."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Sequence
from typing import Any

from ...keys import ServiceKeys
from ...metrics import Metrics
from .. import Limits
from ..home import Home
from ..memory import MemoryBroker, MemoryBus
from .steps import (
    ANY,
    ASLEEP,
    DUPLICATE,
    FREE,
    KNOWN,
    LOST,
    REUSED,
    SUPERSEDED,
    UNKNOWN,
    Bounds,
    Done,
    Ending,
    Entry,
    Letter,
    Reader,
    Steps,
    Vitals,
)
from .transport import Durable

DEFAULT = Bounds()


class _Stream:
    """What the server keeps for one service."""

    def __init__(self) -> None:
        self.numbers = itertools.count(1)
        self.entries: dict[bytes, tuple[Letter, float]] = {}
        """Each with its deadline, in ms of the server's clock."""
        self.unread: dict[bytes, None] = {}
        self.pending: dict[bytes, tuple[str, int]] = {}
        """The replica that has each entry, and its deliveries."""
        self.replicas: dict[str, bytes] = {}
        self.beats: dict[str, int] = {}
        self.records: dict[str, bytes] = {}
        self.digests: dict[str, str] = {}
        """Of messages whose ids must be unique, by id."""
        self.senders: dict[str, dict[int, bool]] = {}
        self.bytes = 0
        self.queue = 10_000
        self.readers: list[MemoryReader] = []

    def entry(self, key: bytes) -> Entry:
        letter, deadline = self.entries[key]
        return Entry(key, 2, letter.id, int(deadline), letter.budget, letter.envelope, self.pending[key][1])


class MemoryStore:
    """Takes the place of the server's data. `run` executes the commands of `request.commit`."""

    def __init__(self, now: Callable[[], float] = time.time, run: Callable[[Sequence[Any]], Any] | None = None) -> None:
        self.now, self.run = now, run
        self.streams: dict[str, _Stream] = {}
        self.listeners: dict[str, list[str]] = {}
        """The services that listen durably, by channel."""

    def time(self) -> int:
        """The server's clock, in ms."""
        return int(self.now() * 1000)

    def stream(self, service: str) -> _Stream:
        return self.streams.setdefault(service, _Stream())


class MemorySteps(Steps):
    """The steps on a store that several members share."""

    def __init__(self, store: MemoryStore, bus: MemoryBus, bounds: Bounds) -> None:
        self._store, self._bus, self._bounds = store, bus, bounds

    def _answer(self, done: Done, value: Any) -> None:
        self._bus.home.soon(done, value)  # as from a server: never inside the call

    def send(self, service: str, process: str, letters: Sequence[Letter], accept: str, again: bool, done: Done) -> None:
        stream = self._store.stream(service) if accept == KNOWN else self._store.streams.get(service)
        if stream is None:
            self._answer(done, UNKNOWN)
        elif not stream.replicas and not accept:
            self._answer(done, ASLEEP)
        else:
            sent = stream.senders.setdefault(process, {})
            self._answer(done, [self._send_one(stream, sent, letter) for letter in letters])
            for reader in list(stream.readers):
                reader.serve()

    def _send_one(self, stream: _Stream, sent: dict[int, bool], letter: Letter) -> int:
        if letter.digest:
            before = stream.digests.get(letter.id)
            if before is not None:
                return DUPLICATE if ANY in (before, letter.digest) or before == letter.digest else REUSED
        stored = self._store_one(stream, sent, letter)
        if stored and letter.digest:
            stream.digests[letter.id] = letter.digest
        return int(stored)

    def _store_one(self, stream: _Stream, sent: dict[int, bool], letter: Letter) -> bool:
        if letter.number in sent:
            return sent[letter.number]
        size = len(letter.envelope)
        full = stream.bytes > 0 and stream.bytes + size > self._bounds.bytes
        most = stream.queue if letter.budget else self._bounds.entries
        stored = sent[letter.number] = len(stream.unread) < most and not full
        if stored:
            key = b"%d-0" % next(stream.numbers)
            stream.entries[key] = letter, self._store.time() + letter.budget if letter.budget else 0
            stream.unread[key] = None
            stream.bytes += size
        return stored

    def outcomes(self, service: str, keys: Sequence[str], done: Done) -> None:
        records = self._store.stream(service).records
        self._answer(done, [records.get(key) for key in keys])

    def register(self, service: str, replica: str, info: bytes, queue: int, again: bool, done: Done) -> None:
        stream = self._store.stream(service)
        if replica:
            stream.queue = queue
            stream.replicas[replica] = info
            stream.beats.setdefault(replica, 0)
        self._answer(done, b"OK")

    def listeners(self, channel: str, done: Done) -> None:
        self._answer(done, list(self._store.listeners.get(channel, ())))

    def listen(self, channel: str, service: str, done: Done) -> None:
        services = self._store.listeners.setdefault(channel, [])
        if service not in services:
            services.append(service)
        self._answer(done, b"OK")

    def reader(self, service: str) -> Reader:
        return MemoryReader(self._store, self._store.stream(service), self._bus.home)

    def take(self, service: str, replica: str, consumer: str, most: int, alone: int, done: Done) -> None:
        stream = self._store.stream(service)
        if replica not in stream.beats:
            self._answer(done, SUPERSEDED)
            return
        free = [key for key, (holder, _) in stream.pending.items() if holder == consumer][:most]
        for key in free:
            stream.pending[key] = replica, stream.pending[key][1] + 1
        self._answer(done, ([stream.entry(key) for key in free], self._store.time()))

    def recover(self, service: str, replica: str, known: Sequence[bytes], done: Done) -> None:
        alive = replica in self._store.stream(service).beats
        self._answer(done, ([], self._store.time()) if alive else SUPERSEDED)

    def finish(
        self, service: str, replica: str, endings: Sequence[Ending], read: bytes, left: bytes, again: bool, done: Done
    ) -> None:
        stream = self._store.stream(service)
        if replica not in stream.beats:
            self._answer(done, SUPERSEDED)
            return
        failed = []
        for index, ending in enumerate(endings):
            if ending.entry in stream.pending:
                fault = self._run(ending.commands)
                if fault:
                    failed.append((index, fault))
                else:
                    self._end(stream, ending)
        self._answer(done, failed)

    def _run(self, commands: Sequence[Sequence[Any]]) -> str:
        try:
            for command in commands:
                assert self._store.run is not None, "there is no server to run commands on"
                self._store.run(command)
        except Exception as error:
            return str(error)
        return ""

    def _end(self, stream: _Stream, ending: Ending) -> None:
        del stream.pending[ending.entry]
        letter, _ = stream.entries.pop(ending.entry)
        stream.bytes -= len(letter.envelope)
        if ending.key:
            stream.records[ending.key] = ending.record
        if ending.inbox:
            self._bus.post(ending.inbox, ending.reply, None, 0.0)

    def release(self, service: str, replica: str, consumer: str, entries: Sequence[bytes], done: Done) -> None:
        stream = self._store.stream(service)
        for key in entries:
            if stream.pending.get(key, ("", 0))[0] == replica:
                stream.pending[key] = consumer, stream.pending[key][1] - 1
        self._bus.post(ServiceKeys(service).wake, b"", None, 0.0)
        self._answer(done, len(entries))

    def leave(self, service: str, replica: str, done: Done) -> None:
        stream = self._store.stream(service)
        held = [key for key, (holder, _) in stream.pending.items() if holder == replica]
        for key in held:
            stream.pending[key] = FREE, stream.pending[key][1]
        stream.replicas.pop(replica, None)
        stream.beats.pop(replica, None)
        self._bus.post(ServiceKeys(service).wake, b"", None, 0.0)
        self._answer(done, len(held))

    def count(self, service: str, done: Done) -> None:
        self._answer(done, 1)  # see `claim`

    def claim(self, service: str, replica: str, digest: str, done: Done) -> None:
        self._answer(done, 1)  # without signs of life each member believes that it is alone

    def check(self, commands: Sequence[Sequence[bytes]]) -> str:
        return ""

    def vitals(self, service: str, replica: str, info: bytes, queue: int) -> Vitals | None:
        return None  # a member of this process cannot die alone


class MemoryReader(Reader):
    """Waits in its stream's list until there is something to read."""

    def __init__(self, store: MemoryStore, stream: _Stream, home: Home) -> None:
        self._store, self._stream, self._home = store, stream, home
        self._wanted: tuple[str, int, Done] | None = None

    def read(self, replica: str, most: int, done: Done) -> None:
        self._wanted = replica, most, done
        if self not in self._stream.readers:
            self._stream.readers.append(self)
        self.serve()

    def serve(self) -> None:
        """Give the waiting read what there is."""
        stream = self._stream
        if self._wanted is None or not stream.unread:
            return
        (replica, most, done), self._wanted = self._wanted, None
        stream.readers.remove(self)
        keys = list(itertools.islice(stream.unread, most))
        for key in keys:
            del stream.unread[key]
            stream.pending[key] = replica, 1
        self._home.soon(done, ([stream.entry(key) for key in keys], self._store.time()))

    def cut_short(self) -> None:
        wanted, self._wanted = self._wanted, None
        if self in self._stream.readers:
            self._stream.readers.remove(self)
        if wanted is not None:
            self._home.soon(wanted[2], LOST)

    def close(self) -> None:
        self.cut_short()


class MemoryDurable(Durable):
    """The durable layer in memory. Members with the same broker and store exchange messages."""

    def __init__(
        self,
        broker: MemoryBroker,
        store: MemoryStore,
        home: Home,
        limits: Limits,
        metrics: Metrics | None = None,
        bounds: Bounds = DEFAULT,
    ) -> None:
        bus = MemoryBus(broker, home, metrics)
        super().__init__(bus, limits, MemorySteps(store, bus, bounds))
