"""`Daebus`, where the original has it."""

from __future__ import annotations

from daebus_runtime import Daebus

__all__ = ["Daebus"]
