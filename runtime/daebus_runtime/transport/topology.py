"""Which server a link talks to. One server now; Sentinel, Cluster and a local replica are further classes here, and
nothing else moves.

`of(url)` is the one way from an address to its topology, `check(url)` the look at it before a service starts. A link
asks `connection(role, key)` for every attempt, so a topology that learns of a new address is heard at the next one.
"""

from __future__ import annotations

import abc
import enum
import os
from typing import TYPE_CHECKING, Any

from ..errors import ConfigurationError
from ..logs import runtime_logger
from ..settings import redact
from . import redispy
from .address import Address

if TYPE_CHECKING:
    import redis

CONNECT_SECONDS = 2.0
CLIENT_SECONDS = 5.0
BLOCK_SECONDS = 5.0
"""The longest that a blocking read may ask the server to wait."""


class Role(enum.Enum):
    """What a link is for. Each role has a connection of its own, so that none waits for another."""

    COMMANDS = "commands"
    SUBSCRIPTIONS = "subscriptions"
    BLOCKING = "blocking"

    def __init__(self, word: str) -> None:
        # A blocked connection answers nothing, a PING neither, before its read is over.
        self.silence = BLOCK_SECONDS + 1.0 if word == "blocking" else 1.0
        """Seconds for which the server may say nothing before it is asked for a sign of life."""


class Topology(abc.ABC):
    """See the module's text."""

    client_name: str
    """What the server's CLIENT LIST shows for our connections."""
    user: str
    """The ACL user that this bus is used as."""
    database: int
    """Where `cache` and everything else that is stored goes. Channels know no database."""

    @abc.abstractmethod
    def connection(self, role: Role, key: str | None = None) -> Any:
        """An unconnected redis-py connection (address, TLS, user, HELLO) to the server for this role and key."""

    @abc.abstractmethod
    def place(self, role: Role, key: str | None = None) -> str:
        """Which server that is, as a word: links for one role and place are one link."""

    @abc.abstractmethod
    def client(self) -> redis.Redis:
        """A redis-py client, text in and out, for `cache`."""

    @abc.abstractmethod
    def describe(self) -> str:
        """The address as it may be shown: no user, no password."""

    @abc.abstractmethod
    def told(self, error: Exception) -> None:
        """Told of each error reply of a server: with MOVED, ASK, READONLY or LOADING another one may be right."""


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
        # A connection that waits for a reply while it is being made must not wait for ever; the link takes the
        # timeout off once it owns the socket. No retries: redis-py would send a write a second time. No CLIENT SETINFO
        # (driver_info): each command of the handshake is one more turn of a loop that may be held.
        self._options = {
            "socket_connect_timeout": CONNECT_SECONDS,
            "socket_timeout": CONNECT_SECONDS,
            **options,
            "protocol": 3,
            "retry": redispy.Retry(redispy.NoBackoff(), 0),
            "driver_info": None,
        }

    def connection(self, role: Role, key: str | None = None) -> Any:
        # Not a pool's `make_connection`: it counts what it has made, and at its `max_connections` refuses for ever.
        return self._class(**self._options)

    def place(self, role: Role, key: str | None = None) -> str:
        return ""

    def client(self) -> redis.Redis:
        import redis  # its clients: only for a service that uses `cache`

        pool = redis.BlockingConnectionPool.from_url(
            self._url,
            max_connections=50,
            timeout=CLIENT_SECONDS,
            decode_responses=True,
            socket_connect_timeout=CONNECT_SECONDS,
            socket_timeout=CLIENT_SECONDS,
            health_check_interval=15,
            retry=redispy.Retry(redispy.NoBackoff(), 0),
        )
        return redis.Redis(connection_pool=pool)

    def describe(self) -> str:
        return redact(self._url)

    def told(self, error: Exception) -> None:
        pass  # there is no other server


def of(url: str) -> Topology:
    """The topology behind an address. ConfigurationError names what of it cannot be used."""
    return SingleServer(Address.of(url))


def check(url: str) -> None:
    """Connect once, before a service starts. ConfigurationError for what no waiting mends; a server that is away is
    waited for. Says what of the address has no effect on messages."""
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
            "the bus address names database %d: channels know no database, so services on every database of this "
            "server hear each other; only `cache` keeps to it",
            topology.database,
        )
