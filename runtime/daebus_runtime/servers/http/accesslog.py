"""The access log (`DAEBUS_ACCESS_LOG`): one line on stdout for each answer. Off by default; then nothing here runs.

What clients send cannot end a line, nor a field: everything that is not visible ASCII is escaped. The lines of one turn
of the loop are written at once.
"""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, TextIO

from gevent import get_hub

from ... import codec, printable
from ...context import trace
from ...logs import runtime_logger
from ...turn import NextTurn

OFF, JSON, COMBINED = "off", "json", "combined"
NOTHING = "-"
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_UNSAFE = re.compile(r"[^ !#-\[\]-~]")
Entry = dict[str, Any]


class AccessLog:
    """form: `json` or `combined`. Called with each connection after an answer."""

    def __init__(self, form: str, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stdout
        self._form: Callable[[Entry], str] = as_json if form == JSON else as_combined
        self._lines: list[str] = []
        self._later = NextTurn(get_hub().loop, self.flush)

    def __call__(self, connection: Any, refused: str | None = None) -> None:
        """refused: the status of an answer to a request that was not understood."""
        self._lines.append(self._form(entry(connection, refused)))
        self._later.ask()

    def flush(self) -> None:
        """Write what waits."""
        lines, self._lines = self._lines, []
        if not lines:
            return
        try:
            self._stream.write("\n".join([*lines, ""]))
            self._stream.flush()
        except (OSError, ValueError) as error:  # nobody reads it, or the disk is full
            runtime_logger.warning("%d lines of the access log could not be written: %s", len(lines), error)


def entry(connection: Any, refused: str | None) -> Entry:
    """What is known of an answer; None where something is not."""
    now = time.time()
    address = connection.client_address
    found: Entry = {
        "time": now,
        "client": str(address[0]) if isinstance(address, tuple) else None,
        "method": None,
        "target": None,
        "protocol": None,
        "request_id": connection.request_id,
    }
    if refused is not None:
        return {**found, "status": int(refused[:3]), "bytes": 0}
    environ, fields = connection.environ, connection.headers
    parts = trace.parse(fields.get("traceparent"))
    # It was measured with the wall clock, for gunicorn's log; the clock may be set meanwhile.
    seconds = max(0.0, connection.time_finish - connection.time_start)
    return {
        **found,
        "client": environ.get("REMOTE_ADDR") or None,
        "method": connection.head.method,
        "target": connection.head.target,
        "protocol": f"HTTP/{connection.head.version}",
        "status": abs(connection.code) if connection.status else None,
        "bytes": max(0, connection.response_length - connection.header_length),
        "seconds": round(seconds, 6),
        "host": environ.get("HTTP_HOST"),
        "referer": fields.get("referer"),
        "user_agent": fields.get("user-agent"),
        "trace_id": parts[1] if parts else None,
        "aborted": None if connection.status and connection.code > 0 else True,  # the client did not get it all
    }


def as_json(found: Entry) -> str:
    """One JSON object, with the first fields as in all logs."""
    when = datetime.fromtimestamp(found["time"], UTC).isoformat(timespec="milliseconds")
    message = f"{found['method'] or NOTHING} {found['target'] or NOTHING} {found['status'] or NOTHING}"
    known = {name: value for name, value in found.items() if value is not None}
    line = {**known, "time": when, "level": "info", "logger": "daebus.access", "message": message}
    first = ("time", "level", "logger", "message")
    return printable.json(codec.dumps({**{name: line[name] for name in first}, **line}).decode(), "ascii")


def as_combined(found: Entry) -> str:
    """The combined log format of Apache and nginx, in UTC."""
    at = time.gmtime(found["time"])
    when = f"{at.tm_mday:02}/{_MONTHS[at.tm_mon - 1]}/{at.tm_year}:{at.tm_hour:02}:{at.tm_min:02}:{at.tm_sec:02} +0000"
    line = f"{found['method']} {found['target']} {found['protocol']}" if found["method"] else NOTHING
    quoted = (_quoted(line), str(found["status"] or NOTHING), str(found["bytes"]))
    agent = (_quoted(found.get("referer")), _quoted(found.get("user_agent")))
    return " ".join((found["client"] or NOTHING, "- -", f"[{when}]", *quoted, *agent))


def _quoted(text: str | None) -> str:
    return '"' + _UNSAFE.sub(_escape, text or NOTHING) + '"'


def _escape(match: re.Match[str]) -> str:
    char = match[0]
    return "\\" + char if char in '"\\' else "".join(f"\\x{byte:02x}" for byte in char.encode("latin-1", "replace"))
