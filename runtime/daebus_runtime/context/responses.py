"""The object behind `response` in an action, and the innermost handler, which calls the action."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .. import codec, logs
from ..dispatch import DONE, Outcome
from ..dispatch.faults import code_of, text_of
from ..envelope import Reply, error_reply, progress_data
from ..errors import ERROR
from ..settings import UNSET
from ..transport import Delivery
from . import Context, Service, call_here, call_in_context


class PubSubResponse:
    """How an action replies. The final reply ends the exchange; any reply after it is logged and dropped."""

    __slots__ = ("_delivery",)

    def __init__(self, delivery: Delivery) -> None:
        self._delivery = delivery

    @property
    def answered(self) -> bool:
        return self._delivery.answered

    def send(self, data: Any = UNSET, final: bool = True, *, payload: Any = UNSET) -> None:
        """Send `data` (anything codec.py encodes; `payload` is the same); `final=False` sends an intermediate reply."""
        if data is UNSET:
            data = {} if payload is UNSET else payload
        delivery = self._delivery
        reply = Reply(delivery.request.request_id, data, final=bool(final))
        if delivery.answered:
            self._reply(reply)
        else:
            delivery.reply(reply)

    success = send

    def error(self, err: Any, final: bool = True) -> None:
        """Send an error. The caller's exception has its text and, if `err` is an exception with a short text as
        `code`, that code."""
        if isinstance(err, BaseException):
            text, code = text_of(err), code_of(err)
        else:
            text, code = err if isinstance(err, str) else codec.dumps(err).decode(), ERROR
        reply = error_reply(self._delivery.request.request_id, text, code)
        reply.final = bool(final)
        self._reply(reply)

    def progress(
        self, payload: Any, percentage: float | None = None, *, progress_percentage: float | None = None
    ) -> None:
        """Send an intermediate reply, which goes to the caller's `on_progress`. Both percentages mean the same."""
        data = progress_data(payload, percentage if progress_percentage is None else progress_percentage)
        self._reply(Reply(self._delivery.request.request_id, data, final=False))

    def _reply(self, reply: Reply) -> None:
        if self._delivery.answered:
            logs.runtime_logger.warning("a reply after the final one was not sent (request %s)", reply.request_id)
        else:
            self._delivery.reply(reply)

    def __reduce__(self) -> Any:
        raise TypeError("a response belongs to one request and cannot be copied or pickled")


def answering(
    app: Service, function: Callable[[], Any], run: Callable[..., Any] | None = None, keep: bool = False
) -> Callable[[Delivery], Outcome]:
    """The innermost handler of an action: calls the author's function in its context. `run` runs it in an OS thread;
    `keep` holds back the final reply until the delivery is settled."""

    def handle(delivery: Delivery) -> Outcome:
        delivery.keep = keep
        context = Context(app, delivery.request, PubSubResponse(delivery))
        if run is None:
            result = call_here(context, function)  # no `contain`: the outer layers handle every exception
        else:
            result = call_in_context(context, function, run=run)
        if result is not None and not delivery.answered:
            delivery.reply(Reply(delivery.request.request_id, result))
        return DONE

    return handle
