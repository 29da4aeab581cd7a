"""The atomic steps on a Redis or Valkey server: each is one script, or one command."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Sequence
from typing import Any

from ... import keys
from ...errors import BusError, BusUnavailable
from ...metrics import Metrics
from .. import Limits
from ..home import Home
from ..link import Link, pack
from ..redis import RedisBus
from ..redispy import RedisError
from ..refusals import mapped
from ..topology import Role, Topology
from . import script
from .commands import refusal
from .script import Script
from .steps import ASLEEP, LOST, SUPERSEDED, UNKNOWN, Bounds, Done, Ending, Entry, Letter, Reader, Steps, Vitals
from .transport import Durable

DEFAULT = Bounds()
READ_MS = 1000
"""How long a read waits on the server for the first message."""
SENDER_SECONDS = 3600
CLAIM_MS = 60_000
DAY_MS = 24 * 3600 * 1000
MARGIN_DAYS = 120
"""So much longer than a service is known do its keys live. A server's clock may jump by months, and TTLs follow it."""
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
        done(self.fault(value, "EVALSHA") if isinstance(value, Exception) else value)

    def fault(self, error: Exception, command: str) -> BusError:
        if not isinstance(error, BusError):
            self._links.told(error)
        return mapped(error, self._links.topology.user, command)

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

        self._call("send", [names.requests, names.replicas, names.meta, names.sender(process)], words, answered)

    def outcomes(self, service: str, keys: Sequence[str], done: Done) -> None:
        names = _keys(service)
        self._call("outcomes", [names.meta], [names.outcomes, *keys], done)

    # --- replicas -------------------------------------------------------------------------------------------------
    def register(self, service: str, replica: str, info: bytes, queue: int, done: Done) -> None:
        names = _keys(service)
        key_names = [names.requests, names.replicas, names.beats, names.meta]
        self._call("register", key_names, [replica, info, self._life, queue], done)

    @property
    def _life(self) -> int:
        return int((self._bounds.known_days + MARGIN_DAYS) * DAY_MS)

    def reader(self, service: str) -> Reader:
        return RedisReader(self, self._commands, self._links.own(Role.BLOCKING), service)

    def take(self, service: str, replica: str, most: int, done: Done) -> None:
        names = _keys(service)
        self._call("take", [names.requests, names.beats], [replica, FREE, most], functools.partial(_entries, done))

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
            sum([ending.size for ending in endings]),
            read,
            left,
            "again" if again else "",
        ]
        for ending in endings:
            commands = ending.commands
            words += (ending.entry, ending.key, ending.record, ending.inbox, ending.reply, len(commands))
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
        self._call("bury", [names.requests, names.replicas, names.beats], words, lambda value: done(value or 0))

    def claim(self, service: str, replica: str, digest: str, done: Done) -> None:
        self._call("claim", [_keys(service).claim(digest)], [replica, CLAIM_MS], done)

    def check(self, commands: Sequence[Sequence[bytes]]) -> str:
        names = [command[0].upper() for command in commands]
        unknown = sorted(set(names) - self._known.keys())
        if unknown:
            found = self._ask("COMMAND", "INFO", *[name.decode(errors="replace") for name in unknown])
            self._known.update(zip(unknown, found, strict=True))
        return refusal(commands, [self._known[name] for name in names])

    def vitals(self) -> Vitals:
        return RedisVitals(self._links.topology, self._life)


TIME = pack("TIME")


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
    try:
        version, deadline, budget, number = fields[1].split(b" ", 3)
        return Entry(entry, int(version), number.decode(), int(deadline), int(budget), fields[3], attempt)
    except (ValueError, IndexError, KeyError, AttributeError):  # not written by Daebus; it will be refused
        return Entry(entry, 0, "", 0, 0, b"", attempt)


