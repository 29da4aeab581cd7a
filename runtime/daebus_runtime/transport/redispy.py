"""The parts of redis-py that a service needs: its connections and errors. The other rooms take them from here.

`import redis` also imports the clients, all commands and the asyncio half, which take longer than half of all that a
service imports. They are there for whoever imports `redis`, and for `cache`.
"""

from __future__ import annotations

from ..partial import import_parts

import_parts("redis", "backoff", "connection", "exceptions", "retry")

from redis.backoff import NoBackoff
from redis.connection import Connection, parse_url
from redis.exceptions import (
    AuthenticationError,
    BusyLoadingError,
    InvalidResponse,
    NoPermissionError,
    RedisError,
    ResponseError,
    TimeoutError,
)
from redis.retry import Retry

__all__ = [
    "AuthenticationError",
    "BusyLoadingError",
    "Connection",
    "InvalidResponse",
    "NoBackoff",
    "NoPermissionError",
    "RedisError",
    "ResponseError",
    "Retry",
    "TimeoutError",
    "parse_url",
]
