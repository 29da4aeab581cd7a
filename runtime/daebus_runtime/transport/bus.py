"""One bus as one process sees it: its connection state, publishing, and the two that every transport needs, `channels`
(who listens to what) and `inbox` (who waits for which reply). Knows bytes, no requests: those are the transports'.

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
    """See the module's text."""

    def __init__(self, home: Home, metrics: Metrics | None = None) -> None:
        self.home = home
        self.metrics = metrics or Metrics()
        self.losses = Losses(self.metrics)
        self.channels = Channels(self)
        self.inbox = Inbox(self)
        self.state, self.reason = State.CONNECTING, ""
        self._watchers: list[Callable[[State, str], None]] = []
        self.observers: list[Observer] = []
        """Each is told (channel, data) of everything that is published."""

    def adopt(self, metrics: Metrics) -> None:
        """Count for this service from now on; what was counted until now is brought along."""
        metrics.sent += self.metrics.sent
        metrics.reconnects += self.metrics.reconnects
        for reason, count in self.metrics.dropped.items():
            metrics.drop(reason, count)
        self.metrics = self.losses.metrics = metrics

    # --- state, from any greenlet or thread -------------------------------------------------------------------------
    def watch(self, callback: Callable[[State, str], None]) -> None:
        """Be told each change of state, with its reason; the present one at once."""
        self._watchers.append(callback)
        callback(self.state, self.reason)

    def unwatch(self, callback: Callable[[State, str], None]) -> None:
        if callback in self._watchers:
            self._watchers.remove(callback)

    def changed(self, state: State, reason: str = "") -> None:
        """Take note of a new state; told to the watchers when it is another one."""
        self.reason = reason
        if self.state in (state, State.CLOSED):
            return
        self.state = state
        for watcher in list(self._watchers):
            watcher(state, reason)

    @abc.abstractmethod
    def open(self) -> None:
        """Begin to connect; returns at once. BusUnavailable when it was closed."""

    def close(self) -> None:
        """Give back every connection; whoever waits fails with BusUnavailable."""
        self.home.run(self._close)

    @abc.abstractmethod
    def _close(self) -> None: ...

    def _closed(self) -> None:
        self.changed(State.CLOSED)
        self.inbox.fail_all(BusUnavailable(CLOSED))

    def forsake(self) -> None:
        """In a forked child: this bus is the parent's. Let go of its connections without a word on them."""
        self.state = State.CLOSED

    @abc.abstractmethod
    def flush(self, timeout: float) -> bool:
        """Wait until the server has taken in what was sent so far; False when it has not within `timeout` seconds."""

    @abc.abstractmethod
    def ask(self, *words: str, seconds: float = 2.0) -> Any:
        """One command to the server and its answer, for diagnosis (`PING`, `INFO`). BusError as in refusals.py."""

    # --- publishing and listening -----------------------------------------------------------------------------------
    @abc.abstractmethod
    def post(self, channel: str, data: bytes, callback: Callback | None, hold: float) -> Hold | None:
        """Publish. `callback` gets the number of receivers, or an exception as a value; without one a loss is counted
        and said. Without a connection it waits for up to `hold` seconds; then the result can be cancelled."""

    @abc.abstractmethod
    def listen(self, name: str) -> None:
        """Ask for what is published on a name, a channel or a pattern. Asked again for one that is refused, tries
        again."""

    @abc.abstractmethod
    def unlisten(self, name: str) -> None:
        """Ask for no more; `channels.ended(name)` follows once nothing more can arrive."""

    @abc.abstractmethod
    def is_confirmed(self, name: str) -> bool:
        """Whether the server has acknowledged a name on the connection of this moment."""

    @abc.abstractmethod
    def refusal(self, name: str) -> BusError | None:
        """Why the server does not let us listen to a name; None when it does or has not answered yet."""

    @abc.abstractmethod
    def explain(self, error: Exception, channel: str) -> BusError:
        """The exception for what went wrong with a publish on a channel."""
