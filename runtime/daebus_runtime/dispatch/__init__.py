"""Runs handlers for received messages: `handler(delivery) -> Outcome`, wrapped in middleware, one file per feature.

    settle.py     the outermost layer: ends the delivery              pool.py      worker greenlets, bounded queue
    actions.py    finds the handler for the action        blocking.py  handlers in OS threads
    faults.py     an exception becomes an outcome                     watchdog.py  names the handler that holds the loop
    measure.py    counts and times runs                                   guard.py     what the author's code may raise

Nothing here knows the application, its decorators or its servers; the innermost handler comes from the context package.
"""

from __future__ import annotations

from collections.abc import Callable

from ..transport import DONE, Delivery, Outcome

__all__ = ["DONE", "Handler", "Middleware", "Outcome", "compose"]


Handler = Callable[[Delivery], Outcome]
Middleware = Callable[[Handler], Handler]


def compose(handler: Handler, *middleware: Middleware) -> Handler:
    """`handler` wrapped in the given middleware; the first is the outermost."""
    for layer in reversed(middleware):
        handler = layer(handler)
    return handler
