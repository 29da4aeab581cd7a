"""The outermost layer around a request's handler. Only it settles the delivery, with the outcome of the run."""

from __future__ import annotations

from collections.abc import Callable

import gevent

from ..transport import Delivery
from . import Handler


def settling(handler: Handler) -> Callable[[Delivery], None]:
    """Run `handler` and settle the delivery with its outcome.

    GreenletExit is raised again afterwards, because whoever killed this greenlet may wait for its end.
    """

    def run(delivery: Delivery) -> None:
        if not delivery.begin():
            return
        outcome = handler(delivery)
        delivery.settle(outcome)
        if outcome.error is not None and isinstance(outcome.error, gevent.GreenletExit):
            raise outcome.error

    return run
