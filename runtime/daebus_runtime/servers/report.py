"""The error report for a client when a handler raised an exception: that it failed, and an id to find in the log."""

from __future__ import annotations

import secrets
from typing import Any

from ..dispatch.guard import FAULTS
from ..logs import runtime_logger

__all__ = ["FAULTS", "TEXT", "report"]
TEXT = "Internal Server Error"


def report(
    what: str, error: BaseException, debug: bool, error_id: str | None = None, text: str = TEXT
) -> dict[str, Any]:
    """Log the exception being handled; returns what the client may see. `debug` adds the exception's type and text."""
    error_id = error_id or secrets.token_hex(8)
    runtime_logger.error("%s failed (error %s)", what, error_id, exc_info=error)
    shown: dict[str, Any] = {"error": text, "id": error_id}
    if debug:
        shown["detail"] = f"{type(error).__name__}: {error}"
    return shown
