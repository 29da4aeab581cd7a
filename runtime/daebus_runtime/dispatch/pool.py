"""Worker greenlets that run the handlers, and their bounded queues: one lane for each kind of work.

Workers are reused, because spawning one per message costs more than a small handler. Each run gets a copy of an empty
context, so the next message never sees a context variable that this one has set.

Lanes with work take turns, message by message, so a full queue of one kind does not delay another kind. A handler that
waits occupies its worker; therefore each lane leaves the other lanes a share of the workers, however long its queue.
"""

from __future__ import annotations

import contextvars
import time
from collections import deque
from collections.abc import Callable
from typing import Any

import gevent
from gevent import get_hub

from ..logs import runtime_logger
from ..turn import NextTurn, Part

TURN_SECONDS = 0.005
"""How long messages may use one turn of the loop before timers and sockets are served."""
_EMPTY = contextvars.Context()
Job = tuple[Callable[[Any], Any], Any]


class Lane:
    """The queue of one kind of work, at most `limit` long."""

    __slots__ = ("_pool", "cap", "claims", "limit", "most", "queue", "ready", "running")

    def __init__(self, pool: WorkerPool, limit: int, cap: int) -> None:
        self._pool, self.limit, self.cap = pool, limit, cap
        self.queue: deque[Job] = deque()
        self.running = 0
        self.most = cap
        """How many of its jobs may run at the same time, so that the other lanes keep their share."""
        self.claims = False
        self.ready = False
        """Whether it is in the pool's round: it has work, and may run more of it."""

    def submit(self, function: Callable[[Any], Any], argument: Any) -> bool:
        """Queue one run of `function(argument)`; False if the queue is full or the pool is closed."""
        queue = self.queue
        if len(queue) >= self.limit:
            return False
        queue.append((function, argument))
        if not self.ready and self.running < self.most:
            self._pool._enter(self)
        return True

    @property
    def room(self) -> int:
        """How many more can be queued."""
        return self.limit - len(self.queue)

    @property
    def free(self) -> int:
        """How many more could run now."""
        return self.most - self.running - len(self.queue)


class _Worker:
    """A greenlet and its current job."""

    __slots__ = ("greenlet", "job")

    def __init__(self, run: Callable[[_Worker], None]) -> None:
        self.job: Job | None = None
        self.greenlet = gevent.Greenlet(run, self)


class WorkerPool:
    """Runs the jobs of its lanes on at most `concurrency` greenlets. Home loop only."""

    def __init__(self, concurrency: int) -> None:
        self.concurrency = concurrency
        self._lanes: list[Lane] = []
        self._round: deque[Lane] = deque()
        self._idle: list[_Worker] = []
        self._workers: set[_Worker] = set()
        self._loop: Any = get_hub().loop
        self._later = NextTurn(self._loop, self._next_turn)
        self._kicked = False
        self._part = Part(self._loop, TURN_SECONDS)

    def lane(self, limit: int, cap: int | None = None) -> Lane:
        """A new lane. It may use all workers that no other lane has claimed, but at most `cap` at the same time."""
        lane = Lane(self, limit, self.concurrency if cap is None else cap)
        self._lanes.append(lane)
        self._share_out()
        return lane

    def claim(self, lane: Lane) -> None:
        """Keep a share of the workers free for this lane."""
        lane.claims = True
        self._share_out()

    def _share_out(self) -> None:
        claims = sum(lane.claims for lane in self._lanes)
        share = max(1, self.concurrency // (2 * claims)) if 0 < claims <= self.concurrency else 0
        for lane in self._lanes:
            lane.most = min(lane.cap, max(1, self.concurrency - share * (claims - lane.claims)))

    @property
    def running(self) -> int:
        """How many jobs are running."""
        return sum(lane.running for lane in self._lanes)

    @property
    def waiting(self) -> int:
        """How many jobs are queued."""
        return sum(len(lane.queue) for lane in self._lanes)

    def drain(self, deadline: float) -> bool:
        """Wait until nothing is queued or running; False when `deadline` (time.monotonic) passes first."""
        while self.waiting or self.running:
            if time.monotonic() >= deadline:
                return False
            gevent.sleep(0.01)
        return True

    def close(self) -> tuple[list[Any], list[Any]]:
        """Accept no more jobs. Returns the arguments of the running jobs and of the queued ones, which never run."""
        queued = [argument for lane in self._lanes for _, argument in lane.queue]
        for lane in self._lanes:
            lane.limit = 0
            lane.queue.clear()
            lane.ready = False
        self._round.clear()
        return [worker.job[1] for worker in self._workers if worker.job is not None], queued

    def _enter(self, lane: Lane) -> None:
        lane.ready = True
        self._round.append(lane)
        if not self._kicked:
            self._kicked = True
            self._loop.run_callback(self._kick)

    def _kick(self) -> None:
        # Runs in the hub. `switch()` returns when the handler blocks or the queue is empty, so handlers that never
        # block share one worker and cost no switch.
        self._kicked = False
        idle, workers, now, part = self._idle, self._workers, time.monotonic, self._part
        while self._round and (idle or len(workers) < self.concurrency):
            if now() > part.until and part.spent():
                self._later.ask()
                return
            (idle.pop() if idle else self._hire()).greenlet.switch()

    def _next_turn(self) -> None:
        self._part.renew()
        self._kick()

    def _hire(self) -> _Worker:
        worker = _Worker(self._work)
        self._workers.add(worker)
        return worker

    def _work(self, worker: _Worker) -> None:
        idle, switch = self._idle, get_hub().switch
        try:
            while True:
                self._run_round(worker)
                idle.append(worker)
                if self._round:
                    self._later.ask()
                switch()
        finally:
            self._workers.discard(worker)
            if worker in idle:
                idle.remove(worker)
            if self._round:
                self._later.ask()

    def _run_round(self, worker: _Worker) -> None:
        # The hottest loop of a service: it must contain no call that is not needed for every message.
        lanes, copy, now, part = self._round, _EMPTY.copy, time.monotonic, self._part
        while lanes:
            lane = lanes.popleft()
            queue = lane.queue
            worker.job = function, argument = queue.popleft()
            lane.running += 1
            if queue and lane.running < lane.most:
                lanes.append(lane)
            else:
                lane.ready = False
            try:
                copy().run(function, argument)
            except gevent.GreenletExit:
                raise
            except BaseException:
                runtime_logger.exception("an internal error around a handler")
            finally:
                worker.job = None
                lane.running -= 1
                if queue and not lane.ready:
                    lane.ready = True
                    lanes.append(lane)
            if now() > part.until and part.spent():
                return
