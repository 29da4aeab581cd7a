"""The compatible layer on a Redis or Valkey server: two links, one for commands and one for subscriptions."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from ..errors import BusError, BusUnavailable
from ..metrics import Metrics
from . import State
from .home import TIMEOUT, Home, Waiter
from .link import Link, Subscriptions, pack
from .pubsub import PubSub
from .topology import Role, Topology


class RedisTransport(PubSub):
    """Publish and subscribe on the server that `topology` names."""

    def __init__(
        self,
        topology: Topology,
        home: Home,
        *,
        message_limit: int,
        send_seconds: float,
        metrics: Metrics | None = None,
    ) -> None:
        super().__init__(home, message_limit=message_limit, send_seconds=send_seconds, metrics=metrics)
        self.topology = topology
        self._inbox_bytes = self._inbox_name.encode()
        self._commands = Link(home, topology, Role.COMMANDS)
        self._pushes = Link(home, topology, Role.SUBSCRIPTIONS)
        self._channels = Subscriptions(self._pushes)
        self._opened = False
        self._commands.on_up = self._up
        self._commands.on_down = self._down
        self._pushes.on_up = self._renew
        self._pushes.on_down = self._deaf
        self._pushes.on_push = self._pushed

    def open(self) -> None:
        if self._state is State.CLOSED:
            raise BusUnavailable("the bus connection was closed")
        if not self._opened:
            self._opened = True
            self.home.run(self._commands.open)
            self.home.run(self._pushes.open)

    def close(self) -> None:
        self.home.run(self._close)

    def _close(self) -> None:
        self._commands.close()
        self._pushes.close()
        self._changed(State.CLOSED)
        self._fail_all(BusUnavailable("the bus connection was closed"))

    def flush(self, timeout: float) -> bool:
        if not self._commands.up:
            return False
        try:
            self.ask("PING", seconds=timeout)  # commands are answered in order
        except BusError:
            return False
        return True

    # --- links ----------------------------------------------------------------------------------------------------
    def _up(self) -> None:
        if self._commands.connects > 1:
            self.metrics.reconnects += 1
        if self._pushes.up:
            self._changed(State.UP)

    def _renew(self) -> None:
        if self._pushes.connects > 1:
            self.metrics.reconnects += 1
        self._channels.renew()
        if self._commands.up:
            self._changed(State.UP)

    def _down(self, reason: str) -> None:
        self._changed(State.DOWN, reason)

    def _deaf(self, reason: str) -> None:
        self._channels.lost()
        for name in list(self._subscriptions):
            self._unlistened(name)
        self._changed(State.DOWN, reason)

    def _pushed(self, push: list[Any]) -> None:
        kind = push[0]
        if kind == b"message":
            if push[1] == self._inbox_bytes and self._inbox is not None:
                self._replied(self._inbox_name, push[2])
                return
            channel = push[1].decode("utf-8", "replace")
            self._arrived(channel, channel, push[2])
        elif kind == b"pmessage":
            self._arrived(push[1].decode("utf-8", "replace"), push[2].decode("utf-8", "replace"), push[3])
        elif self._channels.pushed(kind, name := push[1].decode("utf-8", "replace")):
            self._confirmed()
        else:
            self._unlistened(name)

    # --- PubSub's primitives --------------------------------------------------------------------------------------
    def _post(self, channel: str, data: bytes, callback: Callable[[Any], None] | None, hold: float) -> None:
        if self._state is State.CLOSED:
            if callback is not None:
                callback(BusUnavailable("the bus connection was closed"))
            return
        self._commands.post(pack("PUBLISH", channel, data), callback, hold)

    def _listen(self, name: str, pattern: bool) -> None:
        self._channels.add(name, pattern)

    def _unlisten(self, name: str, pattern: bool) -> None:
        self._channels.remove(name, pattern)
        if not self._pushes.up:
            self._unlistened(name)  # there is nobody to confirm it

    def _is_confirmed(self, name: str) -> bool:
        return name in self._channels.confirmed

    def ask(self, *words: str, seconds: float = 2.0) -> Any:
        """One command to the server and its answer, for diagnosis (`PING`, `INFO`). BusError or BusUnavailable."""
        self.open()
        waiter = Waiter(self.home)
        self.home.run(self._commands.post, pack(*words), waiter.wake, seconds)
        value = waiter.wait(time.monotonic() + seconds)
        if value is TIMEOUT:
            raise BusUnavailable(f"no answer to {words[0]} within {seconds:g} s")
        if isinstance(value, Exception):
            raise value if isinstance(value, BusError) else BusError(str(value))
        return value
