"""The head of a request: its first line and its header fields (RFC 9112). Knows nothing of sockets and routes.

A head that is malformed or ambiguous raises `Refused`, with the status of the answer. The first line is target.py's.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from . import target
from .target import Refused, bad

MOST_LINE = 8190
MOST_FIELDS = 100
MOST_HEADER = 65_536
TOO_LARGE = "431 Request Header Fields Too Large"

SINGLE = frozenset(
    (
        *("access-control-request-method", "authorization", "content-disposition", "content-length"),
        *("content-location", "content-range", "content-type", "date", "from", "host", "if-modified-since", "if-range"),
        *("if-unmodified-since", "last-event-id", "max-forwards", "origin", "proxy-authorization", "range", "referer"),
        *("sec-websocket-key", "sec-websocket-version", "user-agent"),
    )
)
"""Fields with one value, which must not come twice (RFC 9110, 5.3). Two programs could each believe another one."""
NEVER_TRAILERS = frozenset(
    (
        *SINGLE,
        *("age", "cache-control", "connection", "content-encoding", "content-language", "cookie", "expect", "expires"),
        *("forwarded", "if-match", "if-none-match", "keep-alive", "location", "pragma", "proxy-authenticate"),
        *("proxy-connection", "retry-after", "set-cookie", "te", "transfer-encoding", "upgrade", "vary"),
        *("via", "warning", "www-authenticate", "x-forwarded-for", "x-forwarded-host", "x-forwarded-prefix"),
        "x-forwarded-proto",
    )
)
"""Fields that must not come after the body (RFC 9110, 6.5.1): framing, routing, conditions, authentication, content."""

_NAME = re.compile(rf"{target.TOKEN}").fullmatch
_VALUE = re.compile(r"[^\x00-\x08\x0a-\x1f\x7f]*").fullmatch
_LENGTH = re.compile(r"[0-9]+").fullmatch
_CODINGS = re.compile(rf"(?:{target.TOKEN}[ \t]*,[ \t]*)+chunked", re.IGNORECASE).fullmatch
MOST_DIGITS = 18

_names: dict[str, str] = {}
"""Names of header fields as clients write them, and in lower case; empty for one that is left out."""
MOST_NAMES = 512
LONGEST_NAME = 64

ReadLine = Callable[[int], bytes]


class Head:
    """line: the request line; method, target, path, query, version: see `RequestLine`; fields: by lower-case name,
    repeated fields joined; length: Content-Length or None; chunked: whether the body is chunked; close: whether the
    client wants the connection to be closed after the answer."""

    __slots__ = ("chunked", "close", "fields", "length", "line", "method", "path", "query", "target", "version")

    def __init__(self, lines: Iterator[str], clean: bool = False, known_host: str | None = None) -> None:
        """From the lines of a head, without the empty one. Refused. clean: no line is too long, and all characters are
        printable; known_host: a `Host` that was checked before."""
        self.line = next(lines)
        self.method, self.target, self.path, self.query, self.version, authority = target.parse(self.line)
        self.fields = fields = read_fields(lines, clean)
        host = fields.get("host")
        if host is None:
            if self.version == "1.1":
                raise bad("no Host")
        elif host and host != known_host and not target.is_authority(host):
            raise bad("malformed Host")
        if authority is not None:
            fields["host"] = authority
        self._set_framing()

    def _set_framing(self) -> None:
        """The end of the body, and whether the connection stays open, must be unambiguous."""
        fields = self.fields
        self.length, self.chunked = None, False
        if "content-length" in fields:
            self.length = _length(fields["content-length"])
        if "transfer-encoding" in fields:
            if self.length is not None or self.version == "1.0":
                raise bad("Transfer-Encoding with Content-Length or HTTP/1.0")
            _check_coding(fields["transfer-encoding"])
            self.chunked = True
        if "expect" in fields and not _words(fields["expect"]) <= {"100-continue"}:
            raise Refused("417 Expectation Failed", "an expectation other than 100-continue")
        words = _words(fields["connection"]) if "connection" in fields else frozenset[str]()
        self.close = "close" in words or (self.version == "1.0" and "keep-alive" not in words)


def read_head(file: Any, arrived: bytes, known_host: str | None = None) -> Head:
    """Read a head from a buffered file. EOFError if the file ends before; Refused. arrived: the bytes in the buffer;
    known_host: see `Head`."""
    end = arrived.find(b"\r\n\r\n")
    if not 0 < end <= MOST_LINE:
        return Head(_arriving(file.readline), known_host=known_host)
    text = file.read(end + 4)[:-4].decode("latin-1").removeprefix("\r\n")
    lines = text.split("\r\n")
    return Head(iter(lines), "".join(lines).isprintable(), known_host)


def _arriving(readline: ReadLine) -> Iterator[str]:
    """The lines of a head, each as soon as it has arrived."""
    too_long = "414 URI Too Long"
    # An empty line before the request is ignored (RFC 9112, 2.2).
    yield read_line(readline, too_long) or read_line(readline, too_long)
    yield from read_lines(readline)


def read_lines(readline: ReadLine) -> Iterator[str]:
    """The lines of header fields or trailers up to the empty one."""
    while line := read_line(readline, TOO_LARGE):
        yield line


def read_line(readline: ReadLine, too_long: str) -> str:
    """A line without its line end. EOFError if the stream ends in it; Refused with `too_long` above MOST_LINE bytes.
    A line that ends without CR keeps its LF, so that it matches no grammar."""
    raw = readline(MOST_LINE + 2)
    if raw.endswith(b"\r\n"):
        return raw[:-2].decode("latin-1")
    if len(raw) > MOST_LINE:
        raise Refused(too_long, f"a line of more than {MOST_LINE} bytes")
    if raw.endswith(b"\n"):
        return raw.decode("latin-1")
    raise EOFError


def read_fields(lines: Iterable[str], clean: bool = False) -> dict[str, str]:
    """Header fields or trailers, by lower-case name. Refused. clean: see `Head`."""
    fields: dict[str, str] = {}
    size = 0
    for number, line in enumerate(lines):
        name, colon, value = line.partition(":")
        key = _names.get(name)
        if key is None:
            key = _lowered(name)
        if not colon or not (clean or _VALUE(value)):
            raise bad("malformed header line")
        size += len(line)
        if number == MOST_FIELDS or size > MOST_HEADER:
            raise Refused(TOO_LARGE, f"more than {MOST_FIELDS} header lines or {MOST_HEADER} bytes")
        value = value.strip(" \t")
        if key in fields:
            value = _joined(key, fields[key], value)
        fields[key] = value
    fields.pop("", None)
    return fields


def _lowered(name: str) -> str:
    """The key of a field. Empty for a name with `_`: for WSGI, X_Forwarded_For would be the same as X-Forwarded-For."""
    if not _NAME(name):
        raise bad("malformed header line")
    key = "" if "_" in name else name.lower()
    if len(_names) < MOST_NAMES and len(name) <= LONGEST_NAME:
        _names[name] = key
    return key


def _joined(key: str, before: str, value: str) -> str:
    if key in SINGLE:
        raise bad(f"{key} comes twice")
    return before + ("; " if key == "cookie" else ", ") + value


@functools.lru_cache(1024)
def environ_key(name: str) -> str:
    """The key of a field in the WSGI environ."""
    key = name.upper().replace("-", "_")
    return key if key in ("CONTENT_TYPE", "CONTENT_LENGTH") else f"HTTP_{key}"


def _words(value: str) -> frozenset[str]:
    """The members of a list of words (RFC 9110, 5.6.1), in lower case."""
    return frozenset(word.strip(" \t").lower() for word in value.split(",")) - {""}


def _length(text: str) -> int:
    if not _LENGTH(text):
        raise bad("malformed Content-Length")
    digits = text.lstrip("0")
    if len(digits) > MOST_DIGITS:
        raise Refused("413 Content Too Large", f"a Content-Length of more than {MOST_DIGITS} digits")
    return int(digits or "0")


def _check_coding(coding: str) -> None:
    """Refuse every transfer coding but chunked. If chunked is not the last one, the end of the body is unknown, so the
    answer is 400 (RFC 9112, 6.3)."""
    if coding.lower() == "chunked":
        return
    if _CODINGS(coding) and coding.lower().count("chunked") == 1:
        raise Refused("501 Not Implemented", "a transfer coding other than chunked")
    raise bad("Transfer-Encoding is malformed, or does not end with chunked")
