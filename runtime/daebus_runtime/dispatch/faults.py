"""Turns exceptions of a handler, including BaseExceptions, into the outcome of its run: only this message fails, the
traceback is logged, and the caller gets an error reply."""

from __future__ import annotations

from .. import errors
from ..envelope import error_reply
from ..errors import ERROR, HANDLER_ERROR, NO_REPLY, DaebusError, RemoteError, ReplyTooLarge
from ..logs import runtime_logger
from ..transport import Delivery
from . import Handler, Outcome
from .guard import advise

TEXT_LIMIT, CODE_LIMIT = 10_000, 100


def answer_faults(handler: Handler) -> Handler:
    """Middleware: an exception of the handler, or a missing reply, becomes an outcome with an error reply."""

    def guarded(delivery: Delivery) -> Outcome:
        try:
            outcome = handler(delivery)
        except BaseException as error:
            return _failed(delivery, error)
        return outcome if delivery.answered else _unanswered(delivery)

    return guarded


def _failed(delivery: Delivery, error: BaseException) -> Outcome:
    request = delivery.request
    advise(error)
    runtime_logger.exception("action %r failed (request %s)", request.action, request.request_id)
    if isinstance(error, ReplyTooLarge):
        code = error.code
    else:
        code = code_of(error, HANDLER_ERROR) if isinstance(error, DaebusError) else HANDLER_ERROR
    return Outcome(error_reply(request.request_id, text_of(error), code), error)


def _unanswered(delivery: Delivery) -> Outcome:
    request = delivery.request
    runtime_logger.warning("action %r returned without a reply (request %s)", request.action, request.request_id)
    text = f"action {request.action!r} returned without a reply"
    return Outcome(error_reply(request.request_id, text[:TEXT_LIMIT], NO_REPLY), DaebusError(text))


def text_of(error: BaseException) -> str:
    """The text of an exception for the caller, at most TEXT_LIMIT characters; without a text, the name of its type. The
    error of a nested call also names that call."""
    try:
        text = str(error)
    except Exception:  # its __str__ fails
        text = ""
    if isinstance(error, RemoteError):
        text += f" (service {error.service!r}, action {error.action!r} answered {error.code!r})"
    text = text[:TEXT_LIMIT] or type(error).__name__
    return text.encode("utf-8", "backslashreplace").decode()  # a lone surrogate cannot be sent


def code_of(error: BaseException, default: str = ERROR) -> str:
    """The exception's attribute `code` if that is a short text, else `default`.

    For Daebus' own exceptions it is `handler_error`. Their codes describe a nested call; if they were passed on, our
    caller would think that they describe its own call.
    """
    if type(error).__module__ == errors.__name__:
        return HANDLER_ERROR
    try:
        code = getattr(error, "code", None)
    except Exception:  # `code` may be a property that fails
        return default
    if isinstance(code, str) and 0 < len(code) <= CODE_LIMIT and code.isprintable():
        return str.__str__(code)
    return default
