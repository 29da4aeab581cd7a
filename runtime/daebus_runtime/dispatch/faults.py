"""An exception in a handler ends this message only: it is logged with its traceback, and whoever waits is answered at
once."""

from __future__ import annotations

from ..envelope import error_reply
from ..errors import HANDLER_ERROR, NO_REPLY, DaebusError
from ..logs import runtime_logger
from ..transport import Delivery
from . import Handler, Outcome


def answer_faults(handler: Handler) -> Handler:
    """Middleware: what the handler raises becomes an error reply, and so does a missing reply."""

    def guarded(delivery: Delivery) -> Outcome:
        request = delivery.request
        try:
            outcome = handler(delivery)
        except Exception as error:
            runtime_logger.exception("action %r failed (request %s)", request.action, request.request_id)
            if not delivery.answered:
                code = error.code if isinstance(error, DaebusError) else HANDLER_ERROR
                text = str(error) or type(error).__name__
                delivery.reply(error_reply(request.request_id, text[:10_000], code))
            return Outcome(error)
        if not delivery.answered:
            runtime_logger.warning(
                "action %r returned without a reply (request %s)", request.action, request.request_id
            )
            text = f"action {request.action!r} returned without a reply"
            delivery.reply(error_reply(request.request_id, text, NO_REPLY))
            return Outcome(DaebusError(text))
        return outcome

    return guarded
