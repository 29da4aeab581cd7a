"""A bus inside one process, for tests. Bytes are as on a real bus; only the server is missing."""

from __future__ import annotations

import fnmatch
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
    """What takes the server's place: the buses that share it hear each other."""

    def __init__(self) -> None:
        self.members: list[MemoryBus] = []

    def publish(self, channel: str, data: bytes) -> int:
        receivers = 0
        for member in self.members:
            for name in member.names:
                if _matches(name, channel) if keys.is_pattern(name) else name == channel:
                    receivers += 1
                    # Not now: on a real bus a sender is never inside its receiver's code.
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


def _matches(pattern: str, channel: str) -> bool:
    # Redis' glob in fnmatch's terms: `[^` excludes, `[!` does not, and a backslash takes the next character as it is.
    pattern = pattern.replace("[!", "[\0!").replace("[^", "[!")
    return fnmatch.fnmatchcase(channel, re.sub(r"\\(.)", r"[\1]", pattern))
