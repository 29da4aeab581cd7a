"""The listening side of HTTP: accepts connections, knows those that are open, and ends those that take too long."""

from __future__ import annotations

import contextlib
import logging
import time
from email.utils import formatdate
from typing import Any, Protocol, cast

import gevent
from gevent import get_hub, pywsgi

from ...logs import runtime_logger
from .clock import HEADER, IDLE, NEW, SECONDS, Clock

SWEEP_SECONDS = 1.0
DRAIN_SWEEP_SECONDS = 0.1


class Accepted(Protocol):
    """One connection, as its server sees it."""

    clock: Clock

    def expire(self) -> None:
        """Its phase has taken too long."""

    def cut(self) -> None:
        """End without another word."""

    def has_bytes(self) -> bool:
        """Whether the client has sent something that waits to be read."""


class Server(pywsgi.WSGIServer):
    """One port. Its clockwork runs from `start` to `stop`; nobody else needs to look after a connection.

    most: above so many connections the oldest one is cut, those first that have sent no whole request; None leaves the
    number to the pool that `spawn` is.
    """

    def __init__(self, listener: Any, most: int | None = None, **options: Any) -> None:
        error_log = pywsgi.LoggingLogAdapter(runtime_logger, logging.WARNING)
        super().__init__(listener, error_log=error_log, **options)
        self.connections: dict[Accepted, None] = {}  # the oldest first
        self.draining = False
        self.logs_access = bool(getattr(self.log, "access_log_enabled", False))
        self._most = most
        self._second, self._date = 0, b""
        self._sweeps = _every(SWEEP_SECONDS)
        # Else pywsgi asks the DNS for it.
        self.environ.setdefault("SERVER_NAME", self.address[0] if isinstance(self.address, tuple) else "")

    def start(self) -> None:
        super().start()
        self._sweeps.start(self.sweep)

    def stop(self, timeout: float | None = None) -> None:
        self._sweeps.close()
        super().stop(timeout)

    def wrap_socket_and_handle(self, client_socket: Any, address: Any) -> None:
        """Told by pywsgi, in the connection's greenlet: the TLS handshake, which must not take longer than a header."""
        wrap = cast("Any", self).wrap_socket
        options: Any = self.ssl_args
        try:
            with gevent.Timeout(SECONDS[NEW], TimeoutError("the TLS handshake takes too long")):
                secured = wrap(client_socket, **options)
        except OSError as error:
            runtime_logger.debug("no TLS with %s: %s", address, error)
            return
        with contextlib.closing(secured):
            self.handle(secured, address)

    def date(self) -> bytes:
        """The time as a header has it; made once a second."""
        now = int(time.time())
        if now != self._second:
            self._second, self._date = now, formatdate(now, usegmt=True).encode()
        return self._date

    def admit(self, connection: Accepted) -> None:
        """Told by each connection when it begins."""
        if self._most is not None and len(self.connections) >= self._most:
            silent = (one for one in self.connections if one.clock.phase in (NEW, HEADER))
            victim = next(silent, None) or next(iter(self.connections))
            del self.connections[victim]
            victim.cut()
        self.connections[connection] = None

    def sweep(self) -> None:
        """End the connections that are overdue."""
        now = time.monotonic()
        for connection in [one for one in self.connections if one.clock.overdue(now)]:
            connection.expire()

    def drain(self) -> None:
        """Take no more connections, end those that wait; the others end with their request."""
        self.draining = True
        self.close()
        self._sweeps.close()
        self._sweeps = _every(DRAIN_SWEEP_SECONDS)
        self._sweeps.start(self.sweep)
        for connection in list(self.connections):
            if connection.clock.phase == HEADER:
                connection.clock.hurry()
            elif connection.clock.phase in (NEW, IDLE) and not connection.has_bytes():
                connection.expire()


def _every(seconds: float) -> Any:
    return get_hub().loop.timer(seconds, repeat=seconds, ref=False)
