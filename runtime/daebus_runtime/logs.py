"""The format of log records: text lines on a terminal, JSON lines elsewhere. Only the format, never the content.

`direct_logger` is the plain logger; `logger` adds service, request id and trace id of the message being handled
(the context package provides them through `bind`). Both use one handler with a native lock, which is never held across
a greenlet switch. So greenlets and OS threads may log at the same time.
"""

from __future__ import annotations

import datetime
import logging
import os
import re
import sys
from collections.abc import Callable, Mapping
from typing import Any, TextIO

from . import codec, native, printable

NAME = "daebus"
direct_logger = logging.getLogger(NAME)
runtime_logger = logging.getLogger(f"{NAME}.runtime")

# ANSI colour codes. A library for them would be imported by every service.
_GREEN, _DIM = 32, 2
_COLOURS = {"DEBUG": 90, "WARNING": 33, "ERROR": 31, "CRITICAL": 31}
_STANDARD = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName", "daebus", "daebus_block"}
_PLAIN = re.compile(r'[^\s="]+')
BLOCK = "daebus_block"
"""Key in `extra` for a mapping: in text records each entry is a line below the record, in JSON records a field."""
_about: Callable[[], Mapping[str, Any]] = dict


def bind(about: Callable[[], Mapping[str, Any]]) -> None:
    """Make `logger` call `about()` for the fields of the message being handled."""
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
    """`12:30:05.123 INFO  text  service=x request_id=y`, with colour on a terminal.

    A record is always one line, even if clients send line breaks. Its block and its traceback follow, indented.
    """

    def __init__(self, colour: bool) -> None:
        super().__init__()
        self.colour = colour

    def format(self, record: logging.LogRecord) -> str:
        when = datetime.datetime.fromtimestamp(record.created, datetime.UTC).astimezone().strftime("%H:%M:%S.%f")[:-3]
        level = printable.text(f"{record.levelname:<7}")
        fields = " ".join(f"{printable.text(str(k))}={_quoted(str(v))}" for k, v in _fields(record).items())
        if self.colour:
            level = _styled(level, _COLOURS.get(record.levelname, _GREEN))
            when, fields = _styled(when, _DIM), _styled(fields, _DIM) if fields else ""
        first = f"{when} {level} {printable.text(record.getMessage())}" + (f"  {fields}" if fields else "")
        block = [f"{name:<11} {value}" for name, value in getattr(record, BLOCK, {}).items()]
        below = [*block, *_traces(self, record).split("\n")]
        return "\n".join([first, *(f"  {printable.text(line)}" for line in below if line)])


class JsonFormatter(logging.Formatter):
    """One JSON object per line: time (RFC 3339, UTC), level, logger, message, the context's fields, error. `encoding`
    is the stream's; characters that it cannot encode are escaped."""

    def __init__(self, encoding: str | None = None) -> None:
        super().__init__()
        self.encoding = encoding

    def format(self, record: logging.LogRecord) -> str:
        when = datetime.datetime.fromtimestamp(record.created, datetime.UTC).isoformat(timespec="milliseconds")
        line: dict[str, Any] = {
            "time": when,
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        line = {
            **line,
            **getattr(record, BLOCK, {}),
            **_fields(record),
            **line,
        }  # extra fields must not replace these
        if traces := _traces(self, record):
            line["error"] = traces
        try:
            document = codec.dumps(line)
        except Exception:  # a field's own code may raise anything; the record is written anyway
            document = codec.dumps({str(k): str(v) for k, v in line.items()})
        return printable.json(document.decode(), self.encoding)


def _traces(formatter: logging.Formatter, record: logging.LogRecord) -> str:
    """The record's exception and stack as text."""
    traces = [formatter.formatException(record.exc_info)] if record.exc_info else []
    return "\n".join([*traces, record.stack_info] if record.stack_info else traces)


def _styled(text: str, style: int) -> str:
    return f"\x1b[{style}m{text}\x1b[0m"


def _quoted(value: str) -> str:
    """A field's value, quoted if it could be mistaken for more than one field."""
    value = printable.text(value)
    if value and _PLAIN.fullmatch(value):
        return value
    return '"' + value.replace('"', '\\"') + '"'


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    fields = {k: v for k, v in record.__dict__.items() if k not in _STANDARD}
    about = getattr(record, "daebus", None)
    return {**fields, **about} if isinstance(about, Mapping) else fields


class _Handler(logging.StreamHandler[TextIO]):
    def createLock(self) -> None:
        self.lock = native.make_rlock()


def configure(log_format: str, level: str, stream: TextIO | None = None) -> None:
    """Write Daebus' records and the warnings of other libraries to `stream` (stderr).

    If the program has set up logging to the console itself, for example with `logging.basicConfig()`, that stays in
    use for all other records, so each record is shown once. Other handlers of the root logger also get Daebus' records.
    """
    stream = stream or sys.stderr
    handler = _make_handler(log_format, stream)
    numeric = logging.getLevelNamesMapping()[level.upper()]
    direct_logger.setLevel(numeric)
    root = logging.getLogger()
    for log in (root, direct_logger):
        for old in [h for h in log.handlers if isinstance(h, _Handler)]:
            log.removeHandler(old)
    others = [h for h in root.handlers if not _is_console(h)]
    own = len(others) == len(root.handlers)
    (root if own else direct_logger).addHandler(handler)
    direct_logger.propagate = own
    for other in [] if own else others:
        direct_logger.addHandler(other)
    for noisy in ("apscheduler", "geventwebsocket", "falcon"):
        logging.getLogger(noisy).setLevel(max(numeric, logging.WARNING))


def _make_handler(log_format: str, stream: TextIO) -> logging.Handler:
    terminal = stream.isatty()
    if log_format == "auto":
        log_format = "text" if terminal else "json"
    handler = _Handler(stream)
    if log_format == "json":
        handler.setFormatter(JsonFormatter(getattr(stream, "encoding", None)))
    else:
        handler.setFormatter(TextFormatter(colour=terminal and not os.environ.get("NO_COLOR")))
    handler.set_name("daebus")
    return handler


def _is_console(handler: logging.Handler) -> bool:
    stream = getattr(handler, "stream", None)
    return stream is not None and stream in (sys.stderr, sys.stdout, sys.__stderr__, sys.__stdout__)
