"""The atomic steps on a Redis or Valkey server: each is one script, or one command."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Sequence
from typing import Any

import hiredis

from ... import keys
from ...errors import BusError, BusUnavailable
from ...logs import runtime_logger
from ...metrics import Metrics
from .. import Limits
from ..home import Home
from ..link import Link, pack
from ..redis import RedisBus
from ..redispy import AuthenticationError, ConnectionError, RedisError, TimeoutError
from ..refusals import mapped
from ..topology import BLOCK_SECONDS, Role, Topology
from . import look, script
from .commands import refusal
from .look import Look
from .script import Script
from .steps import (
    ASLEEP,
    DAY_MS,
    GONE,
    LOST,
    SUPERSEDED,
    UNKNOWN,
    Bounds,
    Done,
    Ending,
    Entry,
    Letter,
    NotNow,
    Reader,
    Seen,
    Steps,
    Vitals,
    life_ms,
)
from .transport import Durable

DEFAULT = Bounds()
SENDER_SECONDS = 3600
CLAIM_MS = 60_000
FREE = "free:2"
"""The consumer that holds messages which any replica may take; they have version 2 of the envelope."""


@functools.lru_cache(maxsize=1024)
def _keys(service: str) -> keys.ServiceKeys:
    return keys.ServiceKeys(service)


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
    def send(
        self, service: str, process: str, letters: Sequence[Letter], asleep: bool, again: bool, done: Done
    ) -> None:
        bounds, names = self._bounds, _keys(service)
        words: list[Any] = [
            bounds.entries,
            bounds.bytes,
            int(bounds.known_days * DAY_MS),
            SENDER_SECONDS * 1000,
            ASLEEP if asleep else "",
            "again" if again else "",
        ]
        for letter in letters:
            words += letter

        def answered(value: Any) -> None:
            if isinstance(value, bytes):
                value = UNKNOWN if value == b"unknown" else ASLEEP
            done(value)

        self._call("send", [names.requests, names.beats, names.meta, names.sender(process)], words, answered)

    def outcomes(self, service: str, keys: Sequence[str], done: Done) -> None:
        names = _keys(service)
        self._call("outcomes", [names.meta], [names.outcomes, *keys], done)

    # --- replicas -------------------------------------------------------------------------------------------------
    def register(self, service: str, replica: str, info: bytes, queue: int, again: bool, done: Done) -> None:
        names = _keys(service)
        key_names = [names.requests, names.replicas, names.beats, names.meta, names.signs]
        words = [replica, info, self._life, queue, "again" if again else ""]
        self._call("register", key_names, words, lambda value: done(_word(value)))
        self._call("enlist", [keys.SERVICES], [service, self._life], functools.partial(_enlisted, service))

    @property
    def _life(self) -> int:
        return life_ms(self._bounds)

    def reader(self, service: str) -> Reader:
        return RedisReader(self, self._links.own(Role.BLOCKING), service)

    def unblock(self, client: int) -> None:
        """End a read that waits. If the server does not allow it, the read ends by itself soon."""
        self._commands.post(pack("CLIENT", "UNBLOCK", client), lambda value: None)

    def take(self, service: str, replica: str, most: int, alone: int, done: Done) -> None:
        names = _keys(service)
        words = [replica, FREE, most, alone]
        self._call("take", [names.requests, names.beats], words, functools.partial(_entries, done))

    def recover(self, service: str, replica: str, known: Sequence[bytes], done: Done) -> None:
        names = _keys(service)
        self._call("recover", [names.requests, names.beats], [replica, *known], functools.partial(_entries, done))

    def finish(
        self, service: str, replica: str, endings: Sequence[Ending], read: bytes, left: bytes, again: bool, done: Done
    ) -> None:
        bounds, names = self._bounds, _keys(service)
        words: list[Any] = [
            replica,
            names.outcomes,
            int(bounds.outcome_seconds * 1000),
            bounds.outcome_bytes,
            sum([len(ending.key) + len(ending.record) for ending in endings]),
            read,
            left,
            "again" if again else "",
        ]
        for ending in endings:
            commands = ending.commands
            words += (ending.entry, ending.size, ending.key, ending.record, ending.inbox, ending.reply, len(commands))
            for command in commands:
                words.append(len(command))
                words += command

        def answered(value: Any) -> None:
            if isinstance(value, list):
                value = [(int(value[at]) - 1, value[at + 1].decode()) for at in range(0, len(value), 2)]
            done(_word(value))

        self._call("finish", [names.requests, names.beats, names.meta], words, answered)

    def release(self, service: str, replica: str, entries: Sequence[bytes], done: Done) -> None:
        names = _keys(service)
        words = [replica, FREE, names.wake, *entries]
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


TIME = pack("TIME")
READ_BYTES = 65_536
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
        bus = RedisBus(topology, home, metrics)
        steps = RedisSteps(bus, bounds)
        bus.on_connected = steps.opened
        super().__init__(bus, limits, steps)


class RedisVitals(Vitals):
    """Over a connection of its own, with redis-py's blocking calls."""

    def __init__(self, topology: Topology, service: str, replica: str, kept: Sequence[Any]) -> None:
        self._topology, self._names, self._replica = topology, _keys(service), replica
        self._kept = kept
        """TTL of the keys in ms, the replica as JSON, how many calls may wait."""
        self._connection: Any = None
        self._parser: Any = None

    def beat(self, look: bool, keep: bool) -> Seen | None:
        names = self._names
        words = [self._replica, "all" if look else "", *(self._kept if keep else ("", "", "")), FREE]
        all_keys = [names.beats, names.requests, names.replicas, names.meta, names.signs]
        found = self._call(script.script("beat"), all_keys, words)
        if found is None:
            return None
        beats = {found[at].decode(): found[at + 1] for at in range(1, len(found), 2)}
        strays = [name for name, beat in beats.items() if beat == GONE.encode()]
        alive = {name: int(beat) for name, beat in beats.items() if name not in strays}
        return Seen(alive, strays, bool(found and found[0]))

    def bury(self, replica: str, beat: int | str) -> bool:
        names = self._names
        words = [replica, beat, FREE, names.wake]
        key_names = [names.requests, names.replicas, names.beats, names.signs]
        return self._call(script.script("bury"), key_names, words) is not None

    def enlist(self, service: str) -> None:
        self._call(script.script("enlist"), [keys.SERVICES], [service, self._kept[0]])

    def look(self, service: str) -> Look | None:
        return Look.parse(self._call(script.script("look"), look.key_names(service), look.SAMPLE))

    def _call(self, step: Script, key_names: Sequence[str], words: Sequence[Any]) -> Any:
        try:
            if self._connection is None:
                connection = self._topology.connection(Role.COMMANDS)
                connection.connect()
                self._connection, self._parser = connection, hiredis.Reader(notEnoughData=False)
            try:
                return self._ask("EVALSHA", step.digest, len(key_names), *key_names, *words)
            except hiredis.ReplyError as error:
                if not str(error).startswith("NOSCRIPT"):
                    raise
                return self._ask("EVAL", step.text, len(key_names), *key_names, *words)
        except (OSError, RedisError, hiredis.HiredisError) as error:
            if not isinstance(error, hiredis.ReplyError):
                self.close()
            away = isinstance(error, OSError | ConnectionError | TimeoutError)
            if away and not isinstance(error, AuthenticationError):
                raise BusUnavailable(str(error)) from None
            raise mapped(error, self._topology.user, "EVALSHA", scripted=step.commands) from None

    def _ask(self, *words: Any) -> Any:
        """Over redis-py's socket, but not through its parser, which takes the first word off an error."""
        sock = self._connection._sock
        sock.sendall(pack(*words))
        while (value := self._parser.gets()) is False:
            data = sock.recv(READ_BYTES)
            if not data:
                raise OSError("the server closed the connection")
            self._parser.feed(data)
        if isinstance(value, Exception):
            raise value
        return value

    def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(OSError, RedisError):
                connection.disconnect()
