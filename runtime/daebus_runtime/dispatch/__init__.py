"""How a received message becomes a handler's run: `handler(delivery) -> Outcome`, with middleware around it, one
feature a file.

    actions.py    which handler; an unknown action is answered        pool.py      worker greenlets, bounded queue
    faults.py     an exception is logged and answered                 blocking.py  handlers in OS threads
    measure.py    counts and times                                    watchdog.py  names the handler that holds the loop

Nothing here knows the application, its decorators or its servers: the innermost handler comes from `context.py`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from ..transport import Delivery


@dataclasses.dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended. The final reply was given through the delivery; `error` is what the handler raised, if any."""

    error: BaseException | None = None


DONE = Outcome()
Handler = Callable[[Delivery], Outcome]
Middleware = Callable[[Handler], Handler]


def compose(handler: Handler, *middleware: Middleware) -> Handler:
    """`handler` inside the given middleware; the first one is the outermost."""
    for layer in reversed(middleware):
        handler = layer(handler)
    return handler
