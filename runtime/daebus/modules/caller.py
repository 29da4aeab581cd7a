"""`DaebusCaller`, where the original has it."""

from __future__ import annotations

from daebus_runtime import DaebusCaller

__all__ = ["DaebusCaller"]
