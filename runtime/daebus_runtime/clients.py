"""redis-py clients for `cache`: one per OS thread, because a gevent socket works only in the thread that created it."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING

from . import native

if TYPE_CHECKING:
    from redis import Redis


class Clients:
    """Creates a client at the first use in a thread. It ends with the thread, with `release` there, or with `close`."""

    def __init__(self, make: Callable[[], Redis]) -> None:
        self._make = make
        self._local = native.Local()
        self._all: weakref.WeakSet[Redis] = weakref.WeakSet()
        self._lock = native.make_lock()

    def here(self) -> Redis:
        """The client of this thread."""
        client: Redis | None = getattr(self._local, "client", None)
        if client is None:
            client = self._local.client = self._make()
            with self._lock:
                self._all.add(client)
        return client

    def release(self) -> None:
        """Close the client of this thread, if any, because the thread ends."""
        client: Redis | None = self._local.__dict__.pop("client", None)
        if client is not None:
            client.connection_pool.disconnect()

    def close(self) -> None:
        """Close the clients of all threads."""
        with self._lock:
            clients = list(self._all)
        for client in clients:
            client.connection_pool.disconnect()
