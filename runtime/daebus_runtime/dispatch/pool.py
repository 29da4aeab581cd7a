"""Worker greenlets that handlers run on, and the bounded queue before them.

Workers are kept, not spawned for each message (a spawn costs more than a small handler). Each run has a copy of an
empty context, so that a context variable set by one message is never seen by the next.
"""

from __future__ import annotations

import contextvars
import time
from collections import deque
from collections.abc import Callable
from typing import Any

import gevent
from gevent import get_hub, getcurrent

from ..logs import runtime_logger

TURN_SECONDS = 0.005
"""For how long messages are run one after the other before the loop looks at its sockets again."""
_EMPTY = contextvars.Context()


class WorkerPool:
    """Runs `function(argument)` on at most `concurrency` greenlets; at most `queue_limit` wait. Home loop only."""

    def __init__(self, concurrency: int, queue_limit: int) -> None:
        self.concurrency, self.queue_limit = concurrency, queue_limit
        self.running = 0
        self._queue: deque[tuple[Callable[[Any], Any], Any]] = deque()
        self._idle: list[Any] = []
        self._workers = 0
        self._soon = get_hub().loop.run_callback
        self._kicked = False

    @property
    def waiting(self) -> int:
        """How many are queued."""
        return len(self._queue)

    def submit(self, function: Callable[[Any], Any], argument: Any) -> bool:
        """Queue one run; False when the queue is full."""
        if len(self._queue) >= self.queue_limit:
            return False
        self._queue.append((function, argument))
        if not self._kicked:
            self._kicked = True
            self._soon(self._kick)
        return True

    def drain(self, deadline: float) -> bool:
        """Wait until nothing is queued or running; False when `deadline` (time.monotonic) passes first."""
        while self._queue or self.running:
            if time.monotonic() >= deadline:
                return False
            gevent.sleep(0.01)
        return True

    def discard(self) -> int:
        """Forget what has not begun; how many that were."""
        count = len(self._queue)
        self._queue.clear()
        return count

    def _kick(self) -> None:
        # On the hub: a worker that is switched to comes back here as soon as its handler waits for something, or when
        # it has emptied the queue. So messages whose handlers do not wait are run by one worker, without a switch each.
        self._kicked = False
        queue, idle = self._queue, self._idle
        begun = time.monotonic()
        while queue and idle:
            idle.pop().switch()
            if time.monotonic() - begun > TURN_SECONDS:
                break
        if queue and (idle or self._workers < self.concurrency):
            if not idle:
                self._workers += 1
                gevent.spawn(self._work)
            if not self._kicked:
                self._kicked = True
                self._soon(self._kick)

    def _work(self) -> None:
        queue, idle, hub, me = self._queue, self._idle, get_hub(), getcurrent()
        copy, now = _EMPTY.copy, time.monotonic
        try:
            while True:
                until = now() + TURN_SECONDS
                while queue:
                    function, argument = queue.popleft()
                    self.running += 1
                    try:
                        copy().run(function, argument)
                    except Exception:
                        runtime_logger.exception("a handler's surroundings failed")
                    finally:
                        self.running -= 1
                    if now() > until:
                        break
                idle.append(me)
                if queue and not self._kicked:
                    self._kicked = True
                    self._soon(self._kick)
                hub.switch()
        finally:
            self._workers -= 1
            if me in idle:
                idle.remove(me)
            if queue and not self._kicked:
                self._kicked = True
                self._soon(self._kick)
