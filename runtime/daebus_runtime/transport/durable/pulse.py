"""Who is alive. Each replica gives signs of life, and some watch those of all, in an OS thread with a connection of its
own: a handler that holds the loop is not taken for dead.

A replica is dead when its count has not moved for DEAD_SECONDS of the watcher's own monotonic clock. No TTL and no idle
time of the server is used: both follow its wall clock, which may jump.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from ... import native
from ...errors import BusError, BusRefused
from ...logs import runtime_logger
from .look import Look
from .steps import Vitals

BEAT_SECONDS = 0.25
# A replica that was stopped for 8 s keeps its messages: a beat before, a beat after, and some slack.
DEAD_SECONDS = 8.7
PAUSED_SECONDS = 1.0
"""A watcher that did not look for this long was stopped itself: what it did not watch, it does not judge."""
WATCHERS = 8
LOOK_SECONDS = 5.0  # how often the others look whether they are watchers by now
KEEP_SECONDS = 20.0  # how often the TTL of the service's keys is renewed
SAMPLE_SECONDS = 1.0
ENLIST_SECONDS = 60.0
REFUSED_SECONDS = 60.0
"""When a sample that the server has refused is tried again."""


class Watch:
    """What one replica has seen of the others."""

    def __init__(self) -> None:
        self._seen: dict[str, tuple[int, float]] = {}
        self._looked = 0.0

    def dead(self, beats: dict[str, int], now: float) -> dict[str, int]:
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

    taken_out: called in this thread when the replica was taken for dead. alive: the names of all when last seen.
    seen: gets what waits for the service, once a second; every five seconds where eight others do so more often.
    """

    def __init__(
        self,
        vitals: Vitals,
        service: str,
        replica: str,
        taken_out: Callable[[], None],
        seen: Callable[[Look | None], None],
    ) -> None:
        self._vitals, self._service, self.replica = vitals, service, replica
        self._taken_out, self._seen = taken_out, seen
        self._enlist_at = time.monotonic() + ENLIST_SECONDS
        self._sample_at = 0.0
        self.alive: frozenset[str] = frozenset((replica,))
        self._watch = Watch()
        self._looked = self._kept = 0.0
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
                    self._taken_out()
                    break
                self._tell(time.monotonic())
            except BusError:
                pass  # the links of the bus say so
            except Exception:
                runtime_logger.exception("the signs of life of replica %s failed", self.replica)
        self._vitals.close()
        native.sleep_forever()  # see home.py: a thread that has run greenlets must not end beside Python

    def _tell(self, now: float) -> None:
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
        look = watching or now - self._looked > LOOK_SECONDS
        keep = now - self._kept > KEEP_SECONDS
        beats = self._vitals.beat(self._service, self.replica, look, keep)
        if beats is None:
            return False
        if keep:
            self._kept = now
        if look:
            self._looked, self.alive = now, frozenset(beats)
        if watching:
            self._bury(self._watch.dead(beats, now))
        return True

    def _bury(self, dead: dict[str, int]) -> None:
        for name, beat in dead.items():
            if name != self.replica and self._vitals.bury(self._service, name, beat):
                text = "replica %s of service %s gave no sign of life for %g s; others take its messages"
                runtime_logger.warning(text, name, self._service, DEAD_SECONDS)
