"""HTTP/1.1 on one accepted connection: strict, fair and with limits. Knows no routes.

head.py parses requests, framing.py finds the end of bodies, clock.py limits the time of each phase, source.py reads
bytes, answering.py calls the application. Bytes are sent only in `_push`.
"""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import Callable
from typing import Any

from ...logs import runtime_logger
from ...turn import turn
from ..websocket.connection import UpgradeHandler
from . import forwarded
from .answering import ONE_WRITE
from .clock import ANSWER, HANDLER, HEADER, IDLE, LINGER, NEW, Clock
from .framing import NO_BODY, Body, malformed
from .head import Head, environ_key, read_head
from .identity import REQUEST_ID, fresh_id, request_id
from .server import Server
from .source import open_source
from .target import Refused, bad

WHOLE = 262_144
"""An answer up to this size is passed to the kernel in one piece, if the client takes it."""
SLICE = 131_072
"""A longer one, or one that waits for the client, is passed in pieces; other greenlets may run between two."""
MAPPED = "::ffff:"

UNSENT = 65_536
"""Bytes of a long answer that the kernel takes before it can send them."""


def _of_its_family(address: Any) -> Any:
    """On a port for IPv6 and IPv4, show IPv4 clients as IPv4: `127.0.0.1`, not `::ffff:127.0.0.1`."""
    if isinstance(address, tuple) and address[0].startswith(MAPPED) and "." in address[0]:
        return address[0].removeprefix(MAPPED), address[1]
    return address


def _limit_unsent(sock: Any) -> None:
    """Otherwise the kernel would keep megabytes for a client that does not read."""
    with contextlib.suppress(OSError):  # a Unix socket
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT)


