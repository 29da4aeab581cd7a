"""Counts and times the runs of handlers."""

from __future__ import annotations

import time

from ..metrics import Work
from ..transport import Delivery
from . import Handler, Middleware, Outcome


def measure(work: Work) -> Middleware:
    """Middleware: counts every run in `work`; an outcome with an error counts as failed."""

    def layer(handler: Handler) -> Handler:
        def measured(delivery: Delivery) -> Outcome:
            begun = time.perf_counter()
            outcome = handler(delivery)
            work.done(time.perf_counter() - begun, outcome.error is not None)
            return outcome

        return measured

    return layer
