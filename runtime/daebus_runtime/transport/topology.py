"""Which server a link talks to. One server now; Sentinel, Cluster and a local replica are further classes here, and
nothing else moves.

A link asks `connection(role, key)` for every attempt, so a topology that learns of a new address is heard at the next
one.
"""

from __future__ import annotations

import abc
import enum
import os
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from ..settings import redact

CONNECT_SECONDS = 2.0
CLIENT_SECONDS = 5.0


class Role(enum.Enum):
    """What a link is for. Each role has a connection of its own, so that none waits for another."""

    COMMANDS = "commands"
    SUBSCRIPTIONS = "subscriptions"
    BLOCKING = "blocking"


class Topology(abc.ABC):
    @abc.abstractmethod
    def connection(self, role: Role, key: str | None = None) -> Any:
        """An unconnected redis-py connection (address, TLS, user, HELLO) to the server for this role and key."""

    @abc.abstractmethod
    def client(self) -> redis.Redis:
        """A redis-py client, text in and out, for `cache`."""

    @abc.abstractmethod
    def describe(self) -> str:
        """The address as it may be shown: no user, no password."""


class SingleServer(Topology):
    """One Redis or Valkey behind one URL."""

    def __init__(self, url: str, name: str = "daebus") -> None:
        self._url = url
        # A connection that waits for a reply while it is being made must not wait for ever; the link takes the
        # timeout off once it owns the socket. No retries: redis-py would send a write a second time.
        self._pool = redis.ConnectionPool.from_url(
            url,
            protocol=3,
            socket_connect_timeout=CONNECT_SECONDS,
            socket_timeout=CONNECT_SECONDS,
            retry=Retry(NoBackoff(), 0),
            client_name=f"{name}-{os.getpid()}",
        )

    def connection(self, role: Role, key: str | None = None) -> Any:
        # Not `make_connection`: a pool counts what it has made, and at its `max_connections` refuses for ever.
        return self._pool.connection_class(**self._pool.connection_kwargs)

    def client(self) -> redis.Redis:
        pool = redis.BlockingConnectionPool.from_url(
            self._url,
            max_connections=50,
            timeout=CLIENT_SECONDS,
            decode_responses=True,
            socket_connect_timeout=CONNECT_SECONDS,
            socket_timeout=CLIENT_SECONDS,
            health_check_interval=15,
            retry=Retry(NoBackoff(), 0),
        )
        return redis.Redis(connection_pool=pool)

    def describe(self) -> str:
        return redact(self._url)
