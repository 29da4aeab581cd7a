"""HTTP/1.1 on one accepted connection: gevent's pywsgi, made strict and bounded. Knows no route and no message.

What pywsgi takes and this does not: both Content-Length and Transfer-Encoding, other codings than `chunked`, malformed
or repeated lengths, folded or unnamed header lines, lines without CR, HTTP/0.9, headers without end. What pywsgi leaves
open and this ends: half a header (HEADER_SECONDS), an idle connection (KEEP_ALIVE_SECONDS), a body nobody reads.
"""

from __future__ import annotations

import contextlib
import logging
import re
import socket
import time
import urllib.parse
from typing import Any

from gevent import pywsgi
from gunicorn.workers.ggevent import PyWSGIHandler

from ...logs import runtime_logger
from ..websocket.connection import Options, UpgradeHandler

HEADER_SECONDS = 10.0
"""From the first byte of a request (of a connection: from its beginning) to the end of its header."""
KEEP_ALIVE_SECONDS = 75.0
"""How long a connection may wait between two requests."""
DRAIN_HEADER_SECONDS = 0.5
"""So much of them is left to half a header once the service stops."""
LINGER_SECONDS = 1.0
"""How long what a client still sends is read and dropped, so that it sees the answer and not a reset."""
MOST_LINE = 8190
MOST_FIELDS = 100
MOST_HEADER = 65_536
SKIP_BYTES = 65_536
"""So much of an unread body is skipped for the sake of the connection; with more, the connection ends."""

_TOKEN = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_REQUEST_LINE = re.compile(rf"({_TOKEN}) ([^\x00-\x20\x7f]+) HTTP/(\d\.\d)").fullmatch
_FIELD = re.compile(rf"({_TOKEN}):[ \t]*([^\x00-\x08\x0a-\x1f\x7f]*)").fullmatch
_ABSOLUTE = re.compile(r"https?://[^/?]*", re.IGNORECASE)
_LENGTH = re.compile(r"[0-9]{1,18}").fullmatch
IDLE, HEAD, BUSY = "idle", "head", "busy"


class Refused(ValueError):
    """A request that is answered before it is one; `status` is the whole status line's text."""

    def __init__(self, status: str, reason: str) -> None:
        super().__init__(reason)
        self.status = status


class Body(pywsgi.Input):
    """A request's body. What is left of it is dealt with by the handler, not here."""

    _chunked_input_error: bool

    def _discard(self) -> None:
        pass

    @property
    def unread(self) -> bool:
        """Whether the client has more to send than was read."""
        if self.chunked_input:
            return self.chunk_length != 0 or self._chunked_input_error
        return bool(self.position < (self.content_length or 0))

    def skip(self, most: int) -> None:
        """Read on to the end, `most` bytes at the most. Not when the client waits for our leave to send."""
        if self.socket is None:
            with contextlib.suppress(OSError):
                while most > 0 and (data := self.read(16_384)):
                    most -= len(data)


class Server(pywsgi.WSGIServer):
    """Accepts connections, and knows those that are open."""

    def __init__(self, listener: Any, websocket_options: Options, **options: Any) -> None:
        error_log = pywsgi.LoggingLogAdapter(runtime_logger, logging.WARNING)
        super().__init__(listener, error_log=error_log, **options)
        self.websocket_options = websocket_options
        self.handlers: set[Handler] = set()
        self.draining = False
        # Else pywsgi asks the DNS for it.
        self.environ.setdefault("SERVER_NAME", self.address[0] if isinstance(self.address, tuple) else "")

    def sweep(self, now: float) -> None:
        """End the connections that have waited too long."""
        for handler in [handler for handler in self.handlers if handler.deadline and now > handler.deadline]:
            handler.expire()

    def drain(self) -> None:
        """Take no more connections, end those that wait; the others end with their request."""
        self.draining = True
        self.close()
        soon = time.monotonic() + DRAIN_HEADER_SECONDS
        for handler in list(self.handlers):
            if handler.phase == HEAD:
                handler.deadline = min(handler.deadline or soon, soon)
            elif handler.phase == IDLE and not handler.has_bytes():
                handler.expire()


