"""The subscriptions on a Redis server, each name with the server's answer.

Each name has its own SUBSCRIBE command. The server answers the commands in order, each with a push or an error, so an
error concerns one name only and the others work. A refused name is tried again, at growing intervals.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .. import keys
from ..errors import BusError
from ..logs import runtime_logger
from .home import Home
from .link import Link
from .refusals import mapped
from .stream import pack

RETRY_FIRST, RETRY_MOST = 1.0, 60.0
ENDS = frozenset({b"unsubscribe", b"punsubscribe"})


class _Asked:
    """The callback of one SUBSCRIBE or UNSUBSCRIBE command that the server has not answered yet."""

    __slots__ = ("_done", "command", "name")

    def __init__(self, name: str, command: str, done: Callable[[_Asked, Any], None]) -> None:
        self.name, self.command, self._done = name, command, done

    def expects(self, push: list[Any]) -> bool:
        return bool(push[0] == self.command.lower().encode() and push[1] == self.name.encode())

    def __call__(self, value: Any) -> None:
        self._done(self, value)


class Subscriptions:
    """Home loop only. `on_confirmed`, `on_ended` and `on_refused` get the name."""

    def __init__(
        self,
        home: Home,
        link: Link,
        on_confirmed: Callable[[str], None],
        on_ended: Callable[[str], None],
        on_refused: Callable[[str, BusError], None],
    ) -> None:
        self._home, self._link = home, link
        self._on_confirmed, self._on_ended, self._on_refused = on_confirmed, on_ended, on_refused
        self._latest: dict[str, _Asked | None] = {}
        """The wanted names, in the order in which they were added, each with its unanswered command."""
        self.confirmed: set[str] = set()
        self.refused: dict[str, BusError] = {}
        self._unsaid: list[str] = []
        self._pause = RETRY_FIRST
        self._timer: Any = None

    # --- what is wanted -------------------------------------------------------------------------------------------
    def add(self, name: str) -> None:
        """Subscribe to a name; a refused name is tried once more."""
        if name not in self._latest or (name in self.refused and self._latest[name] is None):
            self._subscribe(name)

    def remove(self, name: str) -> None:
        """Unsubscribe from a name; `on_ended` follows."""
        if name not in self._latest:
            return
        del self._latest[name]
        self.confirmed.discard(name)
        self.refused.pop(name, None)
        if self._link.up:
            self._post(_Asked(name, _command("UNSUBSCRIBE", name), self._unsubscribed))
        else:
            self._on_ended(name)  # without a connection nobody confirms it

    def renew(self) -> None:
        """Call after a connect: subscribe to all names again, because the new connection has no subscriptions."""
        for name in list(self._latest):
            self._subscribe(name)

    def lost(self) -> None:
        """The connection is gone."""
        self.confirmed.clear()
        for name in self._latest:
            self._latest[name] = None

    def close(self) -> None:
        if self._timer is not None:
            self._timer.close()
            self._timer = None

    # --- what the server says -------------------------------------------------------------------------------------
    def _subscribe(self, name: str) -> None:
        self._latest[name] = None
        if self._link.up:
            asked = self._latest[name] = _Asked(name, _command("SUBSCRIBE", name), self._subscribed)
            self._post(asked)

    def _post(self, asked: _Asked) -> None:
        self._link.post(pack(asked.command, asked.name), asked)

    def _subscribed(self, asked: _Asked, value: Any) -> None:
        name = asked.name
        if self._latest.get(name) is not asked:
            return  # removed or subscribed again meanwhile
        self._latest[name] = None
        if not isinstance(value, Exception):
            self._is_allowed(name)
        elif self._link.up:
            self._is_refused(name, mapped(value, self._link.topology.user, asked.command, name))

    def _unsubscribed(self, asked: _Asked, value: Any) -> None:
        if self._link.up:
            self._on_ended(asked.name)

    def _is_allowed(self, name: str) -> None:
        self.confirmed.add(name)
        if self.refused.pop(name, None) is not None:
            runtime_logger.info("the bus accepts the subscription to %r now", name)
        if not self.refused:
            self._pause = RETRY_FIRST
        self._on_confirmed(name)

    def _is_refused(self, name: str, error: BusError) -> None:
        before, self.refused[name] = self.refused.get(name), error
        if before is None or str(before) != str(error):
            if not self._unsaid:
                self._home.soon(self._say)
            self._unsaid.append(name)
        if self._timer is None:
            self._timer = self._home.hub.loop.timer(self._pause)
            self._timer.start(self._retry)
        self._on_refused(name, error)

    def _say(self) -> None:
        """Log one line for all names that were refused together."""
        names, self._unsaid = [name for name in self._unsaid if name in self.refused], []
        if not names:
            return
        others = f" and {len(names) - 1} more" if len(names) > 1 else ""
        runtime_logger.error(
            "the subscription to %r%s is refused: %s; the others work, and this is tried again",
            names[0],
            others,
            self.refused[names[0]],
        )

    def _retry(self) -> None:
        self.close()
        self._pause = min(self._pause * 2, RETRY_MOST)
        for name in list(self.refused):
            self.add(name)


def _command(word: str, name: str) -> str:
    return f"P{word}" if keys.is_pattern(name) else word
