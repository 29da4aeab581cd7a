"""Finds the handler for a request's action. A request for an unknown action gets an error reply."""

from __future__ import annotations

import difflib
from collections.abc import Callable

from ..envelope import error_reply
from ..errors import UNKNOWN_ACTION
from ..transport import Delivery
from . import Handler, Outcome


def route(handlers: dict[str, Handler], service: str, refused: Callable[[str, str], None]) -> Handler:
    """A handler that calls the handler of the request's action. For an unknown action, `refused` gets code and text
    of the error reply. It must limit what it logs, so that a faulty caller cannot fill the log."""

    def find(delivery: Delivery) -> Outcome:
        action = delivery.request.action or ""
        handler = handlers.get(action)
        if handler is not None:
            return handler(delivery)
        near = difflib.get_close_matches(action[:100], handlers, 1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        text = f"service {service!r} has no action {action[:100]!r}{hint}"
        refused(UNKNOWN_ACTION, f"a request was refused: {text}")
        return Outcome(error_reply(delivery.request.request_id, text, UNKNOWN_ACTION))

    return find
