"""What belongs to the message being handled, where the original has it."""

from __future__ import annotations

from daebus_runtime import broadcast, cache, get_daemon, logger, request, response

__all__ = ["broadcast", "cache", "get_daemon", "logger", "request", "response"]
