"""The atomic steps on a Redis or Valkey server: each is one script, or one command."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Sequence
from typing import Any

from ... import keys
from ...errors import BusError, BusUnavailable
from ...logs import runtime_logger
from ...metrics import Metrics
from .. import Limits
from ..home import Home
from ..keeping import Keeping
from ..link import Link, pack
from ..redis import RedisBus
from ..refusals import mapped
from ..topology import BLOCK_SECONDS, Role, Topology
from . import script
from .commands import refusal
from .steps import (
    ASLEEP,
    DAY_MS,
    FREE,
    LOST,
    STORED,
    SUPERSEDED,
    UNKNOWN,
    Bounds,
    Done,
    Ending,
    Entry,
    Letter,
    NotNow,
    Reader,
    Steps,
    Vitals,
    life_ms,
)
from .transport import Durable
from .vitals import RedisVitals

DEFAULT = Bounds()
SENDER_SECONDS = 3600
CLAIM_MS = 60_000
_keys = functools.lru_cache(maxsize=1024)(keys.ServiceKeys)


class RedisSteps(Steps):
    """The steps on the server of a bus."""

    def __init__(self, bus: RedisBus, bounds: Bounds) -> None:
        self._links, self._commands, self._bounds = bus.links, bus.commands, bounds
        self._ask = bus.ask
        self._known: dict[bytes, Any] = {}
        """What the server says about commands, by name."""

    def opened(self) -> None:
        """Called after each connect, before anything else is sent."""
        script.load_all(self._commands)

    def _call(self, name: str, names: Sequence[str], words: Sequence[Any], done: Done) -> None:
        script.script(name).call(self._commands, names, words, functools.partial(self._answered, name, done))

    def _answered(self, name: str, done: Done, value: Any) -> None:
        if isinstance(value, Exception):
            value = self.fault(value, "EVALSHA", script.script(name).commands)
        done(value)

    def fault(self, error: Exception, command: str, scripted: Sequence[str] = ()) -> BusError:
        if isinstance(error, BusError):
            return error
        self._links.told(error)
        fault = mapped(error, self._links.topology.user, command, scripted=scripted)
        return NotNow(str(fault)) if isinstance(fault, BusUnavailable) else fault

    # --- senders --------------------------------------------------------------------------------------------------
    def send(self, service: str, process: str, letters: Sequence[Letter], accept: str, again: bool, done: Done) -> None:
        bounds, names = self._bounds, _keys(service)
        words: list[Any] = [
            bounds.entries,
            bounds.bytes,
            int(bounds.known_days * DAY_MS),
            SENDER_SECONDS * 1000,
            accept,
            "again" if again else "",
            names.outcomes,
            *self._outcome_bounds,
            " ".join([str(letter.number) for letter in letters]),
            " ".join([letter.digest or "-" for letter in letters]) if any(letter.digest for letter in letters) else "",
            letters[-1].number,
            sum([len(letter.envelope) for letter in letters]),
            sum([letter.budget > 0 for letter in letters]),
        ]
        for letter in letters:
            words += letter[2:5]

        def answered(value: Any) -> None:
            if value == 1:
                value = [STORED] * len(letters)
            elif isinstance(value, bytes):
                value = UNKNOWN if value == b"unknown" else ASLEEP
            done(value)

        self._call("send", [names.requests, names.beats, names.meta, names.sender(process)], words, answered)

    def outcomes(self, service: str, keys: Sequence[str], done: Done) -> None:
        names = _keys(service)
        self._call("outcomes", [names.meta], [names.outcomes, *keys], done)

    def listeners(self, channel: str, done: Done) -> None:
        def answered(value: Any) -> None:
            done(self.fault(value, "ZRANGE") if isinstance(value, Exception) else _names(value))

        self._commands.post(pack("ZRANGE", keys.listeners(channel), 0, -1), answered)

    def listen(self, channel: str, service: str, done: Done) -> None:
        self._call("enlist", [keys.listeners(channel)], [service, self._life], done)

    # --- replicas -------------------------------------------------------------------------------------------------
    def register(self, service: str, replica: str, info: bytes, queue: int, again: bool, done: Done) -> None:
        names = _keys(service)
        key_names = [names.requests, names.replicas, names.beats, names.meta, names.signs]
        words = [replica, info, self._life, queue, "again" if again else ""]
        self._call("register", key_names, words, lambda value: done(_word(value)))
        self._call("enlist", [keys.SERVICES], [service, self._life], functools.partial(_enlisted, service))

    def count(self, service: str, done: Done) -> None:
        def answered(value: Any) -> None:
            done(self.fault(value, "HLEN") if isinstance(value, Exception) else value)

        self._commands.post(pack("HLEN", _keys(service).beats), answered)

    @property
    def _outcome_bounds(self) -> tuple[int, int]:
        return int(self._bounds.outcome_seconds * 1000), self._bounds.outcome_bytes

    @property
    def _life(self) -> int:
        return life_ms(self._bounds)

    def reader(self, service: str) -> Reader:
        return RedisReader(self, self._links.own(Role.BLOCKING), service)

    def unblock(self, client: int) -> None:
        """End a read that waits. If the server does not allow it, the read ends by itself soon."""
        self._commands.post(pack("CLIENT", "UNBLOCK", client), lambda value: None)

    def take(self, service: str, replica: str, consumer: str, most: int, alone: int, done: Done) -> None:
        names = _keys(service)
        words = [replica, consumer, most, alone]
        self._call("take", [names.requests, names.beats], words, functools.partial(_entries, done))

    def recover(self, service: str, replica: str, known: Sequence[bytes], done: Done) -> None:
        names = _keys(service)
        self._call("recover", [names.requests, names.beats], [replica, *known], functools.partial(_entries, done))

    def finish(
        self, service: str, replica: str, endings: Sequence[Ending], read: bytes, left: bytes, again: bool, done: Done
    ) -> None:
        names = _keys(service)
        kept = sum([len(ending.key) + len(ending.record) for ending in endings])
        words: list[Any] = [replica, names.outcomes, *self._outcome_bounds, kept]
        one_by_one = again or any(ending.commands for ending in endings)
        words += _each(endings, read, left, again) if one_by_one else _all(endings, read, left)

        def answered(value: Any) -> None:
            if isinstance(value, list):
                value = [(int(value[at]) - 1, value[at + 1].decode()) for at in range(0, len(value), 2)]
            done(_word(value))

        script_name = "commit" if one_by_one else "finish"
        self._call(script_name, [names.requests, names.beats, names.meta], words, answered)

    def release(self, service: str, replica: str, consumer: str, entries: Sequence[bytes], done: Done) -> None:
        names = _keys(service)
        words = [replica, consumer, names.wake, *entries]
        self._call("release", [names.requests, names.beats], words, lambda value: done(_word(value)))

    def leave(self, service: str, replica: str, done: Done) -> None:
        names = _keys(service)
        words = [replica, "", FREE, names.wake]
        key_names = [names.requests, names.replicas, names.beats, names.signs]
        self._call("bury", key_names, words, lambda value: done(value or 0))

    def claim(self, service: str, replica: str, digest: str, done: Done) -> None:
        self._call("claim", [_keys(service).claim(digest)], [replica, CLAIM_MS], done)

    def check(self, commands: Sequence[Sequence[bytes]]) -> str:
        names = [command[0].upper() for command in commands]
        unknown = sorted(set(names) - self._known.keys())
        if unknown:
            try:
                found = self._ask("COMMAND", "INFO", *[name.decode(errors="replace") for name in unknown])
            except BusUnavailable:
                return ""  # then the server says so when they run
            self._known.update(zip(unknown, found, strict=True))
        return refusal(commands, [self._known[name] for name in names])

    def vitals(self, service: str, replica: str, info: bytes, queue: int) -> Vitals:
        return RedisVitals(self._links.topology, service, replica, [self._life, info, queue])


FIRST = 13
"""Where finish.lua's list of entries begins, counted from 1."""


