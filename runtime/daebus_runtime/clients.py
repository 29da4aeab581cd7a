"""redis-py clients for `cache`: one for each OS thread, since gevent's sockets belong to the thread that made them."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING

from gevent import monkey

if TYPE_CHECKING:
    from redis import Redis

# The system's own: gevent's `local` is one for each greenlet.
_ThreadLocal = monkey.get_original("threading", "local")
_make_lock = monkey.get_original("_thread", "allocate_lock")


class Clients:
    """Made at first use in a thread. A client goes with its thread, or with `release` there, or with `close`."""

    def __init__(self, make: Callable[[], Redis]) -> None:
        self._make = make
        self._local = _ThreadLocal()
        self._all: weakref.WeakSet[Redis] = weakref.WeakSet()
        self._lock = _make_lock()

    def here(self) -> Redis:
        """The client of this thread."""
        client: Redis | None = getattr(self._local, "client", None)
        if client is None:
            client = self._local.client = self._make()
            with self._lock:
                self._all.add(client)
        return client

    def release(self) -> None:
        """This thread ends: close its client, if it has one."""
        client: Redis | None = self._local.__dict__.pop("client", None)
        if client is not None:
            client.connection_pool.disconnect()

    def close(self) -> None:
        """Close the clients of all threads."""
        with self._lock:
            clients = list(self._all)
        for client in clients:
            client.connection_pool.disconnect()
