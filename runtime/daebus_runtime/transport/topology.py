"""Which server a link connects to. So far this is a single server; Sentinel, Cluster and a local replica will be more
classes here, without changes elsewhere.

`of(url)` returns the topology of an address; `check(url)` tests the address before a service starts. A link calls
`connection(role, key)` for every attempt, so the next attempt already uses an address that the topology has learnt.
"""

from __future__ import annotations

import abc
import enum
import os
from typing import TYPE_CHECKING, Any, cast

from ..aside import import_aside
from ..errors import ConfigurationError
from ..logs import runtime_logger
from ..settings import redact
from . import redispy
from .address import Address

if TYPE_CHECKING:
    import redis

CONNECT_SECONDS = 2.0
CLIENT_SECONDS = 5.0
BLOCK_SECONDS = 0.9
"""The longest time that a blocking read may wait on the server."""


class Role(enum.Enum):
    """The purpose of a link. Each role has its own connection, so that no role waits for another."""

    COMMANDS = "commands"
    SUBSCRIPTIONS = "subscriptions"
    BLOCKING = "blocking"

    def __init__(self, word: str) -> None:
        # During a blocking read a connection answers nothing, not even a PING. (A server ends one up to 0.1 s late.)
        self.silence = BLOCK_SECONDS + 0.2 if word == "blocking" else 1.0
        """Seconds of silence after which the server is sent a PING."""


class Topology(abc.ABC):
    """See the module's docstring."""

    client_name: str
    """The name of our connections in the server's CLIENT LIST."""
    user: str
    """The ACL user of our connections."""
    database: int
    """The database for `cache` and everything else that is stored. Channels are the same in all databases."""

    @abc.abstractmethod
    def connection(self, role: Role, key: str | None = None) -> Any:
        """An unconnected redis-py connection (address, TLS, user, HELLO) to the server for this role and key."""

    @abc.abstractmethod
    def place(self, role: Role, key: str | None = None) -> str:
        """A word for that server. There is one link per role and place."""

    @abc.abstractmethod
    def client(self) -> redis.Redis:
        """A redis-py client, text in and out, for `cache`."""

    @abc.abstractmethod
    def describe(self) -> str:
        """The address without user and password, safe to show."""

    @abc.abstractmethod
    def told(self, error: Exception) -> None:
        """Called for each error reply: after MOVED, ASK, READONLY or LOADING another server may be the right one."""


class SingleServer(Topology):
    """One Redis or Valkey behind one URL."""

    def __init__(self, address: Address) -> None:
        options = dict(address.options)
        self.client_name = str(options.pop("client_name", f"daebus-{os.getpid()}"))
        self.user = address.user
        self.database = address.database
        self._url = address.url
        self._class = options.pop("connection_class", redispy.Connection)
        for name in ("decode_responses", "encoding", "encoding_errors", "max_connections", "timeout"):
            options.pop(name, None)
        # The timeout is for the handshake, which must not wait for ever; the link removes it once it owns the socket.
        # No retries: redis-py would send a write twice. No CLIENT SETINFO (driver_info): each command of the handshake
        # needs another turn of a loop that may be held.
        self._options = {
            "socket_connect_timeout": CONNECT_SECONDS,
            "socket_timeout": CONNECT_SECONDS,
            **options,
            "protocol": 3,
            "retry": redispy.Retry(redispy.NoBackoff(), 0),
            "driver_info": None,
        }

    def connection(self, role: Role, key: str | None = None) -> Any:
        # Not the pool's `make_connection`: it counts all connections it ever made, and refuses after `max_connections`.
        return self._class(**self._options)

    def place(self, role: Role, key: str | None = None) -> str:
        return ""

    def client(self) -> redis.Redis:
        library = import_aside("redis")  # its clients: only for a service that uses `cache`
        pool = library.BlockingConnectionPool.from_url(
            self._url,
            max_connections=50,
            timeout=CLIENT_SECONDS,
            decode_responses=True,
            socket_connect_timeout=CONNECT_SECONDS,
            socket_timeout=CLIENT_SECONDS,
            health_check_interval=15,
            retry=redispy.Retry(redispy.NoBackoff(), 0),
        )
        return cast("redis.Redis", library.Redis(connection_pool=pool))

    def describe(self) -> str:
        return redact(self._url)

    def told(self, error: Exception) -> None:
        pass  # there is no other server


def of(url: str) -> Topology:
    """The topology for an address. ConfigurationError names the part that cannot be used."""
    return SingleServer(Address.of(url))


def check(url: str) -> None:
    """Connect once, before a service starts. ConfigurationError for errors that waiting cannot fix; an unreachable
    server is no error here. Warns if the address names a database, which has no effect on messages."""
    topology, where = of(url), redact(url)
    connection = topology.connection(Role.COMMANDS)
    try:
        connection.connect()
    except (redispy.AuthenticationError, redispy.NoPermissionError) as error:
        raise ConfigurationError(
            f"the bus at {where} refused the user or password ({error}); correct them in DAEBUS_REDIS_URL"
        ) from None
    except redispy.ResponseError as error:
        raise ConfigurationError(
            f"the bus at {where} refuses the connection ({error}); correct DAEBUS_REDIS_URL"
        ) from None
    except (redispy.RedisError, OSError):
        pass
    finally:
        connection.disconnect()
    if topology.database:
        runtime_logger.info(
            "the bus address names database %d, but channels belong to no database: services on every database of this "
            "server hear each other; only `cache` uses the named one",
            topology.database,
        )
