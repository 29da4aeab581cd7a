"""The WSGI side of a connection (PEP 3333): calls the application, and sends header and body of its answer.

An answer of one piece is one write. How bytes are sent, and when, is the connection's.
"""

from __future__ import annotations

import abc
import errno
import sys
import time
from collections.abc import Iterable
from typing import Any

from ...logs import runtime_logger
from .framing import NO_BODY, NoBody
from .head import Head
from .server import Server

ONE_WRITE = 65_536
"""A body up to this size is sent in one write with its header, because two writes would be two packets."""
GONE = (errno.EPIPE, errno.ECONNRESET)
OWN = frozenset(("connection", "content-length", "date", "x-request-id"))
"""Fields that the server adds, except for the id only if the application does not give them."""
FAILED = "500 Internal Server Error"


class Answering(abc.ABC):
    """One answer after the other. The names are those of pywsgi's handler, which gunicorn's access log knows.

    status: the text of the status line, None before `start_response`; code: its number; response_headers: as the
    application gave them; response_length: bytes sent, of them header_length for the header; close_connection: the
    connection ends with this answer.
    """

    server: Server
    application: Any
    environ: dict[str, Any]
    head: Head
    request_id = ""
    wsgi_input: NoBody = NO_BODY
    status: str | None = None
    code = 0
    response_headers: list[tuple[str, str]]
    response_length = header_length = 0
    response_use_chunked = False
    headers_sent = False
    close_connection = False
    time_start = time_finish = 0.0

    @abc.abstractmethod
    def _push(self, data: bytes) -> None:
        """Send bytes; OSError if the client is gone."""

    # --- the application ------------------------------------------------------------------------------------------
    def handle_one_response(self) -> None:
        self.status, self.headers_sent, self.response_use_chunked = None, False, False
        self.response_length = self.header_length = 0
        served = self.server.served
        if served is not None:
            self.time_start = time.time()
        try:
            self.run_application()
        except OSError as error:
            if error.errno not in GONE:
                self._fail()
            self.close_connection = True
        except BaseException:  # also a kill: the client gets an answer, and the connection ends
            self._fail()
        finally:
            if served is not None:
                self.time_finish = time.time()
                served(self)

    def run_application(self) -> None:
        result = self.application(self.environ, self.start_response)
        try:
            self._send_result(result)
        finally:
            close = getattr(result, "close", None)
            if close is not None:
                close()

    def _fail(self) -> None:
        """Log the exception being handled, and answer 500 if nothing has been sent."""
        error = sys.exc_info()[1]
        if isinstance(error, Exception):
            runtime_logger.error("serving %s failed", self.head.line, exc_info=error)
        else:
            self.close_connection = True
        if self.headers_sent:
            self.close_connection = True
            return
        self.status = None
        try:
            self.start_response(FAILED, [("Content-Length", "0")])
            self.write(b"")
        except OSError:
            self.close_connection = True

    def start_response(self, status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
        if exc_info is not None and self.headers_sent:
            raise exc_info[1].with_traceback(exc_info[2])
        if exc_info is None and self.status is not None:
            raise AssertionError("the application called start_response twice")
        self.code = int(status[:3])
        self.status, self.response_headers = status, headers
        return self.write

    def _send_result(self, result: Iterable[bytes]) -> None:
        if type(result) is list and not self.headers_sent:
            self._begin(result[0] if len(result) == 1 else b"".join(result), whole=True)
            return
        for data in result:
            if data:
                self.write(data)
        if self.status is not None and not self.headers_sent:
            self._begin(b"", whole=True)
        elif self.response_use_chunked and self.head.method != "HEAD":
            self._send_all(b"0\r\n\r\n")

    def write(self, data: bytes) -> None:
        if not self.headers_sent:
            self._begin(data, whole=False)
        elif data and self._has_body:
            self._send_all(b"%x\r\n%b\r\n" % (len(data), data) if self.response_use_chunked else data)

    # --- header and body ------------------------------------------------------------------------------------------
    @property
    def _has_body(self) -> bool:
        return self.head.method != "HEAD" and self.code not in (101, 204, 304)

    def _begin(self, data: bytes, whole: bool) -> None:
        """Send the header, and behind it the first piece of the body, or the whole."""
        if self.status is None:
            raise AssertionError("the application did not call start_response")
        header = self._header(len(data) if whole else None)
        self.headers_sent, self.header_length = True, len(header)
        if not self._has_body or not data:
            self._send_all(header)
        elif self.response_use_chunked:
            self._send_all(b"%b%x\r\n%b\r\n" % (header, len(data), data))
        elif len(data) > ONE_WRITE:
            self._send_all(header)
            self._send_all(data)
        else:
            self._send_all(header + data)

    def _header(self, size: int | None) -> bytes:
        """The bytes of the header. size: of the body, None if it is unknown. ValueError for line breaks in a field."""
        lines, given = [f"HTTP/1.1 {self.status}", f"X-Request-ID: {self.request_id}"], set[str]()
        for name, value in self.response_headers:
            lower = name.lower()
            if lower in OWN:
                given.add(lower)
                if lower == "x-request-id" or (lower == "connection" and self.code != 101 and self._closes(value)):
                    continue
            lines.append(f"{name}: {value}")
        if "date" not in given:
            lines.append(self.server.date_line())
        if "content-length" not in given and self.code not in (101, 204, 304):
            self._add_framing(lines, size)
        if self.code == 101:
            self.close_connection = True  # afterwards it speaks another protocol, and then it ends
        elif self._closes():
            lines.append("Connection: close")
        elif self.head.version == "1.0":
            lines.append("Connection: keep-alive")
        text = "\r\n".join(lines)
        if text.count("\n") != len(lines) - 1 or text.count("\r") != len(lines) - 1:
            raise ValueError("a line break in the status or in a header field")
        return text.encode("latin-1") + b"\r\n\r\n"

    def _closes(self, connection: str = "") -> bool:
        """Whether the connection ends with this answer. connection: the field as the application gave it."""
        if connection.lower() == "close" or self.server.draining or self.wsgi_input.unskippable:
            self.close_connection = True
        return self.close_connection

    def _add_framing(self, lines: list[str], size: int | None) -> None:
        if size is not None:
            lines.append(f"Content-Length: {size}")
        elif self.head.version == "1.1":
            self.response_use_chunked = True
            lines.append("Transfer-Encoding: chunked")
        else:
            self.close_connection = True  # the end of the connection is the end of the body

    def _send_all(self, data: bytes) -> None:
        try:
            self._push(data)
        except OSError as error:
            self.status, self.code = f"socket error: {error}", -abs(self.code)
            raise
        self.response_length += len(data)
