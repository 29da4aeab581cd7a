"""The fields that each log line has about the message being handled: service, request id, trace id."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from . import current, running_app


def about() -> Mapping[str, Any]:
    """The fields for the current log line; passed to `logs.bind`."""
    context = current()
    if context is None:
        app = running_app()
        return {} if app is None else {"service": app.service}
    fields: dict[str, Any] = {"service": context.app.service}
    if context.request is not None:
        if (request_id := getattr(context.request, "request_id", None)) is not None:
            fields["request_id"] = request_id
        fields["trace_id"] = context.trace_id
    return fields
