"""What log records look like: lines for people on a terminal, JSON lines elsewhere. Decides no content, only form.

`direct_logger` is the plain logger; `logger` adds service, request id and trace id of the message being handled
(context.py tells them through `bind`). Both write through one handler whose lock is a native one: it is never held
across a switch of greenlets, so records may come from greenlets and from OS threads.
"""

from __future__ import annotations

import datetime
import logging
import os
import sys
from collections.abc import Callable, Mapping
from typing import Any, TextIO

import click
from gevent import monkey

from . import codec

NAME = "daebus"
direct_logger = logging.getLogger(NAME)
runtime_logger = logging.getLogger(f"{NAME}.runtime")

_COLOURS = {"DEBUG": "bright_black", "WARNING": "yellow", "ERROR": "red", "CRITICAL": "red"}
_STANDARD = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName", "daebus"}
_about: Callable[[], Mapping[str, Any]] = dict


def bind(about: Callable[[], Mapping[str, Any]]) -> None:
    """Let `logger` ask `about()` for the fields of the message being handled."""
    global _about
    _about = about


class ContextLogger(logging.LoggerAdapter[logging.Logger]):
    """A logger whose records say which service and which message they belong to."""

    def process(self, msg: Any, kwargs: Any) -> tuple[Any, Any]:
        extra = dict(kwargs.get("extra") or {})
        extra["daebus"] = dict(_about())
        kwargs["extra"] = extra
        return msg, kwargs


logger = ContextLogger(direct_logger, {})


class TextFormatter(logging.Formatter):
    """`12:30:05.123 INFO  text  service=x request_id=y`, with colour on a terminal."""

    def __init__(self, colour: bool) -> None:
        super().__init__()
        self.colour = colour

    def format(self, record: logging.LogRecord) -> str:
        when = datetime.datetime.fromtimestamp(record.created, datetime.UTC).astimezone().strftime("%H:%M:%S.%f")[:-3]
        level = f"{record.levelname:<7}"
        fields = " ".join(f"{k}={v}" for k, v in _fields(record).items())
        if self.colour:
            level = click.style(level, fg=_COLOURS.get(record.levelname, "green"))
            when, fields = click.style(when, dim=True), click.style(fields, dim=True) if fields else ""
        line = f"{when} {level} {record.getMessage()}" + (f"  {fields}" if fields else "")
        if record.exc_info:
            line += "\n" + self.formatException(record.exc_info)
        return line


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time (RFC 3339, UTC), level, logger, message, the context's fields, error."""

    def format(self, record: logging.LogRecord) -> str:
        when = datetime.datetime.fromtimestamp(record.created, datetime.UTC).isoformat(timespec="milliseconds")
        line: dict[str, Any] = {
            "time": when,
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        line = {**line, **_fields(record), **line}  # a field may not pass for one of these
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        try:
            return codec.dumps(line).decode()
        except TypeError:
            return codec.dumps({k: str(v) for k, v in line.items()}).decode()


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    fields = {k: v for k, v in record.__dict__.items() if k not in _STANDARD}
    fields.update(getattr(record, "daebus", {}))
    return fields


class _Handler(logging.StreamHandler[TextIO]):
    def createLock(self) -> None:
        self.lock = monkey.get_original("_thread", "RLock")()


def is_json() -> bool:
    """Whether records are written as JSON lines."""
    return any(isinstance(h.formatter, JsonFormatter) for h in logging.getLogger().handlers if h.get_name() == "daebus")


def configure(log_format: str, level: str, stream: TextIO | None = None) -> None:
    """Send Daebus' records to `stream` (stderr). Other libraries' warnings go the same way; a root handler is left
    alone."""
    stream = stream or sys.stderr
    terminal = stream.isatty()
    if log_format == "auto":
        log_format = "text" if terminal else "json"
    handler = _Handler(stream)
    colour = terminal and not os.environ.get("NO_COLOR")
    handler.setFormatter(JsonFormatter() if log_format == "json" else TextFormatter(colour=colour))
    handler.set_name("daebus")
    numeric = logging.getLevelNamesMapping()[level.upper()]
    direct_logger.setLevel(numeric)
    root = logging.getLogger()
    for old in [h for h in root.handlers if h.get_name() == "daebus"]:
        root.removeHandler(old)
    root.addHandler(handler)
    for noisy in ("apscheduler", "geventwebsocket", "falcon"):
        logging.getLogger(noisy).setLevel(max(numeric, logging.WARNING))
