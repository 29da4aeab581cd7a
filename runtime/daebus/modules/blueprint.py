"""`Blueprint`, where the original has it."""

from __future__ import annotations

from daebus_runtime import Blueprint

__all__ = ["Blueprint"]