class HttpConnection(UpgradeHandler):
    """The requests of one connection, one after the other."""

    socket: Any
    rfile: Any
    headers: dict[str, str]  # names in lower case
    slice = SLICE
    _origin: forwarded.Origin | None = None

    def __init__(self, sock: Any, address: Any, server: Server) -> None:
        self.socket, self.server, self.client_address = sock, server, _of_its_family(address)
        self.application = server.application
        self.clock = Clock()
        self.source, self.rfile = open_source(sock, self.clock)
        self._send = self.sender(sock)
        self._known_host: str | None = None

    @staticmethod
    def sender(sock: Any) -> Callable[[Any], int]:
        """How to send without waiting: BlockingIOError if nothing can be sent."""
        send: Callable[[Any], int] = sock._sock.send
        return send

    # --- its life -------------------------------------------------------------------------------------------------
    def handle(self) -> None:
        """Called by the server in the connection's greenlet."""
        self.server.admit(self)
        try:
            while self.handle_one_request():
                pass
        finally:
            self.server.connections.pop(self, None)
            self._end()

    def _end(self) -> None:
        with contextlib.suppress(OSError):
            plain = getattr(self.socket, "_sock", None)
            if plain is not None:
                try:
                    plain.recv(16_384)  # closing with unread input makes the kernel send a reset
                finally:
                    plain.close()
        with contextlib.suppress(OSError):
            self.socket.close()
        for name in ("socket", "rfile", "wsgi_input", "environ"):  # these form reference cycles
            self.__dict__.pop(name, None)

    def expire(self) -> None:
        """The phase took too long: wake the greenlet. An unfinished header or body gets 408, the rest is cut."""
        if self.clock.phase in (NEW, IDLE) and self.has_bytes():
            self.clock.hurry(renew=True)  # a request has just arrived, and the greenlet is about to read it
            return
        self.clock.expired = True
        if self.clock.phase in (NEW, IDLE, ANSWER, LINGER):
            self.cut()
        else:
            self._shut(socket.SHUT_RD)

    def cut(self) -> None:
        """Close the connection at once, without an answer, whatever it is doing."""
        if self.clock.phase == ANSWER:
            # Otherwise the kernel would keep trying to send the rest to a client that does not read.
            with contextlib.suppress(OSError):
                self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._shut(socket.SHUT_RDWR)

    def _shut(self, how: int) -> None:
        self.clock.deadline = float("inf")
        with contextlib.suppress(OSError, AttributeError):  # it is closed already
            plain: Any = getattr(self.socket, "_sock", self.socket)
            plain.shutdown(how)

    def has_bytes(self) -> bool:
        """Whether unread bytes of the client have arrived."""
        try:
            return bool(self.socket._sock.recv(1, socket.MSG_PEEK))
        except (OSError, ValueError, AttributeError):  # nothing there, or it is closed
            return False

    # --- one request ----------------------------------------------------------------------------------------------
    def handle_one_request(self) -> bool:
        """Whether another request may follow."""
        self.request_id = ""
        try:
            arrived = self._wait_for_request()
            if not arrived:
                return False
            self._take(read_head(self.rfile, arrived, self._known_host))
        except Refused as refused:
            return self._refuse(refused.status, str(refused))
        except EOFError:
            return self._refuse("408 Request Timeout" if self.clock.expired else "400 Bad Request", "half a header")
        except (OSError, ValueError):
            return False
        self.clock.rest(HANDLER)
        self.handle_one_response()
        if self.wsgi_input.unread:
            self._settle_body()
        return not (self.close_connection or self.rfile.closed)

    def _wait_for_request(self) -> bytes:
        """The first bytes of a request; none if the connection ends instead."""
        if self.server.draining and not self.has_bytes():
            return b""
        first = self.clock.phase == NEW
        if not first:
            self.clock.enter(IDLE)
        self.source.waited = False
        arrived: bytes = self.rfile.peek(1)
        if arrived and not (first or self.source.waited):
            turn()  # the next request is already here (pipelining, or a fast client): one per turn
        if arrived and b"\r\n\r\n" not in arrived:
            self.clock.enter(HEADER)
        return arrived

    def _take(self, head: Head) -> None:
        """Refused for what is known only after the whole head."""
        self.head, self.headers, self.close_connection = head, head.fields, head.close
        sent = head.fields.get("x-request-id")
        self.request_id = fresh_id() if sent is None else request_id(sent)
        if head.chunked and malformed(self.source.arrived(self.rfile)):
            raise bad("a malformed chunk")
        if self.server.trust is not None:
            self._origin = forwarded.read(self.server.trust, head.fields, self.client_address)
        self._known_host = head.fields.get("host")
        self.wsgi_input = NO_BODY
        if head.chunked or head.length:
            waiting = self.socket if "expect" in head.fields and head.version == "1.1" else None
            self.wsgi_input = Body(self.rfile, self.clock, None if head.chunked else head.length, waiting)
        self.environ = self.get_environ()

    def get_environ(self) -> dict[str, Any]:
        head, environ = self.head, dict(self.server.environ)
        environ["REQUEST_METHOD"] = head.method
        environ["PATH_INFO"] = head.path
        environ["QUERY_STRING"] = head.query
        environ["RAW_URI"] = head.target
        environ["SERVER_PROTOCOL"] = "HTTP/1.1" if head.version == "1.1" else "HTTP/1.0"
        environ["gunicorn.sock"] = self.socket
        if isinstance(self.client_address, tuple):
            environ["REMOTE_ADDR"], environ["REMOTE_PORT"] = self.client_address[0], str(self.client_address[1])
        for name, value in head.fields.items():
            environ[environ_key(name)] = value
        environ["wsgi.input"], environ[REQUEST_ID] = self.wsgi_input, self.request_id
        if self._origin is not None:
            self._origin.put(environ)
        return environ

    def _settle_body(self) -> None:
        """Skip the unread body so that the next request can follow, or close so that the client gets the answer."""
        body = self.wsgi_input
        if not self.close_connection and not body.unskippable:
            assert isinstance(body, Body)
            body.skip()
        if body.unread:
            self.close_connection = True
            self._linger()

    def _linger(self) -> None:
        """Keep reading for a moment: closing with unread input makes the kernel send a reset, which can destroy the
        answer."""
        self.clock.enter(LINGER)
        with contextlib.suppress(OSError, ValueError):
            self.socket.shutdown(socket.SHUT_WR)
            while self.socket.recv(ONE_WRITE):  # below TLS, which ended with our goodbye
                self.source.share.take()

    # --- answering ------------------------------------------------------------------------------------------------
    def _refuse(self, status: str, reason: str) -> bool:
        runtime_logger.debug("refused a request from %s: %s (%s)", self.client_address, status, reason)
        self.request_id = self.request_id or fresh_id()
        if self.server.served is not None:
            self.server.served(self, refused=status)
        with contextlib.suppress(OSError):
            self._push(self.server.refusal(status, self.request_id))
            self._linger()
        return False

    def _push(self, data: bytes) -> None:
        """Send. What the client does not accept at once must be sent within the time limit for an answer."""
        try:
            sent = self._send(data) if len(data) <= WHOLE else 0
        except BlockingIOError:
            sent = 0
        if sent < len(data):
            self._push_slowly(memoryview(data)[sent:])

    def _push_slowly(self, data: memoryview) -> None:
        phase, full = self.clock.phase, False
        self.clock.enter(ANSWER)
        _limit_unsent(self.socket)
        while data:
            try:
                sent = self._send(data[: self.slice])
            except BlockingIOError:
                if not full:  # what only fills the kernel's buffer is no progress of the client
                    self.clock.enter(ANSWER)
                    full = True
                sent = self.socket.send(data[: self.slice])
            self.clock.moved += sent
            data = data[sent:]
            if data:
                self.source.share.take()
        self.clock.enter(phase)
