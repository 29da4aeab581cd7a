"""One turn of the event loop: the one place that knows what that is.

`gevent.sleep(0)` and `loop.run_callback` are no turn. gevent runs its queue of callbacks, 50 at a time and as often as
new ones come, before the loop looks at its sockets and its clock again. A timer of 0 seconds is served by the loop
itself, so waiting for one lets every socket, timer and greenlet that is ready go first.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary

from gevent import get_hub, getcurrent


def turn() -> None:
    """Let the loop take a whole turn; for a greenlet that could run for long without waiting for anything."""
    hub = get_hub()
    timer = hub.loop.timer(0)
    try:
        hub.wait(timer)
    finally:
        timer.close()


class NextTurn:
    """Runs one callback in the hub, at the next turn of the loop; asking several times before then runs it once."""

    __slots__ = ("_callback", "_timer")

    def __init__(self, loop: Any, callback: Callable[[], Any]) -> None:
        self._timer = loop.timer(0)
        self._callback = callback

    def ask(self) -> None:
        """Run the callback at the next turn. Only in the thread of the loop."""
        if not self._timer.active:
            self._timer.start(self._callback)

    def close(self) -> None:
        """Run nothing any more."""
        self._timer.stop()
        self._timer.close()


class Part:
    """How long one kind of work may hold each turn of a loop: `seconds` from its first piece in a turn on."""

    __slots__ = ("_loop", "_number", "_seconds", "until")

    def __init__(self, loop: Any, seconds: float) -> None:
        self._loop, self._seconds = loop, seconds
        self._number = -1
        self.until = 0.0
        """Until then (time.monotonic) more may be done, whatever the turn."""

    def spent(self) -> bool:
        """Whether this turn's part is used up; asked when `until` has passed, so that a hot path reads the clock and no
        more."""
        number = self._loop.iteration  # libev's count of the times it looked at its sockets and timers
        if number == self._number:
            return True
        self._number, self.until = number, time.monotonic() + self._seconds
        return False

    def renew(self) -> None:
        """A new turn has begun."""
        self._number, self.until = -1, 0.0


SHARE_SECONDS = 0.001
"""How long the greenlets that always have more to do may hold one turn of the loop, all of them together."""


class _Turn:
    """The turn that a loop is in: its number, and when the first greenlet with a Share began to work in it."""

    __slots__ = ("begun", "loop", "number")

    def __init__(self, loop: Any) -> None:
        self.loop = loop
        self.number = -1
        self.begun = 0.0


_turns: WeakKeyDictionary[Any, _Turn] = WeakKeyDictionary()


class Share:
    """One greenlet's share of the loop, for a greenlet that could always find more to do: call `take` before each
    piece of work.

    Each greenlet does at least one piece in a turn, so many busy ones cannot starve each other; further pieces only
    until SHARE_SECONDS are over. A greenlet that waits for its work anyway never loses a turn to this.
    """

    __slots__ = ("_mine", "_turn")

    def __init__(self) -> None:
        hub = get_hub()
        self._turn = _turns.get(hub) or _turns.setdefault(hub, _Turn(hub.loop))
        self._mine = -1  # the turn in which this greenlet had its last piece

    def take(self) -> None:
        """Let the loop turn first when this greenlet has had its share of the present turn."""
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
"""How long handlers that many clients asked for at once may hold one turn of the loop, all of them together."""


class Gate:
    """Before an author's code runs: the loop may have woken many greenlets together, each with a handler that computes.
    Those for whom this turn has no time left wait for a later one, in the order of their coming."""

    __slots__ = ("_hub", "_later", "_part", "_waiting")

    def __init__(self, hub: Any) -> None:
        self._hub = hub
        self._part = Part(hub.loop, GATE_SECONDS)
        self._waiting: deque[Any] = deque()
        self._later = NextTurn(hub.loop, self._let_in)

    def enter(self) -> None:
        """Return when it is this greenlet's turn: at once, unless others have spent this one."""
        if self._waiting or (time.monotonic() > self._part.until and self._part.spent()):
            me = getcurrent()
            self._waiting.append(me)
            self._later.ask()
            try:
                self._hub.switch()
            except BaseException:  # killed, or out of time, while it waited
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
    if latest is not None and latest[0] is hub:  # a service has one loop, and a weak dictionary is slow to ask
        return latest[1]
    found = _gates.get(hub) or _gates.setdefault(hub, Gate(hub))
    _latest = hub, found
    return found
