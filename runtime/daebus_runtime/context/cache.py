"""`cache`: the Redis client of the service whose message is being handled, else of this process's service."""

from __future__ import annotations

from typing import Any

from ..aside import import_aside
from . import get_daemon

import_aside("redis")  # imported now, so that no handler waits for it at its first use


class _Cache:
    """The Redis client of the service, with every method of redis-py's `Redis`. Values are text."""

    def __getattr__(self, name: str) -> Any:
        return getattr(get_daemon().redis, name)

    def __dir__(self) -> list[str]:
        return dir(get_daemon().redis)

    def __repr__(self) -> str:
        return "<the service's Redis client>"

    def __reduce__(self) -> str:
        return "cache"  # a copy is the `cache` of the process that unpickles it


cache: Any = _Cache()
