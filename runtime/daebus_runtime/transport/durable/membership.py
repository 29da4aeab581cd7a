"""One replica of a service on the bus: joining, coming back after an outage, being taken out, leaving.

A replica has joined while the server knows it. It is superseded when the others took it for dead, or when the server
has lost its data; then it joins under a new name, and what it had before does not count any more.
"""

from __future__ import annotations

import abc
import functools
import os
import secrets
import socket
import time
from typing import Any

import gevent

from ... import __version__, codec
from ...errors import BusUnavailable
from ...keys import INBOX_PREFIX, OWN_PREFIX, is_event_queue
from ...logs import runtime_logger
from ..bus import Bus
from .backlog import Backlog
from .pulse import ALONE_SECONDS, TAKEN_OUT, TROUBLE, TRUSTED_SECONDS, Pulse
from .refusals import Refusals
from .steps import SUPERSEDED, VERSION, Steps

RETRY_SECONDS = 0.1
REGROUP_SECONDS = 0.5  # errors that arrive so soon after each other have the same cause
MOST_NAMED = 100  # channels that a replica says it listens on


class Membership(abc.ABC):
    """Home loop only. `queue`: how many calls may wait for the service."""

    def __init__(self, bus: Bus, steps: Steps, service: str, queue: int) -> None:
        self._bus, self._home, self._steps, self.service, self._queue = bus, bus.home, steps, service, queue
        self.replica: Any = None
        self._pulse: Pulse | None = None
        self._joined = self._joining = self._retrying = self._entered = False
        self.retiring = self._left = False
        self.refusals = Refusals(service, lambda: self._pulse.trouble if self._pulse is not None else "")
        self._regrouped = 0.0
        self._since = time.monotonic()
        self._backlog = Backlog(bus.metrics, events=is_event_queue(service))

    # --- what the messages have to say about it ----------------------------------------------------------------------
    @abc.abstractmethod
    def known(self) -> list[bytes]:
        """The entries that this replica has, and knows of."""

    @abc.abstractmethod
    def recovering(self) -> None:
        """It comes back: the server is asked for entries beside the known ones."""

    @abc.abstractmethod
    def recovered(self, value: Any) -> bool:
        """The entries that it has and did not know of. Returns whether that is all; else they are asked for again."""

    @abc.abstractmethod
    def settled(self) -> None:
        """It has joined, or the server does not allow that."""

    @abc.abstractmethod
    def resume(self) -> None:
        """It has joined."""

    @abc.abstractmethod
    def forget(self) -> None:
        """It was taken out: all messages are other replicas'."""

    # --- joining ------------------------------------------------------------------------------------------------------
    def join(self) -> None:
        """Make this replica known; called each time the bus is connected."""
        if self._joining or self._left or (self.retiring and self.replica is None):
            return
        self._joining = True
        if self.replica is None:
            self.replica = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}"
        if not self._entered:
            self._register(again=False)
        else:  # it may have been taken for dead meanwhile
            self.recovering()
            done = functools.partial(self._rejoined, self.replica)
            self._steps.recover(self.service, self.replica, self.known(), done)

    def _register(self, again: bool) -> None:
        self._joining = True
        done = functools.partial(self._registered, self.replica)
        self._steps.register(self.service, self.replica, self._about(), self._queue, again, done)

    def _about(self) -> bytes:
        about = {
            "name": self.replica,
            "version": __version__,
            "protocols": [1, VERSION],
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "up": round(time.monotonic() - self._since, 3),
            "listens": self._listens()[:MOST_NAMED],
        }
        return codec.dumps(about)

    def _listens(self) -> list[str]:
        """The channels of events; others see from this that they are no services."""
        names = [name for name in self._bus.channels.names if not name.startswith((INBOX_PREFIX, OWN_PREFIX))]
        return sorted(name for name in names if name != self.service)

    def _registered(self, replica: str, value: Any) -> None:
        if self._is_in(replica, value):
            self._entered = True
            if self._pulse is None and not self._left:
                self._live()
            self._go_on()

    def _rejoined(self, replica: str, value: Any) -> None:
        if self._is_in(replica, value):
            if self._pulse is not None:
                self._pulse.beaten = time.monotonic()
            if self.recovered(value):
                self._go_on()
            else:
                self.join()

    def _is_in(self, replica: str, value: Any) -> bool:
        """Whether the server knows this replica now. An answer to an earlier name of it says nothing about that."""
        if replica != self.replica:
            return False
        self._joining = False
        if value is SUPERSEDED:
            self.superseded(replica)
        elif isinstance(value, Exception):
            self.not_done("join", value)
        else:
            return True
        return False

    def _go_on(self) -> None:
        self._joined = True
        self.settled()
        self.refusals.works("join")
        self.refusals.well()
        self.resume()

    # --- signs of life ------------------------------------------------------------------------------------------------
    def _live(self) -> None:
        vitals = self._steps.vitals(self.service, self.replica, self._about(), self._queue)
        if vitals is not None:
            tell = functools.partial(self._home.run, self._felt, self.replica)
            self._pulse = Pulse(vitals, self.service, self.replica, tell, self._backlog.seen)
            self._pulse.start()

    def _felt(self, replica: str, what: str) -> None:
        """What the pulse tells."""
        if replica != self.replica or self._pulse is None:
            pass
        elif what is TAKEN_OUT:
            self.superseded(replica)
        elif what is not TROUBLE:
            self.woken()
        elif self._pulse.trouble:
            self.refusals.say(self._pulse.trouble)
        else:
            self.refusals.well()

    @abc.abstractmethod
    def woken(self) -> None:
        """Somebody has given messages back."""

    @property
    def doubtful(self) -> bool:
        """Whether the others may have taken this replica for dead."""
        return self._pulse is not None and time.monotonic() - self._pulse.beaten > TRUSTED_SECONDS

    @property
    def alone(self) -> bool:
        """Whether no other replica can have begun to receive published requests."""
        pulse = self._pulse
        if pulse is None:
            return True
        return len(pulse.alive) == 1 and time.monotonic() - pulse.looked < ALONE_SECONDS

    @property
    def crowd(self) -> int:
        """How many replicas the service has, as last seen."""
        return 1 if self._pulse is None else len(self._pulse.alive)

    @property
    def present(self) -> str | None:
        """The name of this replica while the server knows it."""
        return self.replica if self._joined else None

    # --- trouble ------------------------------------------------------------------------------------------------------
    def ask_again(self) -> None:
        """It is not known what has become of messages, or of this replica: ask the server."""
        self._joined = False
        if self._bus.up:
            self.join()

    def not_done(self, what: str, error: Exception) -> None:
        """The server did not do a step."""
        self._joined = False
        text, passing = str(error), isinstance(error, BusUnavailable)
        if self._left or (passing and not self._bus.up):
            return  # the bus says so; it calls `join` once it is connected
        if "NOGROUP" in text:
            self._regroup()
            return
        self.refusals.add(what, text, passing)
        if what == "join" and not passing:
            self.settled()
        if not self._retrying:
            self._retrying = True
            self._home.soon(gevent.spawn_later, RETRY_SECONDS, self._retry)

    def _retry(self) -> None:
        self._retrying = False
        if not self._joined and self._bus.up:
            self.join()

    def _regroup(self) -> None:
        if self._joining:
            return
        if time.monotonic() - self._regrouped > REGROUP_SECONDS:
            runtime_logger.warning(
                "somebody has removed the stream of service %s or its group; they are made anew", self.service
            )
        self._regrouped = time.monotonic()
        self._register(again=True)

    def superseded(self, replica: str) -> None:
        """A replica was taken out."""
        if replica != self.replica or self._left:
            return
        runtime_logger.warning(
            "replica %s of service %s was taken out of the bus (paused for too long, or the server lost its data); "
            "the outcomes of its %d messages do not count",
            replica,
            self.service,
            len(self.known()),
        )
        if self._pulse is not None:
            self._pulse.stop()
        self._pulse = self.replica = None
        self._joined = self._joining = self._entered = False
        self.refusals.clear()
        self.forget()
        if self._bus.up:
            self.join()

    def lost(self) -> None:
        """The bus is away."""
        self._joined = self._joining = False
        self.refusals.clear(told=True)

    def depart(self) -> None:
        """Leave the bus; messages that are left become free."""
        self._left = True
        if self._pulse is not None:
            self._pulse.stop()
        if self._joined:
            self._joined = False
            self._steps.leave(self.service, self.replica, lambda value: None)
