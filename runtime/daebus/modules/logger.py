"""The logger, where the original has it."""

from __future__ import annotations

import logging

from daebus_runtime import direct_logger

logger = direct_logger


def set_log_level(level: int) -> None:
    """Set the level of the service's logger, as `logging` has it; `DAEBUS_LOG_LEVEL` is set when the service starts."""
    logger.setLevel(level)


def get_logger(name: str | None = None) -> logging.Logger:
    """The service's logger, or one below it."""
    return logger.getChild(name) if name else logger


__all__ = ["get_logger", "logger", "set_log_level"]
