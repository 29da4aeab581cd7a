"""An exception in a handler ends this message only: it is logged with its traceback, and whoever waits is answered at
once, also for exceptions that are no `Exception`."""

from __future__ import annotations

import gevent

from ..envelope import error_reply
from ..errors import HANDLER_ERROR, NO_REPLY, DaebusError, MessageTooLarge
from ..logs import runtime_logger
from ..transport import Delivery
from . import Handler, Outcome

FAULTS = (Exception, gevent.Timeout, SystemExit)
"""What an author's function may raise and end its own run only. gevent.Timeout is no Exception; and SystemExit in a
greenlet would end the process, though the author meant a function that was written for a program of its own."""
TEXT_LIMIT, SHORT_TEXT_LIMIT = 10_000, 300


def answer_faults(handler: Handler) -> Handler:
    """Middleware: what the handler raises becomes an error reply, and so does a missing reply."""

    def guarded(delivery: Delivery) -> Outcome:
        request = delivery.request
        try:
            outcome = handler(delivery)
        except BaseException as error:
            runtime_logger.exception("action %r failed (request %s)", request.action, request.request_id)
            if not delivery.answered:
                code = error.code if isinstance(error, DaebusError) else HANDLER_ERROR
                _answer(delivery, str(error) or type(error).__name__, code)
            if isinstance(error, gevent.GreenletExit):
                raise  # somebody ended this greenlet, and may wait for its end
            return Outcome(error)
        if not delivery.answered:
            runtime_logger.warning(
                "action %r returned without a reply (request %s)", request.action, request.request_id
            )
            text = f"action {request.action!r} returned without a reply"
            _answer(delivery, text, NO_REPLY)
            return Outcome(DaebusError(text))
        return outcome

    return guarded


def _answer(delivery: Delivery, text: str, code: str) -> None:
    request_id = delivery.request.request_id
    try:
        delivery.reply(error_reply(request_id, text[:TEXT_LIMIT], code))
    except MessageTooLarge:
        delivery.reply(error_reply(request_id, text[:SHORT_TEXT_LIMIT], code))
