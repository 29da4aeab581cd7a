"""One turn of the event loop: the one place that knows what that is.

`gevent.sleep(0)` and `loop.run_callback` are no turn. gevent runs its queue of callbacks, 50 at a time and as often as
new ones come, before the loop looks at its sockets and its clock again. A timer of 0 seconds is served by the loop
itself, so waiting for one lets every socket, timer and greenlet that is ready go first.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gevent import get_hub


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