def _all(endings: Sequence[Ending], read: bytes, left: bytes) -> list[Any]:
    """What finish.lua gets after the fifth word."""
    entries = [ending.entry for ending in endings if ending.entry != read]
    stays = len(entries) < len(endings)
    records: list[Any] = []
    mail: dict[str, list[bytes]] = {}
    for ending in endings:
        if ending.key:
            records += (ending.key, ending.record)
        if ending.inbox:
            mail.setdefault(ending.inbox, []).append(ending.reply)
    # What is only deleted comes first, what is only acknowledged last.
    listed = [*([left] if left else []), *entries, *([read] if stays else [])]
    begin, end = FIRST + bool(left), FIRST + len(listed) - 1
    words: list[Any] = [
        sum([ending.size for ending in endings]),
        *(begin, end),
        *(FIRST, end - stays),
        *(end + 1, end + len(records)),
        *listed,
        *records,
    ]
    for inbox, replies in mail.items():
        words += (inbox, replies[0] if len(replies) == 1 else b"[" + b",".join(replies) + b"]")
    return words


def _each(endings: Sequence[Ending], read: bytes, left: bytes, again: bool) -> list[Any]:
    """What commit.lua gets after the fifth word."""
    words: list[Any] = [read, left, "again" if again else ""]
    for ending in endings:
        commands = ending.commands
        words += (ending.entry, ending.size, ending.key, ending.record, ending.inbox, ending.reply, len(commands))
        for command in commands:
            words.append(len(command))
            words += command
    return words