class Handler(UpgradeHandler, PyWSGIHandler):  # type: ignore[misc]
    """The requests of one connection, one after the other."""

    phase = IDLE
    deadline = 0.0  # time.monotonic(); 0 while the application has the say
    served = 0
    server: Server
    headers: dict[str, str]  # names in lower case

    # --- time -----------------------------------------------------------------------------------------------------
    def handle(self) -> None:
        self.server.handlers.add(self)
        try:
            super().handle()
        finally:
            self.server.handlers.discard(self)

    def expire(self) -> None:
        """Wake the connection's greenlet at the end of what the client has sent; a begun request is answered 408."""
        self.deadline = 0.0
        plain: Any = getattr(self.socket, "_sock", self.socket)
        with contextlib.suppress(OSError, AttributeError):
            plain.shutdown(socket.SHUT_RD if self.phase == HEAD else socket.SHUT_RDWR)

    def has_bytes(self) -> bool:
        """Whether the client has sent something that waits to be read."""
        try:
            return bool(self.socket._sock.recv(1, socket.MSG_PEEK))
        except (OSError, ValueError, AttributeError):  # nothing there, or TLS
            return False

    # --- reading --------------------------------------------------------------------------------------------------
    def handle_one_request(self) -> Any:
        try:
            if not self._wait_for_request():
                return None
            self._read_head()
        except Refused as refused:
            return self._refuse(refused.status, str(refused))
        except EOFError:
            return self._refuse("408 Request Timeout", "half a header") if self.phase == HEAD else None
        except (OSError, ValueError):
            return None
        self.phase, self.deadline = BUSY, 0.0
        self.served += 1
        self.environ = self.get_environ()
        self.application = self.server.application
        self.handle_one_response()
        self._settle_body()
        self.phase = IDLE
        return None if self.close_connection or self.rfile.closed else True

    def _wait_for_request(self) -> bool:
        """Whether a request begins; False when the connection ends instead."""
        if self.server.draining and not self.has_bytes():
            return False
        self.deadline = time.monotonic() + (KEEP_ALIVE_SECONDS if self.served else HEADER_SECONDS)
        if not self.rfile.peek(1):
            return False
        self.phase, self.deadline = HEAD, time.monotonic() + HEADER_SECONDS
        return True

    def _read_head(self) -> None:
        self.response_length = 0
        line = self._read_line("414 URI Too Long") or self._read_line("414 URI Too Long")
        match = _REQUEST_LINE(line)
        if match is None:
            raise Refused("400 Bad Request", "malformed request line")
        self.requestline = line
        self.command, target, version = match.groups()
        if version not in ("1.0", "1.1"):
            raise Refused("505 HTTP Version Not Supported", f"HTTP/{version}")
        self.request_version = f"HTTP/{version}"
        self.path = _ABSOLUTE.sub("", target, count=1) or "/"
        self.headers = self._read_fields()
        self._check_framing()

    def _read_line(self, too_long: str) -> str:
        raw: bytes = self.rfile.readline(MOST_LINE + 2)
        if raw.endswith(b"\r\n"):
            return raw[:-2].decode("latin-1")
        if len(raw) > MOST_LINE:
            raise Refused(too_long, f"a line of more than {MOST_LINE} bytes")
        if raw.endswith(b"\n"):
            raise Refused("400 Bad Request", "a line ends without CR")
        raise EOFError

    def _read_fields(self) -> dict[str, str]:
        fields: dict[str, str] = {}
        too_large = "431 Request Header Fields Too Large"
        size = 0
        for _ in range(MOST_FIELDS + 1):
            line = self._read_line(too_large)
            if not line:
                return fields
            size += len(line)
            match = _FIELD(line)
            if match is None:
                raise Refused("400 Bad Request", "malformed header line")
            if size > MOST_HEADER:
                raise Refused(too_large, f"a header of more than {MOST_HEADER} bytes")
            name, value = match[1].lower(), match[2].rstrip(" \t")
            if name in fields:
                value = fields[name] + ("; " if name == "cookie" else ", ") + value
            fields[name] = value
        raise Refused(too_large, f"more than {MOST_FIELDS} header lines")

    def _check_framing(self) -> None:
        """Where the body ends, and whether the connection goes on, must be said in one way only."""
        length, coding = self.headers.get("content-length"), self.headers.get("transfer-encoding")
        if length is not None and not _LENGTH(length):
            raise Refused("400 Bad Request", "malformed or repeated Content-Length")
        if coding is not None:
            if length is not None or self.request_version == "HTTP/1.0":
                raise Refused("400 Bad Request", "Transfer-Encoding with Content-Length or HTTP/1.0")
            if coding.lower() != "chunked":
                raise Refused("501 Not Implemented", "a transfer coding other than chunked")
        if self.headers.get("expect", "100-continue").lower() != "100-continue":
            raise Refused("417 Expectation Failed", "an expectation other than 100-continue")
        self.content_length = int(length) if length is not None else None
        tokens = {token.strip().lower() for token in self.headers.get("connection", "").split(",")}
        self.close_connection = "close" in tokens or (self.request_version == "HTTP/1.0" and "keep-alive" not in tokens)

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
            if "_" not in name:  # X_Forwarded_For would pass as X-Forwarded-For
                key = name.replace("-", "_").upper()
                environ[key if key in ("CONTENT_TYPE", "CONTENT_LENGTH") else f"HTTP_{key}"] = value
        waiting = self.socket if "expect" in self.headers and self.request_version == "HTTP/1.1" else None
        chunked = "transfer-encoding" in self.headers
        self.wsgi_input = Body(self.rfile, self.content_length, socket=waiting, chunked_input=chunked)
        environ["wsgi.input"], environ["wsgi.input_terminated"] = self.wsgi_input, True
        return environ

    def _settle_body(self) -> None:
        """Leave the connection at the beginning of the next request, or end it so that the client sees the answer."""
        body: Body = self.wsgi_input
        if not body.unread:
            return
        if not self.close_connection:
            self.phase, self.deadline = HEAD, time.monotonic() + HEADER_SECONDS
            body.skip(SKIP_BYTES)
        if body.unread:
            self.close_connection = True
            self._linger()

    def _linger(self) -> None:
        end = time.monotonic() + LINGER_SECONDS
        with contextlib.suppress(OSError, ValueError):
            self.socket.shutdown(socket.SHUT_WR)
            self.socket.settimeout(LINGER_SECONDS)
            while time.monotonic() < end and self.socket.recv(65_536):
                pass

    # --- answering ------------------------------------------------------------------------------------------------
    def _refuse(self, status: str, reason: str) -> None:
        runtime_logger.info("refused a request from %s: %s (%s)", self.client_address, status, reason)
        answer = f"HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
        with contextlib.suppress(OSError):
            self.socket.sendall(answer.encode())
            self._linger()

    def finalize_headers(self) -> None:
        if self.server.draining:
            self.close_connection = True
        super().finalize_headers()
        if self.close_connection and self.code != 101:
            names = [name.lower() for name, _ in self.response_headers]
            if b"connection" not in names:
                self.response_headers.append((b"Connection", b"close"))

    def _write_with_headers(self, data: bytes) -> None:
        """One write for head and body where the body is small: two would be two packets."""
        self.headers_sent = True
        self.finalize_headers()
        out = bytearray(b"HTTP/1.1 " + self.status + b"\r\n")
        for name, value in self.response_headers:
            out += name + b": " + value + b"\r\n"
        out += b"\r\n"
        if len(data) > 65_536:
            self._sendall(bytes(out))
            self._write(data)
            return
        if data and self.response_use_chunked:
            out += b"%x\r\n" % len(data) + data + b"\r\n"
        else:
            out += data
        self._sendall(bytes(out))

    # --- logs -----------------------------------------------------------------------------------------------------
    def log_request(self) -> None:
        log: Any = self.server.log
        if log.access_log_enabled:
            PyWSGIHandler.log_request(self)

    def _log_error(self, kind: Any, value: Any, traceback: Any) -> None:
        if issubclass(kind, Exception):
            runtime_logger.error("serving %s failed", self.requestline, exc_info=(kind, value, traceback))
