"""For `redeliver=False`: a message whose earlier run may have begun is not run again."""

from __future__ import annotations

from ..envelope import error_reply
from ..errors import WORKER_DIED, DaebusError
from ..logs import runtime_logger
from ..transport import Delivery
from . import Handler, Middleware, Outcome


def at_most_once(title: str) -> Middleware:
    """Middleware: a repetition gets an error outcome instead of a run. title: of the handler, for text and log."""

    def layer(handler: Handler) -> Handler:
        def once(delivery: Delivery) -> Outcome:
            request = delivery.request
            if not request.redelivered:
                return handler(delivery)
            text = f"{title} may have run already: its worker died, and redeliver=False forbids to run it again"
            runtime_logger.error("%s (request %s)", text, request.request_id)
            return Outcome(error_reply(request.request_id, text, WORKER_DIED), DaebusError(text))

        return once

    return layer
