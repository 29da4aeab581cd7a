"""The listening side of HTTP: accepts connections, tracks the open ones and ends those that take too long."""

from __future__ import annotations

import contextlib
import logging
import time
from email.utils import formatdate
from typing import Any, Protocol

from gevent import get_hub, pywsgi

from ...logs import runtime_logger
from .clock import HEADER, IDLE, NEW, Clock
from .served import Watcher
from .trust import Trust

SWEEP_SECONDS = 1.0
DRAIN_SWEEP_SECONDS = 0.1


class Accepted(Protocol):
    """What the server needs from a connection."""

    clock: Clock

    def expire(self) -> None:
        """Called when its phase has taken too long."""

    def cut(self) -> None:
        """Close at once, without an answer."""

    def has_bytes(self) -> bool:
        """Whether unread bytes of the client have arrived."""


class Preface(Protocol):
    """What a connection begins with before HTTP (preface.py)."""

    def serve(self, server: Server, sock: Any, address: Any) -> None: ...


class Server(pywsgi.WSGIServer):
    """One port. From `start` to `stop` it checks the time limits of its connections; no other code has to.

    most: above this number of connections the oldest one is cut, preferably one without a complete request; None means
    that the pool passed as `spawn` sets the limit. trust: the proxies whose word counts. preface: what comes before
    HTTP. served: called after each answer.
    """

    def __init__(
        self,
        listener: Any,
        most: int | None = None,
        trust: Trust | None = None,
        preface: Preface | None = None,
        served: Watcher | None = None,
        **options: Any,
    ) -> None:
        error_log = pywsgi.LoggingLogAdapter(runtime_logger, logging.WARNING)
        super().__init__(listener, error_log=error_log, **options)
        self.connections: dict[Accepted, None] = {}  # oldest first
        self.draining = False
        self.trust, self.preface = trust, preface
        self.served = served
        self._most = most
        self._second, self._date = 0, ""
        self._sweeps = _every(SWEEP_SECONDS)
        # Otherwise pywsgi would look it up in the DNS.
        self.environ.setdefault("SERVER_NAME", self.address[0] if isinstance(self.address, tuple) else "")
        self.environ.update({"SCRIPT_NAME": "", "wsgi.input_terminated": True})

    def start(self) -> None:
        super().start()
        self._sweeps.start(self.sweep)

    def stop(self, timeout: float | None = None) -> None:
        self._sweeps.close()
        super().stop(timeout)

    def handle(self, sock: Any, address: Any) -> None:
        """Called by pywsgi in the connection's greenlet."""
        if self.preface is None:
            super().handle(sock, address)
        else:
            self.preface.serve(self, sock, address)

    def handle_http(self, sock: Any, address: Any) -> None:
        """The requests of a connection. address: the client's, or that of the proxy nearest to us."""
        super().handle(sock, address)

    def date_line(self) -> str:
        """The field `Date`; formatted once a second."""
        now = int(time.time())
        if now != self._second:
            self._second, self._date = now, f"Date: {formatdate(now, usegmt=True)}"
        return self._date

    def refusal(self, status: str, request_id: str, text: str = "") -> bytes:
        """The whole answer to something that is no valid request. It is the last of its connection."""
        fields = ["Connection: close", f"Content-Length: {len(text)}", self.date_line(), f"X-Request-ID: {request_id}"]
        if text:
            fields.append("Content-Type: text/plain")
        return "\r\n".join((f"HTTP/1.1 {status}", *fields, "", text)).encode()

    def admit(self, connection: Accepted) -> None:
        """Called by each connection at its start."""
        if self._most is not None and len(self.connections) >= self._most:
            silent = (one for one in self.connections if one.clock.phase in (NEW, HEADER))
            victim = next(silent, None) or next(iter(self.connections))
            del self.connections[victim]
            victim.cut()
        self.connections[connection] = None

    def sweep(self) -> None:
        """End overdue connections."""
        now = time.monotonic()
        for connection in [one for one in self.connections if one.clock.overdue(now)]:
            connection.expire()

    def drain(self) -> None:
        """Accept no more connections than those that wait already. Each connection ends with its next answer, which
        says so; those without a request end within DRAIN_SECONDS."""
        self.draining = True
        self._accept_waiting()
        self.close()
        self._sweeps.close()
        self._sweeps = _every(DRAIN_SWEEP_SECONDS)
        self._sweeps.start(self.sweep)
        for connection in list(self.connections):
            if connection.clock.phase in (NEW, IDLE, HEADER):
                connection.clock.hurry()

    def _accept_waiting(self) -> None:
        # Closing the port would reset the connections that the kernel has accepted for us.
        with contextlib.suppress(OSError, AttributeError):  # it is closed already
            while not self.full() and (accepted := self.do_read()):
                self.do_handle(*accepted)


def _every(seconds: float) -> Any:
    return get_hub().loop.timer(seconds, repeat=seconds, ref=False)
