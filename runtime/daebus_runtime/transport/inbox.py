"""The replies to this process's requests: one channel for all callers, and which caller waits for which request id."""

from __future__ import annotations

import itertools
import time
import uuid
from collections.abc import Callable
from typing import Any, Protocol

from .. import keys
from ..envelope import parse_replies
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
    """`name` is the `reply_to` of every request of this process. The first request subscribes to it."""

    def __init__(self, bus: Hears) -> None:
        self._bus = bus
        self.name = keys.inbox_channel()
        self.fresh_ids = map(f"{uuid.uuid4().hex}-{{}}".format, itertools.count(1))
        """Unique request ids."""
        self.waiting: dict[Any, Waiter] = {}
        """The waiter for each request id. Callers add and remove themselves."""
        self.not_begun: dict[Any, Callable[[], None]] = {}
        """Requests that wait until the server has confirmed the inbox."""
        self._subscribed = False
        self.on_confirmed: Callable[[], None] = lambda: None
        """Called each time the server has confirmed the inbox; replies before that may be lost."""
        self.held: dict[Any, Hold] = {}
        """Requests that wait for a connection."""

    def forget(self, key: Any) -> None:
        """Cancel the request if it was not sent yet; from any greenlet or thread."""
        self.not_begun.pop(key, None)
        if (held := self.held.pop(key, None)) is not None:
            self._bus.home.run(held.cancel)

    # --- on the home loop -------------------------------------------------------------------------------------------
    def when_heard(self, key: Any, begin: Callable[[], None], deadline: float) -> None:
        """Run `begin` as soon as the server has confirmed the inbox. A reply before that would be lost.

        It does not run if the caller has forgotten the id or `deadline` (time.monotonic) has passed.
        """
        if key not in self.waiting:
            return
        self.not_begun[key] = lambda: begin() if time.monotonic() < deadline else None
        if not self._subscribed:
            self._subscribed = True
            self._bus.channels.subscribe(self.name, self.arrived)
        elif self._bus.refusal(self.name) is not None:
            self._bus.listen(self.name)  # try again: it may be allowed by now, and the answer comes at once

    def confirmed(self) -> None:
        """Called by the bus: the server has confirmed the inbox."""
        self.on_confirmed()
        not_begun, self.not_begun = self.not_begun, {}
        for begin in not_begun.values():
            begin()

    def refused(self, error: BusError) -> None:
        """Called by the bus: the server does not allow this user to subscribe to the inbox."""
        not_begun, self.not_begun = self.not_begun, {}
        for key in not_begun:
            if (waiter := self.waiting.get(key)) is not None:
                waiter.wake(error)

    def arrived(self, channel: str, data: bytes) -> None:
        """A message on the inbox: a reply, or a list of them."""
        try:
            replies = parse_replies(data)
        except MalformedMessage as error:
            self._bus.losses.lost(error.code, f"a reply was refused: {error}")
            return
        for reply in replies:
            try:
                waiter = self.waiting.get(reply.request_id)
            except TypeError:  # not hashable, so not one of our ids
                waiter = None
            if waiter is None:
                self._bus.metrics.drop("late_reply")
            else:
                waiter.wake(reply)

    def fail_all(self, error: Exception) -> None:
        """No replies can arrive any more: all waiters get the error."""
        for waiter in list(self.waiting.values()):
            waiter.wake(error)
