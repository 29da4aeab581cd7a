"""The messages of this process to one service: stored in batches, one for each turn of the loop, in their order.

If the connection is lost before the server has answered, nobody knows whether a batch was stored. It is sent again,
with the same numbers, before anything new; the server recognizes what it has.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from typing import Any

import gevent

from ...errors import BusUnavailable, IdReused
from ..home import Home
from .steps import ASLEEP, DUPLICATE, KNOWN, REUSED, STORED, UNKNOWN, Letter, NotNow, Steps

RESULTS = {
    DUPLICATE: DUPLICATE,
    REUSED: IdReused("this id was given to a message with another content"),
}
AGAIN_SECONDS = 0.05
"""When a batch is tried again that a connected server could not take (LOADING)."""


class Parcel:
    """One message to be stored. `done` gets True once it is, DUPLICATE if it was stored before, False if there is no
    room, or an exception; if it was published instead, the number of receivers.

    deadline: in time.monotonic(); None without one. wanted: False once nobody waits any more; then it is not sent.
    stored: whether the bus is known to have it.
    """

    __slots__ = ("deadline", "digest", "done", "envelope", "id", "number", "stored", "wanted")

    def __init__(
        self,
        identity: str,
        envelope: bytes,
        deadline: float | None,
        done: Callable[[Any], None],
        digest: str = "",
    ) -> None:
        self.id, self.envelope, self.deadline, self.done, self.digest = identity, envelope, deadline, done, digest
        self.number = 0
        self.wanted = True
        self.stored = False


class Outgoing:
    """`stray` gets the parcels for a service that is unknown, or has no replica now, with UNKNOWN or ASLEEP. Home loop
    only."""

    def __init__(
        self,
        steps: Steps,
        home: Home,
        process: str,
        service: str,
        is_up: Callable[[], bool],
        stray: Callable[[str, str, list[Parcel]], None],
    ) -> None:
        self._steps, self._home, self._process, self.service = steps, home, process, service
        self._is_up, self._stray = is_up, stray
        self._fresh: list[Parcel] = []
        self._unsure: list[Parcel] = []
        self._refused: list[Parcel] = []
        """What the server could not take; it goes before anything new."""
        self._scheduled = False
        self._asking = False
        """Whether the server is being asked again. Nothing new may overtake that: the server keeps the last number."""
        self._last = 0
        self.accept_all = False
        """Whether it does not matter that the service has no replica at present: nobody else could take the messages.
        """
        self.known = False
        """Whether this process has reached the service. If the server knows nothing of it later, the server has lost
        its data: the service comes back to it as this process did."""

    def add(self, parcel: Parcel) -> None:
        """Send it with the next batch."""
        self._fresh.append(parcel)
        if not self._scheduled:
            self._scheduled = True
            self._home.soon(self._flush)

    def resume(self) -> None:
        """Call when the bus is connected again."""
        if self._asking:
            return
        unsure, self._unsure = sorted(self._unsure, key=lambda parcel: parcel.number), []
        refused, self._refused = self._refused, []
        self._fresh[:0] = refused
        wanted = [parcel for parcel in unsure if parcel.wanted]
        self._asking = bool(wanted)
        self._post(wanted, again=True)
        self._flush()

    def _again(self) -> None:
        if self._is_up():
            self.resume()

    def accept(self, parcels: list[Parcel]) -> None:
        """Store messages for a known service that has no replica at present."""
        self._number(parcels)
        self._post(parcels, self._acceptance)

    @property
    def _acceptance(self) -> str:
        return KNOWN if self.known else ASLEEP

    def _flush(self) -> None:
        self._scheduled = False
        if not self._fresh or self._asking or self._unsure or self._refused or not self._is_up():
            self._fresh = [parcel for parcel in self._fresh if parcel.wanted]
            return
        fresh, self._fresh = [parcel for parcel in self._fresh if parcel.wanted], []
        self._number(fresh)
        self._post(fresh, self._acceptance if self.accept_all else "")

    def _number(self, parcels: list[Parcel]) -> None:
        last = self._last
        for parcel in parcels:
            last += 1
            parcel.number = last
        self._last = last

    def _post(self, parcels: list[Parcel], accept: str = "", again: bool = False) -> None:
        if not parcels:
            return
        now = time.monotonic()
        letters = [
            Letter(
                parcel.number,
                parcel.digest,
                0 if parcel.deadline is None else max(1, int((parcel.deadline - now) * 1000)),
                parcel.id,
                parcel.envelope,
            )
            for parcel in parcels
        ]
        answered = functools.partial(self._answered, parcels, accept, again)
        self._steps.send(self.service, self._process, letters, accept, again, answered)

    def _answered(self, parcels: list[Parcel], accept: str, again: bool, value: Any) -> None:
        if again:
            self._asking = False
            self._home.soon(self._flush)
        if type(value) is list:
            self.known = True
            for parcel, code in zip(parcels, value, strict=True):
                parcel.stored = 0 < code < REUSED
                parcel.done(parcel.stored if code <= STORED else RESULTS[code])
        elif value is UNKNOWN or value is ASLEEP:
            if accept == KNOWN:
                self.known = False  # the server remembers that no replica came for long
            self._stray(self.service, value, parcels)
        elif isinstance(value, BusUnavailable):
            if not self._unsure and not self._refused:
                self._home.soon(gevent.spawn_later, AGAIN_SECONDS, self._again)
            if isinstance(value, NotNow) and not again:  # so it keeps its place, with a new number
                self._refused += parcels
            else:
                self._unsure += parcels
        else:
            for parcel in parcels:
                parcel.done(value)
