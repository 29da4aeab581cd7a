"""What a handler raises becomes the outcome of its run: it ends this message only, is logged with its traceback and
answered, also when it is no `Exception`."""

from __future__ import annotations

import gevent

from ..envelope import error_reply
from ..errors import HANDLER_ERROR, NO_REPLY, DaebusError
from ..logs import runtime_logger
from ..transport import Delivery
from . import Handler, Outcome

FAULTS = (Exception, gevent.Timeout, SystemExit)
"""What an author's function may raise and end its own run only. gevent.Timeout is no Exception; and SystemExit in a
greenlet would end the process, though the author meant a function that was written for a program of its own."""
TEXT_LIMIT = 10_000


def answer_faults(handler: Handler) -> Handler:
    """Middleware: what the handler raises, and a missing reply, become an outcome with an error reply."""

    def guarded(delivery: Delivery) -> Outcome:
        try:
            outcome = handler(delivery)
        except BaseException as error:
            return _failed(delivery, error)
        return outcome if delivery.answered else _unanswered(delivery)

    return guarded


def _failed(delivery: Delivery, error: BaseException) -> Outcome:
    request = delivery.request
    runtime_logger.exception("action %r failed (request %s)", request.action, request.request_id)
    code = error.code if isinstance(error, DaebusError) else HANDLER_ERROR
    text = str(error) or type(error).__name__
    return Outcome(error_reply(request.request_id, text[:TEXT_LIMIT], code), error)


def _unanswered(delivery: Delivery) -> Outcome:
    request = delivery.request
    runtime_logger.warning("action %r returned without a reply (request %s)", request.action, request.request_id)
    text = f"action {request.action!r} returned without a reply"
    return Outcome(error_reply(request.request_id, text[:TEXT_LIMIT], NO_REPLY), DaebusError(text))
