"""A bus inside one process, for tests. The same bytes as on a real bus, but without a server."""

from __future__ import annotations

import functools
import re
from typing import Any

from .. import keys
from ..errors import BusError, BusUnavailable, Unsupported
from ..metrics import Metrics
from . import Limits, State
from .bus import CLOSED, Bus, Callback
from .compatible import Compatible
from .holds import Hold
from .home import Home


class MemoryBroker:
    """Takes the place of the server: buses with the same broker exchange messages."""

    def __init__(self) -> None:
        self.members: list[MemoryBus] = []

    def publish(self, channel: str, data: bytes) -> int:
        receivers = 0
        for member in self.members:
            for name in member.names:
                if _regex(name).fullmatch(channel.encode()) if keys.is_pattern(name) else name == channel:
                    receivers += 1
                    # Not called directly: on a real bus, receivers never run inside the sender's call either.
                    member.home.soon(member.channels.arrived, name, channel, data)
        return receivers


class MemoryBus(Bus):
    """One member of a MemoryBroker."""

    def __init__(self, broker: MemoryBroker, home: Home, metrics: Metrics | None = None) -> None:
        super().__init__(home, metrics)
        self._broker = broker
        self.names: dict[str, None] = {}

    def open(self) -> None:
        if self.state is State.CLOSED:
            raise BusUnavailable(CLOSED)
        if self not in self._broker.members:
            self._broker.members.append(self)
            self.home.run(self.changed, State.UP)

    def _close(self) -> None:
        if self in self._broker.members:
            self._broker.members.remove(self)
        self._closed()

    def flush(self, timeout: float) -> bool:
        return self.state is State.UP

    def ask(self, *words: str, seconds: float = 2.0) -> Any:
        raise Unsupported("there is no server behind a bus in memory")

    def post(self, channel: str, data: bytes, callback: Callback | None, hold: float) -> Hold | None:
        for observer in self.observers:
            observer(channel, data)
        closed = self.state is State.CLOSED
        receivers = BusUnavailable(CLOSED) if closed else self._broker.publish(channel, data)
        if callback is not None:
            callback(receivers)
        return None

    def count_listeners(self, channel: str, callback: Callback) -> None:
        callback(sum(channel in member.names for member in self._broker.members))

    def listen(self, name: str) -> None:
        self.names[name] = None
        if name == self.inbox.name:
            self.home.soon(self.inbox.confirmed)

    def unlisten(self, name: str) -> None:
        self.names.pop(name, None)
        self.home.soon(self.channels.ended, name)

    def is_confirmed(self, name: str) -> bool:
        return name in self.names

    def refusal(self, name: str) -> BusError | None:
        return None

    def explain(self, error: Exception, channel: str) -> BusError:
        return error if isinstance(error, BusError) else BusError(str(error))


class MemoryTransport(Compatible):
    """The compatible layer in memory."""

    def __init__(self, broker: MemoryBroker, home: Home, limits: Limits, metrics: Metrics | None = None) -> None:
        super().__init__(MemoryBus(broker, home, metrics), limits)


@functools.lru_cache(maxsize=256)
def _regex(pattern: str) -> re.Pattern[bytes]:
    """A pattern as Redis interprets it: on bytes, so `?` matches one byte, not one character."""
    data, parts, at = pattern.encode(), [], 0
    while at < len(data):
        char = data[at : at + 1]
        at += 1
        if char == b"[":
            part, at = _class(data, at)
            parts.append(part)
        elif char in (b"*", b"?"):
            parts.append(b".*" if char == b"*" else b".")
        else:
            if char == b"\\" and at < len(data):
                char, at = data[at : at + 1], at + 1
            parts.append(re.escape(char))
    return re.compile(b"".join(parts), re.DOTALL)


def _class(data: bytes, at: int) -> tuple[bytes, int]:
    """The class between brackets, and the position of its end: the first `]`, else the end of the pattern."""
    excluded = data[at : at + 1] == b"^"
    at += excluded
    members: set[int] = set()
    while at < len(data) and data[at : at + 1] != b"]":
        if data[at : at + 1] == b"\\" and at + 1 < len(data):
            members.add(data[at + 1])
            at += 2
        elif data[at + 1 : at + 2] == b"-" and at + 2 < len(data):
            members.update(range(min(data[at], data[at + 2]), max(data[at], data[at + 2]) + 1))
            at += 3
        else:
            members.add(data[at])
            at += 1
    chosen = set(range(256)) - members if excluded else members
    return (b"[" + b"".join(b"\\x%02x" % code for code in chosen) + b"]" if chosen else b"(?!)"), at + 1
