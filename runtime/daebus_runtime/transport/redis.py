"""A bus on a Redis or Valkey server: one link for commands, one for subscriptions."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from hiredis import pack_command

from ..errors import BusError, BusUnavailable
from ..metrics import Metrics
from . import Limits, State
from .bus import CLOSED, Bus, Callback
from .compatible import Compatible
from .holds import Hold
from .home import TIMEOUT, Home, Waiter
from .link import Link
from .links import Links
from .refusals import mapped
from .stream import pack
from .subscriptions import Subscriptions
from .topology import Role, Topology


class RedisBus(Bus):
    """Publish and subscribe on the server that `topology` names."""

    def __init__(self, topology: Topology, home: Home, metrics: Metrics | None = None) -> None:
        super().__init__(home, metrics)
        self.topology = topology
        self._inbox_bytes = self.inbox.name.encode()
        self._names: dict[bytes, str] = {}
        """Names of the subscribed channels, by their bytes: a lookup is faster than decoding the name each time."""
        self.links = Links(home, topology, self._prepare)
        self.commands = self.links.get(Role.COMMANDS)
        self._pushes = self.links.get(Role.SUBSCRIPTIONS)
        self._wanted = Subscriptions(home, self._pushes, self._heard, self.channels.ended, self._refused)
        self._opened = False
        self.on_connected: Callable[[], None] = lambda: None
        """Called after each connect of the link for commands, before anything else is sent."""
        self.commands.on_up = self._up
        self.commands.on_down = self._down
        self._pushes.on_up = self._renew
        self._pushes.on_down = self._deaf
        self._pushes.on_push = self._pushed

    def _prepare(self, link: Link) -> None:
        link.on_lost = self.losses.lost
        link.on_refused = self._not_taken

    # --- life -----------------------------------------------------------------------------------------------------
    def open(self) -> None:
        if self.state is State.CLOSED:
            raise BusUnavailable(CLOSED)
        if not self._opened:
            self._opened = True
            self.home.run(self.commands.open)
            self.home.run(self._pushes.open)

    def _close(self) -> None:
        self._wanted.close()
        self.links.close()
        self._closed()

    def forsake(self) -> None:
        super().forsake()
        self._wanted.close()
        self.links.forsake()

    def flush(self, timeout: float) -> bool:
        if not self.commands.up:
            return False
        try:
            self.ask("PING", seconds=timeout)  # commands are answered in order
        except BusError:
            return False
        return True

    def ask(self, *words: str, seconds: float = 2.0) -> Any:
        self.open()
        waiter = Waiter(self.home)
        self.home.run(self.commands.post, pack(*words), waiter.wake, seconds)
        value = waiter.wait(time.monotonic() + seconds)
        if value is TIMEOUT:
            raise BusUnavailable(f"no answer to {words[0]} within {seconds:g} s")
        if isinstance(value, Exception):
            raise mapped(value, self.topology.user, words[0]) from None
        return value

    # --- links ----------------------------------------------------------------------------------------------------
    def _up(self) -> None:
        self.on_connected()
        if self.commands.connects > 1:
            self.metrics.reconnects += 1
        if self._pushes.up:
            self.changed(State.UP)

    def _renew(self) -> None:
        if self._pushes.connects > 1:
            self.metrics.reconnects += 1
        self._wanted.renew()
        if self.commands.up:
            self.changed(State.UP)

    def _down(self, reason: str) -> None:
        self.changed(State.DOWN, reason)

    def _deaf(self, reason: str) -> None:
        self._wanted.lost()
        for name in self.channels.names:
            self.channels.ended(name)
        self.changed(State.DOWN, reason)

    def _pushed(self, push: list[Any]) -> None:
        kind = push[0]
        if kind == b"message":
            if push[1] == self._inbox_bytes:
                self.inbox.arrived(self.inbox.name, push[2])
                return
            channel = self._names.get(push[1]) or push[1].decode("utf-8", "replace")
            self.channels.arrived(channel, channel, push[2])
        elif kind == b"pmessage":
            self.channels.arrived(push[1].decode("utf-8", "replace"), push[2].decode("utf-8", "replace"), push[3])
        else:
            self._pushes.confirm(push)

    def _heard(self, name: str) -> None:
        if name == self.inbox.name:
            self.inbox.confirmed()

    def _refused(self, name: str, error: BusError) -> None:
        if name == self.inbox.name:
            self.inbox.refused(error)

    # --- publishing and listening ---------------------------------------------------------------------------------
    def post(self, channel: str, data: bytes, callback: Callback | None, hold: float) -> Hold | None:
        if self.observers:
            for observer in self.observers:
                observer(channel, data)
        if self.state is State.CLOSED:
            if callback is not None:
                callback(BusUnavailable(CLOSED))
            return None
        command = pack_command(("PUBLISH", channel, data))  # type: ignore[arg-type]
        return self.commands.post(command, callback, hold)

    def count_listeners(self, channel: str, callback: Callback) -> None:
        def counted(value: Any) -> None:
            failed = isinstance(value, Exception)
            found = list(value.values()) if isinstance(value, dict) else value[1::2] if not failed else value
            callback(self.explain(value, channel) if failed else int(found[0]))

        self.commands.post(pack("PUBSUB", "NUMSUB", channel), counted)

    def listen(self, name: str) -> None:
        self._names[name.encode()] = name
        self._wanted.add(name)

    def unlisten(self, name: str) -> None:
        self._names.pop(name.encode(), None)
        self._wanted.remove(name)

    def is_confirmed(self, name: str) -> bool:
        return name in self._wanted.confirmed

    def refusal(self, name: str) -> BusError | None:
        return self._wanted.refused.get(name)

    def explain(self, error: Exception, channel: str) -> BusError:
        if not isinstance(error, BusError):
            self.links.told(error)
        return mapped(error, self.topology.user, "PUBLISH", channel)

    def _not_taken(self, error: Exception) -> None:
        """The server has refused a message whose sender does not wait, for example a reply."""
        self.links.told(error)
        text = mapped(error, self.topology.user, "PUBLISH")
        self.losses.lost("refused", f"a message was not taken by the bus: {text}")


class RedisTransport(Compatible):
    """The compatible layer on the server that `topology` names."""

    def __init__(self, topology: Topology, home: Home, limits: Limits, metrics: Metrics | None = None) -> None:
        super().__init__(RedisBus(topology, home, metrics), limits)