def _names(members: Sequence[bytes]) -> list[str]:
    """The names of services among the members of a list; somebody else may have written there too."""
    found = []
    for member in members:
        with contextlib.suppress(UnicodeDecodeError):
            found.append(member.decode())
    return found


TIME = pack("TIME")
CLIENT_ID = pack("CLIENT", "ID")


def _enlisted(service: str, value: Any) -> None:
    if isinstance(value, Exception) and not isinstance(value, BusUnavailable):
        runtime_logger.warning("`daebus ps` will not list service %s: %s", service, value)


def _word(value: Any) -> Any:
    return SUPERSEDED if value == b"superseded" else value


def _entries(done: Done, value: Any) -> None:
    """Of take.lua and recover.lua."""
    if type(value) is list:
        done(([_entry(entry, fields, count) for entry, fields, count in value[1]], int(value[0])))
    else:
        done(_word(value))


def _entry(entry: bytes, fields: Any, attempt: int) -> Entry:
    """An entry as the server has it: `h` is version, deadline, budget and id; `m` is the envelope."""
    found = dict(zip(fields[::2], fields[1::2], strict=False)) if type(fields) is list else fields
    version, deadline, budget, number = found[b"h"].split(b" ", 3)
    return Entry(entry, int(version), number.decode(), int(deadline), int(budget), found[b"m"], int(attempt))


class RedisReader(Reader):
    """Over a link of its own, since a read that waits holds up the commands behind it."""

    def __init__(self, steps: RedisSteps, link: Link, service: str) -> None:
        self._steps, self._link, self._stream = steps, link, _keys(service).requests
        self._waiting: tuple[str, int, Done] | None = None
        self._client: Any = None
        """What the server calls this connection."""
        link.on_up = self._connected
        link.open()

    def _connected(self) -> None:
        self._link.post(CLIENT_ID, self._named)
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            self.read(*waiting)

    def read(self, replica: str, most: int, done: Done) -> None:
        if not self._link.up:
            self._waiting = replica, most, done
            return
        got: list[Any] = []
        block = int(BLOCK_SECONDS * 1000)
        # Both in one write. The time is taken when the read has ended.
        self._link.post(
            pack(
                "XREADGROUP", "GROUP", "workers", replica, "COUNT", most, "BLOCK", block, "STREAMS", self._stream, ">"
            ),
            got.append,
        )
        self._link.post(TIME, functools.partial(self._read, got, done))

    def _read(self, got: list[Any], done: Done, time: Any) -> None:
        failed = next((value for value in (*got, time) if isinstance(value, Exception)), None)
        if failed is not None:
            done(LOST if isinstance(failed, BusUnavailable) else self._steps.fault(failed, "XREADGROUP"))
            return
        now = int(time[0]) * 1000 + int(time[1]) // 1000
        found = got[0].values() if isinstance(got[0], dict) else [pair[1] for pair in got[0] or ()]
        done(([_entry(item[0], item[1], 1) for items in found for item in items], now))

    def _named(self, value: Any) -> None:
        self._client = value

    def cut_short(self) -> None:
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting[2](LOST)
        elif type(self._client) is int:
            self._steps.unblock(self._client)

    def close(self) -> None:
        self._waiting = None
        self._link.close()


class RedisDurable(Durable):
    """The durable layer on the server that `topology` names."""

    def __init__(
        self, topology: Topology, home: Home, limits: Limits, metrics: Metrics | None = None, bounds: Bounds = DEFAULT
    ) -> None:
        bus = self._server = RedisBus(topology, home, metrics)
        steps = RedisSteps(bus, bounds)
        bus.on_connected = steps.opened
        super().__init__(bus, limits, steps)

    def keeping(self) -> Keeping:
        return Keeping.read(self._server.ask)
