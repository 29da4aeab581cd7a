"""The replies to what this process asked: one channel for all callers, and who waits for which request id."""

from __future__ import annotations

import itertools
import time
import uuid
from collections.abc import Callable
from typing import Any, Protocol

from .. import keys
from ..envelope import parse_reply
from ..errors import BusError, MalformedMessage
from ..losses import Losses
from ..metrics import Metrics
from .channels import Channels, Listens
from .holds import Hold
from .home import Waiter


class Hears(Listens, Protocol):
    """What the inbox needs of its bus."""

    @property
    def channels(self) -> Channels: ...

    @property
    def losses(self) -> Losses: ...

    @property
    def metrics(self) -> Metrics: ...


class Inbox:
    """`name` is the `reply_to` of every request of this process. It is subscribed to at the first request."""

    def __init__(self, bus: Hears) -> None:
        self._bus = bus
        self.name = keys.inbox_channel()
        self.fresh_ids = map(f"{uuid.uuid4().hex}-{{}}".format, itertools.count(1))
        """Request ids that nobody else has."""
        self.waiting: dict[Any, Waiter] = {}
        """Who waits for the replies with an id; a caller puts itself there, and takes itself away at its end."""
        self.not_begun: dict[Any, Callable[[], None]] = {}
        """Requests that wait until the server has confirmed the inbox."""
        self._subscribed = False
        self.held: dict[Any, Hold] = {}
        """Requests that wait for a connection."""

    def forget(self, key: Any) -> None:
        """What has not been sent yet is not sent any more; from any greenlet or thread."""
        self.not_begun.pop(key, None)
        if (held := self.held.pop(key, None)) is not None:
            self._bus.home.run(held.cancel)

    # --- on the home loop -------------------------------------------------------------------------------------------
    def when_heard(self, key: Any, begin: Callable[[], None], deadline: float) -> None:
        """Run `begin` as soon as the server has confirmed the inbox: a reply that nobody hears yet would be lost.

        Not at all once the caller has forgotten the id or `deadline` (time.monotonic) has passed.
        """
        if key not in self.waiting:
            return
        self.not_begun[key] = lambda: begin() if time.monotonic() < deadline else None
        if not self._subscribed:
            self._subscribed = True
            self._bus.channels.subscribe(self.name, self.arrived)
        elif self._bus.refusal(self.name) is not None:
            self._bus.listen(self.name)  # perhaps it is allowed by now: the caller is told either way, at once

    def confirmed(self) -> None:
        """Told by the bus."""
        not_begun, self.not_begun = self.not_begun, {}
        for begin in not_begun.values():
            begin()

    def refused(self, error: BusError) -> None:
        """Told by the bus: the server does not let this user hear its own replies."""
        not_begun, self.not_begun = self.not_begun, {}
        for key in not_begun:
            if (waiter := self.waiting.get(key)) is not None:
                waiter.wake(error)

    def arrived(self, channel: str, data: bytes) -> None:
        """A message on the inbox."""
        try:
            reply = parse_reply(data)
        except MalformedMessage as error:
            self._bus.losses.lost(error.code, f"a reply was refused: {error}")
            return
        try:
            waiter = self.waiting.get(reply.request_id)
        except TypeError:  # an id that is no text cannot be one of ours
            waiter = None
        if waiter is None:
            self._bus.metrics.drop("late_reply")
        else:
            waiter.wake(reply)

    def fail_all(self, error: Exception) -> None:
        """Nobody will get a reply any more."""
        for waiter in list(self.waiting.values()):
            waiter.wake(error)
