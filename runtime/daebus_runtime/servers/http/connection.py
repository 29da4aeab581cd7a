"""HTTP/1.1 on one accepted connection, based on gevent's pywsgi, but strict, fair and with limits. Knows no routes.

Daebus parses requests (head.py), finds the end of bodies (framing.py), limits the time of each phase (clock.py), reads
bytes (source.py) and sends them (only in `_push`). pywsgi does the rest: the WSGI protocol.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import urllib.parse
from collections.abc import Callable
from typing import Any

from gunicorn.workers.ggevent import PyWSGIHandler

from ...logs import runtime_logger
from ...turn import turn
from ..websocket.connection import UpgradeHandler
from . import forwarded
from .clock import ANSWER, HANDLER, HEADER, IDLE, LINGER, NEW, Clock
from .framing import NO_BODY, Body, NoBody, malformed
from .head import Head, Refused
from .identity import FIELD, REQUEST_ID, fresh_id, request_id
from .server import Server
from .source import open_source

SLICE = 262_144
"""An answer is passed to the kernel in pieces of this size; other greenlets may run between two pieces."""
MAPPED = "::ffff:"
ONE_WRITE = 65_536
"""A body up to this size is sent in one write with its header, because two writes would be two packets."""


def _of_its_family(address: Any) -> Any:
    """On a port for IPv6 and IPv4, show IPv4 clients as IPv4: `127.0.0.1`, not `::ffff:127.0.0.1`."""
    if isinstance(address, tuple) and address[0].startswith(MAPPED) and "." in address[0]:
        return address[0].removeprefix(MAPPED), address[1]
    return address


class HttpConnection(UpgradeHandler, PyWSGIHandler):  # type: ignore[misc]
    """The requests of one connection, one after the other."""

    server: Server
    headers: dict[str, str]  # names in lower case
    response_headers: list[tuple[bytes, bytes]]
    status: Any
    code: int
    provided_date: Any
    wsgi_input: NoBody = NO_BODY
    slice = SLICE
    _origin: forwarded.Origin | None = None

    def __init__(self, sock: Any, address: Any, server: Server) -> None:
        self.clock = Clock()
        self.source, file = open_source(sock, self.clock)
        self._send = self.sender(sock)
        self._known_host: str | None = None
        super().__init__(sock, _of_its_family(address), server, file)

    @staticmethod
    def sender(sock: Any) -> Callable[[Any], int]:
        """How to send without waiting: BlockingIOError if nothing can be sent."""
        send: Callable[[Any], int] = sock._sock.send
        return send

    # --- its life -------------------------------------------------------------------------------------------------
    def handle(self) -> None:
        self.server.admit(self)
        try:
            super().handle()
        finally:
            self.server.connections.pop(self, None)

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
    def handle_one_request(self) -> Any:
        try:
            if not self._wait_for_request():
                return None
            head = Head(self.rfile.readline, self._known_host)
            if head.chunked and malformed(self.source.arrived(self.rfile)):
                raise Refused("400 Bad Request", "a malformed chunk")
            if self.server.trust is not None:
                self._origin = forwarded.read(self.server.trust, head.fields, self.client_address)
        except Refused as refused:
            return self._refuse(refused.status, str(refused))
        except EOFError:
            return self._refuse("408 Request Timeout", "half a header")
        except (OSError, ValueError):
            return None
        self.clock.enter(HANDLER)
        self._take(head)
        self.application = self.server.application
        self.handle_one_response()
        self._settle_body()
        return None if self.close_connection or self.rfile.closed else True

    def _wait_for_request(self) -> bool:
        """Whether a request begins; False if the connection ends instead."""
        if self.server.draining and not self.has_bytes():
            return False
        first = self.clock.phase == NEW
        if not first:
            self.clock.enter(IDLE)
        self.source.waited = False
        if not self.rfile.peek(1):
            return False
        if not (first or self.source.waited):
            turn()  # the next request is already here (pipelining, or a fast client): one per turn
        self.clock.enter(HEADER)
        return True

    def _take(self, head: Head) -> None:
        """Set the attributes that pywsgi and gunicorn expect from the head."""
        self.requestline, self.command, self.path = head.line, head.method, head.target
        self.request_version = "HTTP/" + head.version
        self.headers, self.content_length, self.close_connection = head.fields, head.length, head.close
        self._known_host = head.fields.get("host")
        self.response_length = 0
        self.wsgi_input = NO_BODY
        if head.chunked or head.length:
            waiting = self.socket if "expect" in head.fields and head.version == "1.1" else None
            self.wsgi_input = Body(self.rfile, self.clock, None if head.chunked else head.length, waiting)
        self.environ = self.get_environ()

    def get_environ(self) -> dict[str, Any]:
        environ: dict[str, Any] = self.server.get_environ()
        path, _, query = self.path.partition("?")
        environ["REQUEST_METHOD"] = self.command
        environ["SCRIPT_NAME"] = ""
        environ["PATH_INFO"] = urllib.parse.unquote(path, "latin-1")
        environ["QUERY_STRING"] = query
        environ["RAW_URI"] = self.path
        environ["SERVER_PROTOCOL"] = self.request_version
        environ["gunicorn.sock"] = self.socket
        if isinstance(self.client_address, tuple):
            environ["REMOTE_ADDR"], environ["REMOTE_PORT"] = str(self.client_address[0]), str(self.client_address[1])
        for name, value in self.headers.items():
            if "_" not in name:  # X_Forwarded_For would look like X-Forwarded-For
                key = name.replace("-", "_").upper()
                environ[key if key in ("CONTENT_TYPE", "CONTENT_LENGTH") else f"HTTP_{key}"] = value
        environ["wsgi.input"], environ["wsgi.input_terminated"] = self.wsgi_input, True
        if self._origin is not None:
            self._origin.put(environ)
        sent = self.headers.get("x-request-id")
        environ[REQUEST_ID] = fresh_id() if sent is None else request_id(sent)
        return environ

    def _settle_body(self) -> None:
        """Skip the unread body so that the next request can follow, or close so that the client gets the answer."""
        body = self.wsgi_input
        if not body.unread:
            return
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
            while self.socket.recv(ONE_WRITE):
                self.source.share.take()

    # --- answering ------------------------------------------------------------------------------------------------
    def _refuse(self, status: str, reason: str) -> None:
        runtime_logger.debug("refused a request from %s: %s (%s)", self.client_address, status, reason)
        answer = f"HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
        if self.server.served is not None:
            self.server.served(self, refused=status)
        with contextlib.suppress(OSError):
            self._push(answer.encode())
            self._linger()

    def _push(self, data: bytes | bytearray) -> None:
        """Send. What the client does not accept at once must be sent within the time limit for an answer."""
        try:
            sent = self._send(data) if len(data) <= SLICE else 0
        except BlockingIOError:
            sent = 0
        if sent < len(data):
            self._push_slowly(memoryview(data)[sent:])

    def _push_slowly(self, data: memoryview) -> None:
        phase = self.clock.phase
        self.clock.enter(ANSWER)
        while data:
            sent = self.socket.send(data[: self.slice])
            self.clock.moved += sent
            data = data[sent:]
            if data:
                self.source.share.take()
        self.clock.enter(phase)

    def _sendall(self, data: bytes | bytearray) -> None:
        try:
            self._push(data)
        except OSError as error:
            self.status, self.code = f"socket error: {error}", -abs(self.code)
            raise
        self.response_length += len(data)

    def _write(self, data: bytes) -> None:
        if self.command != "HEAD":
            super()._write(data)

    def process_result(self) -> None:
        for data in self.result:
            if data:
                self.write(data)
        if self.status and not self.headers_sent:
            self.write(b"")
        if self.response_use_chunked and self.command != "HEAD":
            self._sendall(b"0\r\n\r\n")

    def finalize_headers(self) -> None:
        if self.server.draining or self.wsgi_input.unskippable:
            self.close_connection = True
        if self.provided_date is None:
            self.response_headers.append((b"Date", self.server.date()))
            self.provided_date = True
        self.response_headers.append((FIELD, self.environ[REQUEST_ID].encode()))
        super().finalize_headers()
        if self.close_connection and self.code != 101:
            others = [field for field in self.response_headers if field[0].lower() != b"connection"]
            self.response_headers = [*others, (b"Connection", b"close")]

    def _write_with_headers(self, data: bytes) -> None:
        self.headers_sent = True
        self.finalize_headers()
        out = bytearray(b"HTTP/1.1 " + self.status + b"\r\n")
        for name, value in self.response_headers:
            out += name + b": " + value + b"\r\n"
        out += b"\r\n"
        if self.command == "HEAD":
            data = b""
        if len(data) > ONE_WRITE:
            self._sendall(out)
            self._write(data)
            return
        if data and self.response_use_chunked:
            out += b"%x\r\n" % len(data) + data + b"\r\n"
        else:
            out += data
        self._sendall(out)

    # --- logs -----------------------------------------------------------------------------------------------------
    def log_request(self) -> None:
        if self.server.served is not None:
            self.server.served(self)

    def _log_error(self, kind: Any, value: Any, traceback: Any) -> None:
        if issubclass(kind, Exception):
            runtime_logger.error("serving %s failed", self.requestline, exc_info=(kind, value, traceback))
