"""One full turn of the event loop, and how long code may use it. Only this module knows how to wait for a turn.

`gevent.sleep(0)` and `loop.run_callback` do not wait for a full turn: gevent runs its queue of callbacks, 50 at a time
and as long as new ones arrive, before the loop polls sockets and timers again. A timer of 0 seconds fires only after
that poll. So waiting for such a timer lets every socket, timer and greenlet that is ready run first.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary

from gevent import get_hub, getcurrent


def turn() -> None:
    """Let the loop do one full turn. For greenlets that could run for long without ever blocking."""
    hub = get_hub()
    timer = hub.loop.timer(0)
    try:
        hub.wait(timer)
    finally:
        timer.close()


class NextTurn:
    """Runs a callback in the hub at the next turn of the loop. Several `ask` calls before that turn run it once."""

    __slots__ = ("_callback", "_timer")

    def __init__(self, loop: Any, callback: Callable[[], Any]) -> None:
        self._timer = loop.timer(0)
        self._callback = callback

    def ask(self) -> None:
        """Run the callback at the next turn. Must be called in the loop's thread."""
        if not self._timer.active:
            self._timer.start(self._callback)

    def close(self) -> None:
        """Cancel a callback that was asked for; `ask` may not be called afterwards."""
        self._timer.stop()
        self._timer.close()


class Part:
    """Limits one kind of work to `seconds` in each turn of the loop, counted from its first piece in that turn."""

    __slots__ = ("_loop", "_number", "_seconds", "until")

    def __init__(self, loop: Any, seconds: float) -> None:
        self._loop, self._seconds = loop, seconds
        self._number = -1
        self.until = 0.0
        """Until this time (time.monotonic) more work is allowed, in whichever turn."""

    def spent(self) -> bool:
        """Whether the time of this turn is used up. Call it only once `until` has passed, so that a hot path costs no
        more than reading the clock."""
        number = self._loop.iteration  # how often libev has polled sockets and timers
        if number == self._number:
            return True
        self._number, self.until = number, time.monotonic() + self._seconds
        return False

    def renew(self) -> None:
        """Grant the full time again."""
        self._number, self.until = -1, 0.0


SHARE_SECONDS = 0.001
"""How long all greenlets with a Share together may use one turn of the loop."""


class _Turn:
    """The current turn of a loop: its number, and when the first greenlet with a Share started to work in it."""

    __slots__ = ("begun", "loop", "number")

    def __init__(self, loop: Any) -> None:
        self.loop = loop
        self.number = -1
        self.begun = 0.0


_turns: WeakKeyDictionary[Any, _Turn] = WeakKeyDictionary()


class Share:
    """The share of the loop of one greenlet that may always have more work: call `take` before each piece of work.

    Each greenlet may do at least one piece in each turn, so many busy greenlets cannot starve each other. Further
    pieces are allowed until SHARE_SECONDS are used up. A greenlet that blocks between its pieces is never delayed.
    """

    __slots__ = ("_mine", "_turn")

    def __init__(self) -> None:
        hub = get_hub()
        self._turn = _turns.get(hub) or _turns.setdefault(hub, _Turn(hub.loop))
        self._mine = -1  # the turn of this greenlet's last piece of work

    def take(self) -> None:
        """Wait for the next turn first if this greenlet has used up its share of the current one."""
        current = self._turn
        number = current.loop.iteration
        if number == self._mine:
            if time.monotonic() - current.begun < SHARE_SECONDS:
                return
            turn()
            number = current.loop.iteration
        self._mine = number
        if number != current.number:
            current.number, current.begun = number, time.monotonic()


GATE_SECONDS = 0.005
"""How long all handlers together may use one turn of the loop when many clients call at once."""


class Gate:
    """Call `enter` before a handler runs. The loop may wake many greenlets in one turn, each with a handler that
    computes. When the time of the turn is used up, the others wait for later turns, first come, first served."""

    __slots__ = ("_hub", "_later", "_part", "_waiting")

    def __init__(self, hub: Any) -> None:
        self._hub = hub
        self._part = Part(hub.loop, GATE_SECONDS)
        self._waiting: deque[Any] = deque()
        self._later = NextTurn(hub.loop, self._let_in)

    def enter(self) -> None:
        """Return when this greenlet may go on: at once, unless the time of this turn is used up."""
        if self._waiting or (time.monotonic() > self._part.until and self._part.spent()):
            me = getcurrent()
            self._waiting.append(me)
            self._later.ask()
            try:
                self._hub.switch()
            except BaseException:  # killed or timed out while it waited
                self._waiting.remove(me)
                raise

    def _let_in(self) -> None:
        now, part = time.monotonic, self._part
        while self._waiting and not (now() > part.until and part.spent()):
            self._waiting.popleft().switch()
        if self._waiting:
            self._later.ask()


_gates: WeakKeyDictionary[Any, Gate] = WeakKeyDictionary()
_latest: tuple[Any, Gate] | None = None


def gate() -> Gate:
    """The gate of this thread's loop."""
    global _latest
    hub, latest = get_hub(), _latest
    if latest is not None and latest[0] is hub:  # a service has one loop; a weak dictionary is slow
        return latest[1]
    found = _gates.get(hub) or _gates.setdefault(hub, Gate(hub))
    _latest = hub, found
    return found
