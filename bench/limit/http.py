"""A worker for gunicorn with a bare handler: pywsgi with one pass over the header and one write for an answer.

It was written at the start of the project, to see what Python and gevent allow here: no time limits, no fairness, and
only some of the checks. It is not changed to improve a ratio. As a worker class: `bench.limit.http.Worker`.
"""

from __future__ import annotations

import re
from typing import Any

from gunicorn.workers.ggevent import GeventPyWSGIWorker, PyWSGIHandler

MOST_FIELDS, MOST_LINE, ONE_WRITE = 100, 8190, 65_536
_FIELD = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+:[ \t]*[^\x00-\x08\x0a-\x1f\x7f]*\Z").match


class Fields:
    """What pywsgi needs of a header: `headers` (raw lines), `status`, `get`, `del`."""

    __slots__ = ("fields", "headers", "status", "typeheader")

    def __init__(self) -> None:
        self.headers: list[str] = []
        self.fields: dict[str, str] = {}
        self.status, self.typeheader = "", None

    def get(self, name: str, default: Any = None) -> Any:
        return self.fields.get(name.lower(), default)

    getheader = get

    def __contains__(self, name: str) -> bool:
        return name.lower() in self.fields

    def __delitem__(self, name: str) -> None:
        del self.fields[name.lower()]
        self.headers = [line for line in self.headers if line.split(":", 1)[0].lower() != name.lower()]

    def add(self, line: str) -> str:
        """The name of a repeated field that must not be repeated, else an empty text."""
        name, value = line.split(":", 1)
        name, value = name.lower(), value.strip(" \t")
        if name in self.fields:
            if name in ("content-length", "host", "transfer-encoding"):
                return name
            value = f"{self.fields[name]},{value}"
        self.fields[name] = value
        self.headers.append(line)
        if name == "content-type":
            self.typeheader = value  # type: ignore[assignment]
        return ""


class Handler(PyWSGIHandler):  # type: ignore[misc]
    def MessageClass(self, file: Any, *args: Any) -> Fields:
        fields = Fields()
        while not fields.status:
            line: bytes = file.readline(MOST_LINE + 2)
            if line == b"\r\n":
                break
            text = line[:-2].decode("latin-1")
            if line[-2:] != b"\r\n" or len(fields.headers) >= MOST_FIELDS or not _FIELD(text) or fields.add(text):
                fields.status = "bad header"
        return fields

    def _write_with_headers(self, data: bytes) -> None:
        self.headers_sent = True
        self.finalize_headers()
        out = bytearray(b"HTTP/1.1 " + self.status + b"\r\n")
        for name, value in self.response_headers:
            out += name + b": " + value + b"\r\n"
        out += b"\r\n"
        if len(data) <= ONE_WRITE and not self.response_use_chunked:
            self._sendall(out + data)
        else:
            self._sendall(out)
            self._write(data)

    def _sendall(self, data: bytes) -> None:
        try:
            sent = self.socket._sock.send(data)
        except BlockingIOError:
            sent = 0
        if sent < len(data):
            self.socket.sendall(data[sent:])
        self.response_length += len(data)

    def log_request(self) -> None:
        if self.server.log.access_log_enabled:
            super().log_request()


class Worker(GeventPyWSGIWorker):  # type: ignore[misc]
    wsgi_handler = Handler
