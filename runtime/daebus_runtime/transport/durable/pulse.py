"""Who is alive. Each replica gives signs of life and watches those of the others, in an OS thread with a connection of
its own: a handler that holds the loop is not taken for dead.

A replica is dead when its count has not moved for DEAD_SECONDS of the watcher's own monotonic clock. No TTL and no idle
time of the server is used: both follow its wall clock, which may jump.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from ... import native
from ...errors import BusError
from ...logs import runtime_logger
from .steps import Vitals

BEAT_SECONDS = 0.25
WATCH_SECONDS = 1.0
DEAD_SECONDS = 8.5


class Watch:
    """What one replica has seen of the others."""

    def __init__(self) -> None:
        self._seen: dict[str, tuple[int, float]] = {}
        self._looked = 0.0

    def dead(self, beats: dict[str, int], now: float) -> dict[str, int]:
        """The replicas whose beat has not moved for too long, each with its beat. now: time.monotonic()."""
        before, self._seen = self._seen, {}
        if now - self._looked > 2 * WATCH_SECONDS:
            before = {}  # this process was stopped, or without a bus: what it did not watch, it does not judge
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
    """

    def __init__(self, vitals: Vitals, service: str, replica: str, taken_out: Callable[[], None]) -> None:
        self._vitals, self._service, self.replica = vitals, service, replica
        self._taken_out = taken_out
        self.alive: frozenset[str] = frozenset((replica,))
        self._stopping = native.make_lock()
        self._stopping.acquire()

    def start(self) -> None:
        native.start_thread(self._run)

    def stop(self) -> None:
        if self._stopping.locked():
            self._stopping.release()

    def _run(self) -> None:
        watch, watched = Watch(), 0.0
        while not self._stopping.acquire(True, BEAT_SECONDS):
            now = time.monotonic()
            try:
                beats = self._vitals.beat(self._service, self.replica)
                if beats is None:
                    self._taken_out()
                    break
                if now - watched >= WATCH_SECONDS - BEAT_SECONDS / 2:
                    watched = now
                    self._look(watch, beats, now)
            except BusError:
                pass  # the links of the bus say so
            except Exception:
                runtime_logger.exception("the signs of life of replica %s failed", self.replica)
        self._vitals.close()
        native.sleep_forever()  # see home.py: a thread that has run greenlets must not end beside Python

    def _look(self, watch: Watch, beats: dict[str, int], now: float) -> None:
        self.alive = frozenset(beats)
        for name, beat in watch.dead(beats, now).items():
            if name != self.replica and self._vitals.bury(self._service, name, beat):
                runtime_logger.warning(
                    "replica %s of service %s gave no sign of life for %g s; others take its messages",
                    name,
                    self._service,
                    DEAD_SECONDS,
                )
