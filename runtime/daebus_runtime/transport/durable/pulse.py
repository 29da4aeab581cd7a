"""Who is alive. Each replica gives signs of life, and some watch those of all, in an OS thread with a connection of its
own: a handler that holds the loop is not taken for dead.

A replica is dead when its count has not moved for DEAD_SECONDS of the watcher's own monotonic clock. No TTL and no idle
time of the server is used: both follow its wall clock, which may jump.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from ... import native
from ...errors import BusError, BusRefused, BusUnavailable
from ...logs import runtime_logger
from .look import Look
from .steps import GONE, Seen, Vitals

BEAT_SECONDS = 0.25
# A replica that was stopped for 8 s keeps its messages: a beat before, a beat after, and some slack.
DEAD_SECONDS = 8.7
TRUSTED_SECONDS = 5.0
"""A replica whose last sign of life is older may be dead for the others: it asks before it begins a message."""
ALONE_SECONDS = 0.5
"""A replica that has seen no other believes that for so long."""
PAUSED_SECONDS = 1.0
"""A watcher that did not look for this long was stopped itself: what it did not watch, it does not judge."""
WATCHERS = 8
LOOK_SECONDS = 5.0  # how often the others look whether they are watchers by now
KEEP_SECONDS = 20.0  # how often the TTL of the service's keys is renewed
TAKEN_OUT, FREE, TROUBLE = "taken out", "free", "trouble"
SAMPLE_SECONDS = 1.0
ENLIST_SECONDS = 60.0
REFUSED_SECONDS = 60.0
"""When a sample that the server has refused is tried again."""


class Watch:
    """What one replica has seen of the others."""

    def __init__(self) -> None:
        self._seen: dict[str, tuple[int, float]] = {}
        self._looked = 0.0

    def dead(self, beats: Mapping[str, int], now: float) -> dict[str, int]:
        """The replicas whose beat has not moved for too long, each with its beat. now: time.monotonic()."""
        before, self._seen = self._seen, {}
        if now - self._looked > PAUSED_SECONDS:
            before = {}
        self._looked = now
        dead = {}
        for name, beat in beats.items():
            old = before.get(name)
            since = old[1] if old is not None and old[0] == beat else now
            self._seen[name] = beat, since
            if now - since > DEAD_SECONDS:
                dead[name] = beat
        return dead


class Pulse:
    """The signs of life of one replica, until `stop`.

    tell: called in this thread with TAKEN_OUT when the replica was taken for dead, with FREE if there are free messages
    and with TROUBLE at each change of `trouble`: why the server refuses the signs of life, if it does. seen: gets what
    waits for the service, once a second; every five seconds where eight others do so more often. alive: the names of
    all when last seen. looked: when that was, beaten: when the last sign of life was given (time.monotonic).
    """

    def __init__(
        self,
        vitals: Vitals,
        service: str,
        replica: str,
        tell: Callable[[str], None],
        seen: Callable[[Look | None], None],
    ) -> None:
        self._vitals, self._service, self.replica = vitals, service, replica
        self._tell, self._seen = tell, seen
        self.beaten = time.monotonic()
        self.trouble = ""
        self._enlist_at = time.monotonic() + ENLIST_SECONDS
        self._sample_at = 0.0
        self.alive: frozenset[str] = frozenset((replica,))
        self._watch = Watch()
        self.looked = self._kept = 0.0
        self._stopping = native.make_lock()
        self._stopping.acquire()

    def start(self) -> None:
        native.start_thread(self._run)

    def stop(self) -> None:
        if self._stopping.locked():
            self._stopping.release()

    def _run(self) -> None:
        while not self._stopping.acquire(True, BEAT_SECONDS):
            try:
                if not self._beat(time.monotonic()):
                    self._tell(TAKEN_OUT)
                    break
                self._report(time.monotonic())
                self._troubled("")
            except BusUnavailable:
                pass  # the links of the bus say so
            except BusError as error:
                self._troubled(str(error))
            except Exception:
                runtime_logger.exception("the signs of life of replica %s failed", self.replica)
        self._vitals.close()
        native.sleep_forever()  # see home.py: a thread that has run greenlets must not end beside Python

    def _troubled(self, text: str) -> None:
        if text != self.trouble:
            self.trouble = text
            self._tell(TROUBLE)

    def _report(self, now: float) -> None:
        """What others want to know of the service. It is not needed to stay alive, so a refusal does no harm."""
        if now >= self._enlist_at:
            self._enlist_at = now + ENLIST_SECONDS
            self._vitals.enlist(self._service)
        if now >= self._sample_at:
            self._sample_at = now + (SAMPLE_SECONDS if self._watching else LOOK_SECONDS)
            try:
                self._seen(self._vitals.look(self._service))
            except BusRefused:
                self._sample_at = now + REFUSED_SECONDS

    @property
    def _watching(self) -> bool:
        return self.replica in sorted(self.alive)[:WATCHERS]

    def _beat(self, now: float) -> bool:
        """Returns whether this replica is still known."""
        watching = self._watching
        look = watching or now - self.looked > LOOK_SECONDS
        keep = now - self._kept > KEEP_SECONDS
        seen = self._vitals.beat(look, keep)
        if seen is None:
            return False
        self.beaten = now
        if keep:
            self._kept = now
        if look:
            self._saw(seen, now)
        if watching:
            self._bury(self._watch.dead(seen.beats, now))
        return True

    def _saw(self, seen: Seen, now: float) -> None:
        self.looked, self.alive = now, frozenset(seen.beats)
        for name in seen.strays:
            self._vitals.bury(name, GONE)
        if seen.free:
            self._tell(FREE)

    def _bury(self, dead: dict[str, int]) -> None:
        for name, beat in dead.items():
            if name != self.replica and self._vitals.bury(name, beat):
                text = "replica %s of service %s gave no sign of life for %g s; others take its messages"
                runtime_logger.warning(text, name, self._service, DEAD_SECONDS)
