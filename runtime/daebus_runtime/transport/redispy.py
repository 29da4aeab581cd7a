"""The parts of redis-py that every service needs: connections and errors. Other modules import them from here.

`import redis` also imports the clients, all commands and the asyncio half, which takes more than half of the import
time of a service. Programs that import `redis`, and `cache`, still get all of it.
"""

from __future__ import annotations

from ..partial import import_parts

import_parts("redis", "backoff", "connection", "exceptions", "retry")

from redis.backoff import NoBackoff
from redis.connection import Connection, parse_url
from redis.exceptions import (
    AuthenticationError,
    BusyLoadingError,
    ConnectionError,
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
    "ConnectionError",
    "InvalidResponse",
    "NoBackoff",
    "NoPermissionError",
    "RedisError",
    "ResponseError",
    "Retry",
    "TimeoutError",
    "parse_url",
]
