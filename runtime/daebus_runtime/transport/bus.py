"""One bus as seen by one process: connection state, publishing, `channels` (who listens to what) and `inbox` (who waits
for which reply). It handles bytes; requests are the transports' part.

Implementations: `redis.py` and `memory.py`. Methods run on the home loop unless they say otherwise.
"""

from __future__ import annotations

import abc
from collections.abc import Callable
from typing import Any

from ..errors import BusError, BusUnavailable
from ..losses import Losses
from ..metrics import Metrics
from . import State
from .channels import Channels
from .holds import Hold
from .home import Home
from .inbox import Inbox

Callback = Callable[[Any], None]
Observer = Callable[[str, bytes], None]
CLOSED = "the bus connection was closed"


class Bus(abc.ABC):
    """See the module's docstring."""

    def __init__(self, home: Home, metrics: Metrics | None = None) -> None:
        self.home = home
        self.metrics = metrics or Metrics()
        self.losses = Losses(self.metrics)
        self.channels = Channels(self)
        self.inbox = Inbox(self)
        self.state, self.reason = State.CONNECTING, ""
        self._watchers: list[Callable[[State, str], None]] = []
        self.observers: list[Observer] = []
        """Each is called with (channel, data) for every message that is published."""

    @property
    def up(self) -> bool:
        """Whether it is connected."""
        return self.state is State.UP

    def adopt(self, metrics: Metrics) -> None:
        """Count in this service's metrics from now on; the counts so far are added to them."""
        metrics.sent += self.metrics.sent
        metrics.reconnects += self.metrics.reconnects
        metrics.redelivered += self.metrics.redelivered
        for reason, count in self.metrics.dropped.items():
            metrics.drop(reason, count)
        self.metrics = self.losses.metrics = metrics

    # --- state, from any greenlet or thread -------------------------------------------------------------------------
    def watch(self, callback: Callable[[State, str], None]) -> None:
        """Call `callback(state, reason)` at each change of state, and once at once with the current state."""
        self._watchers.append(callback)
        callback(self.state, self.reason)

    def unwatch(self, callback: Callable[[State, str], None]) -> None:
        if callback in self._watchers:
            self._watchers.remove(callback)

    def changed(self, state: State, reason: str = "") -> None:
        """Set the state; the watchers are called if it differs from the old one."""
        self.reason = reason
        if self.state in (state, State.CLOSED):
            return
        self.state = state
        for watcher in list(self._watchers):
            watcher(state, reason)

    @abc.abstractmethod
    def open(self) -> None:
        """Start to connect; returns at once. BusUnavailable if it was closed."""

    def close(self) -> None:
        """Close all connections; everything that waits fails with BusUnavailable."""
        self.home.run(self._close)

    @abc.abstractmethod
    def _close(self) -> None: ...

    def _closed(self) -> None:
        self.changed(State.CLOSED)
        self.inbox.fail_all(BusUnavailable(CLOSED))

    def forsake(self) -> None:
        """In a forked child, where this bus is the parent's: close the copied sockets without sending anything."""
        self.state = State.CLOSED

    @abc.abstractmethod
    def flush(self, timeout: float) -> bool:
        """Wait until the server has processed everything sent so far; False if that takes longer than `timeout`."""

    @abc.abstractmethod
    def ask(self, *words: str, seconds: float = 2.0) -> Any:
        """Send one command, return its answer. For diagnosis (`PING`, `INFO`). BusError as in refusals.py."""

    # --- publishing and listening -----------------------------------------------------------------------------------
    @abc.abstractmethod
    def post(self, channel: str, data: bytes, callback: Callback | None, hold: float) -> Hold | None:
        """Publish. `callback` gets the number of receivers, or an exception as a value; without a callback, a loss is
        counted and logged. Without a connection the message waits for up to `hold` seconds; the Hold can cancel it."""

    @abc.abstractmethod
    def count_listeners(self, channel: str, callback: Callback) -> None:
        """`callback` gets the number of subscriptions to a channel, or an exception as a value."""

    @abc.abstractmethod
    def listen(self, name: str) -> None:
        """Subscribe to a name: a channel or a pattern. Called again for a name that was refused, it tries again."""

    @abc.abstractmethod
    def unlisten(self, name: str) -> None:
        """Unsubscribe; `channels.ended(name)` is called once nothing more can arrive."""

    @abc.abstractmethod
    def is_confirmed(self, name: str) -> bool:
        """Whether the server has acknowledged a name on the current connection."""

    @abc.abstractmethod
    def refusal(self, name: str) -> BusError | None:
        """Why the server refuses a name; None if it is allowed or not answered yet."""

    @abc.abstractmethod
    def explain(self, error: Exception, channel: str) -> BusError:
        """The exception for a failed publish on a channel."""
