"""The compatible layer inside one process, for tests. Bytes are as on a real bus; only the server is missing."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable
from typing import Any

from ..errors import BusUnavailable
from ..metrics import Metrics
from . import State
from .home import Home
from .pubsub import PubSub


class MemoryBroker:
    """What takes the server's place: the transports that share it hear each other."""

    def __init__(self) -> None:
        self.transports: list[MemoryTransport] = []
        self.record: Callable[[str, bytes], None] = lambda channel, data: None

    def publish(self, channel: str, data: bytes) -> int:
        self.record(channel, data)
        receivers = 0
        for transport in self.transports:
            for name, pattern in transport.names.items():
                if _matches(name, channel) if pattern else name == channel:
                    receivers += 1
                    # Not now: on a real bus a sender is never inside its receiver's code.
                    transport.home.soon(transport._arrived, name, channel, data)
        return receivers


class MemoryTransport(PubSub):
    """One member of a MemoryBroker."""

    def __init__(
        self,
        broker: MemoryBroker,
        home: Home,
        *,
        message_limit: int,
        send_seconds: float,
        metrics: Metrics | None = None,
    ) -> None:
        super().__init__(home, message_limit=message_limit, send_seconds=send_seconds, metrics=metrics)
        self.broker = broker
        self.names: dict[str, bool] = {}

    def open(self) -> None:
        if self._state is State.CLOSED:
            raise BusUnavailable("the bus connection was closed")
        if self not in self.broker.transports:
            self.broker.transports.append(self)
            self.home.run(self._changed, State.UP)

    def close(self) -> None:
        if self in self.broker.transports:
            self.broker.transports.remove(self)
        self.home.run(self._close)

    def flush(self, timeout: float) -> bool:
        return self._state is State.UP

    def _close(self) -> None:
        self._changed(State.CLOSED)
        self._fail_all(BusUnavailable("the bus connection was closed"))

    def _post(self, channel: str, data: bytes, callback: Callable[[Any], None] | None, hold: float) -> None:
        if self._state is State.CLOSED:
            receivers: Any = BusUnavailable("the bus connection was closed")
        else:
            receivers = self.broker.publish(channel, data)
        if callback is not None:
            callback(receivers)

    def _listen(self, name: str, pattern: bool) -> None:
        self.names[name] = pattern
        self.home.soon(self._confirmed)

    def _unlisten(self, name: str, pattern: bool) -> None:
        self.names.pop(name, None)
        self.home.soon(self._unlistened, name)

    def _is_confirmed(self, name: str) -> bool:
        return name in self.names


def _matches(pattern: str, channel: str) -> bool:
    # Redis' glob in fnmatch's terms: `[^` excludes, `[!` does not, and a backslash takes the next character as it is.
    pattern = pattern.replace("[!", "[\0!").replace("[^", "[!")
    return fnmatch.fnmatchcase(channel, re.sub(r"\\(.)", r"[\1]", pattern))
