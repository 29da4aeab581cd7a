"""The Redis client of the service that runs in this process, where the original has it."""

from __future__ import annotations

from typing import Any

from daebus_runtime import cache

redis_client: Any = cache


def get_redis_client() -> Any:
    """The same."""
    return cache


__all__ = ["get_redis_client", "redis_client"]