class RedisReader(Reader):
    """A read that waits for messages uses a link of its own, since it would hold up the commands behind it. While
    messages come, the next read follows the outcomes of the last ones on the same link, in the same write."""

    def __init__(self, steps: RedisSteps, commands: Link, link: Link, service: str) -> None:
        self._steps, self._commands, self._link, self._stream = steps, commands, link, _keys(service).requests
        self._waiting: tuple[str, int, Done] | None = None
        self._busy = False
        link.on_up = self._connected
        link.open()

    def _connected(self) -> None:
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            self._wait(*waiting)

    def read(self, replica: str, most: int, done: Done) -> None:
        if self._busy:
            answered = functools.partial(self._looked, replica, most, done)
            self._post(self._commands, replica, most, (), answered)
        else:
            self._wait(replica, most, done)

    def _looked(self, replica: str, most: int, done: Done, value: Any) -> None:
        self._busy = type(value) is not tuple or bool(value[0])
        if self._busy:
            done(value)
        else:
            self._wait(replica, most, done)

    def _wait(self, replica: str, most: int, done: Done) -> None:
        if self._link.up:
            self._post(self._link, replica, most, ("BLOCK", READ_MS), functools.partial(self._waited, done))
        else:
            self._waiting = replica, most, done

    def _waited(self, done: Done, value: Any) -> None:
        self._busy = type(value) is tuple and bool(value[0])
        done(value)

    def _post(self, link: Link, replica: str, most: int, block: Sequence[Any], answered: Done) -> None:
        got: list[Any] = []
        group = ("GROUP", "workers", replica, "COUNT", most)
        # Both in one write. The time is taken when the read has ended.
        link.post(pack("XREADGROUP", *group, *block, "STREAMS", self._stream, ">"), got.append)
        link.post(TIME, functools.partial(self._read, got, answered))

    def _read(self, got: list[Any], answered: Done, time: Any) -> None:
        for value in (*got, time):
            if isinstance(value, Exception):
                answered(LOST if isinstance(value, BusUnavailable) else self._steps.fault(value, "XREADGROUP"))
                return
        now = int(time[0]) * 1000 + int(time[1]) // 1000
        found = got[0].values() if isinstance(got[0], dict) else [pair[1] for pair in got[0] or ()]
        answered(([_entry(item[0], item[1], 1) for items in found for item in items], now))

    def stop(self) -> None:
        self._waiting = None
        self._link.close()  # messages that were read and did not arrive are freed when the replica leaves


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

    def __init__(self, topology: Topology, life: int) -> None:
        self._topology, self._life = topology, life
        self._connection: Any = None

    def beat(self, service: str, replica: str, look: bool, keep: bool) -> dict[str, int] | None:
        names = _keys(service)
        all_keys = [names.beats, names.requests, names.replicas, names.meta]
        found = self._call(
            script.script("beat"), all_keys, [replica, "all" if look else "", self._life if keep else ""]
        )
        if found is None:
            return None
        return {found[at].decode(): int(found[at + 1]) for at in range(0, len(found), 2)}

    def bury(self, service: str, replica: str, beat: int) -> bool:
        names = _keys(service)
        words = [replica, beat, FREE, names.wake]
        return self._call(script.script("bury"), [names.requests, names.replicas, names.beats], words) is not None

    def _call(self, step: Script, key_names: Sequence[str], words: Sequence[Any]) -> Any:
        try:
            if self._connection is None:
                connection = self._topology.connection(Role.COMMANDS)
                connection.connect()
                self._connection = connection
            try:
                return self._ask("EVALSHA", step.digest, len(key_names), *key_names, *words)
            except RedisError as error:
                if not str(error).startswith(("NOSCRIPT", "No matching script")):
                    raise
                return self._ask("EVAL", step.text, len(key_names), *key_names, *words)
        except (OSError, RedisError) as error:
            self.close()
            if isinstance(error, OSError):
                raise BusUnavailable(str(error)) from None
            raise mapped(error, self._topology.user) from None

    def _ask(self, *words: Any) -> Any:
        self._connection.send_command(*words)
        return self._connection.read_response()

    def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(OSError, RedisError):
                connection.disconnect()
