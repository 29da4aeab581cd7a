"""The head of a request: its first line and its header fields (RFC 9112). Knows nothing of sockets and routes.

A head that is malformed or ambiguous raises `Refused`, with the status of the answer.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable

MOST_LINE = 8190
MOST_FIELDS = 100
MOST_HEADER = 65_536

_TOKEN = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
# All visible characters except `#`; `%` only before two hexadecimal digits.
_CHARS = r"[^\x00-\x20\x7f#%{more}]*(?:%[0-9A-Fa-f]{{2}}[^\x00-\x20\x7f#%{more}]*)*"
_VISIBLE, _BEFORE_QUERY = _CHARS.format(more=""), _CHARS.format(more="?")
_NAME = r"(?:[A-Za-z0-9\-._~!$&'()*+,;=]|%[0-9A-Fa-f]{2})+"
_AUTHORITY = rf"(?:{_NAME}|\[[0-9A-Fa-f:.]+\])(?::[0-9]*)?"

_USUAL_LINE = re.compile(rf"({_TOKEN}) (/{_VISIBLE}) HTTP/1\.([01])").fullmatch
_ANY_LINE = re.compile(r"(" + _TOKEN + r") ([^\x00-\x20\x7f]+) HTTP/([0-9]\.[0-9])").fullmatch
_ABSOLUTE = re.compile(rf"https?://({_AUTHORITY})(/{_BEFORE_QUERY})?(\?{_VISIBLE})?", re.IGNORECASE).fullmatch
_HOST = re.compile(_AUTHORITY).fullmatch
_FIELD = re.compile(rf"({_TOKEN}):[ \t]*([^\x00-\x08\x0a-\x1f\x7f]*)").fullmatch
_LENGTH = re.compile(r"[0-9]{1,18}").fullmatch

ReadLine = Callable[[int], bytes]


class Refused(ValueError):
    """A request that is refused while it is parsed; `status` is the text of the status line."""

    def __init__(self, status: str, reason: str) -> None:
        super().__init__(reason)
        self.status = status


def bad(reason: str) -> Refused:
    return Refused("400 Bad Request", reason)


class Head:
    """line: the request line; target: path and query as received, `*` only for OPTIONS; version: `1.0` or `1.1`;
    fields: by lower-case name, repeated fields joined; length: Content-Length or None; chunked: whether the body is
    chunked; close: whether the client wants the connection to be closed after the answer."""

    __slots__ = ("chunked", "close", "fields", "length", "line", "method", "target", "version")

    def __init__(self, readline: ReadLine, known_host: str | None = None) -> None:
        """Read the head of a request. EOFError if the stream ends before; Refused. known_host: a `Host` that was
        checked before."""
        too_long = "414 URI Too Long"
        self.line = read_line(readline, too_long) or read_line(readline, too_long)
        authority = self._take_apart(self.line)
        self.fields = read_fields(readline)
        self._check_host(known_host)
        if authority is not None:
            self.fields["host"] = authority
        self._check_framing()

    def _take_apart(self, line: str) -> str | None:
        """Parse the request line; returns the authority of an absolute target."""
        match = _USUAL_LINE(line)
        if match is not None:
            self.method, self.target, minor = match.groups()
            self.version = "1." + minor
            return None
        match = _ANY_LINE(line)
        if match is None:
            raise bad("malformed request line")
        self.method, self.target, self.version = match.groups()
        if self.version not in ("1.0", "1.1"):
            raise Refused("505 HTTP Version Not Supported", f"HTTP/{self.version}")
        return self._unusual_target()

    def _unusual_target(self) -> str | None:
        if self.method == "CONNECT":
            if not _HOST(self.target) or not self.target.rpartition(":")[2].isdecimal():
                raise bad("the target of CONNECT is not an authority")
            raise Refused("501 Not Implemented", "CONNECT: this is no proxy")
        if self.target == "*" and self.method == "OPTIONS":
            return None
        absolute = _ABSOLUTE(self.target)
        if absolute is None or not is_authority(absolute[1]):
            raise bad("malformed target")
        self.target = (absolute[2] or "/") + (absolute[3] or "")
        return absolute[1]

    def _check_host(self, known: str | None) -> None:
        host = self.fields.get("host")
        if host is None:
            if self.version == "1.1":
                raise bad("no Host")
        elif host and host != known and not is_authority(host):
            raise bad("malformed or repeated Host")

    def _check_framing(self) -> None:
        """The end of the body, and whether the connection stays open, must be unambiguous."""
        fields = self.fields
        length, coding = fields.get("content-length"), fields.get("transfer-encoding")
        if length is not None and not _LENGTH(length):
            raise bad("malformed or repeated Content-Length")
        if coding is not None:
            if length is not None or self.version == "1.0":
                raise bad("Transfer-Encoding with Content-Length or HTTP/1.0")
            if coding.lower() != "chunked":
                raise Refused("501 Not Implemented", "a transfer coding other than chunked")
        if "expect" in fields and fields["expect"].lower() != "100-continue":
            raise Refused("417 Expectation Failed", "an expectation other than 100-continue")
        self.length = int(length) if length is not None else None
        self.chunked = coding is not None
        tokens = {token.strip().lower() for token in fields["connection"].split(",")} if "connection" in fields else ()
        self.close = "close" in tokens or (self.version == "1.0" and "keep-alive" not in tokens)


def read_line(readline: ReadLine, too_long: str) -> str:
    """A line without its line end. EOFError if the stream ends in it; Refused with `too_long` above MOST_LINE bytes."""
    raw = readline(MOST_LINE + 2)
    if raw.endswith(b"\r\n"):
        return raw[:-2].decode("latin-1")
    if len(raw) > MOST_LINE:
        raise Refused(too_long, f"a line of more than {MOST_LINE} bytes")
    if raw.endswith(b"\n"):
        raise bad("a line ends without CR")
    raise EOFError


def read_fields(readline: ReadLine) -> dict[str, str]:
    """Read header fields or trailers up to the empty line, by lower-case name. EOFError; Refused."""
    fields: dict[str, str] = {}
    too_large = "431 Request Header Fields Too Large"
    size = 0
    for _ in range(MOST_FIELDS + 1):
        line = read_line(readline, too_large)
        if not line:
            return fields
        size += len(line)
        match = _FIELD(line)
        if match is None:
            raise bad("malformed header line")
        if size > MOST_HEADER:
            raise Refused(too_large, f"a header of more than {MOST_HEADER} bytes")
        name, value = match[1].lower(), match[2].rstrip(" \t")
        if name in fields:
            value = fields[name] + ("; " if name == "cookie" else ", ") + value
        fields[name] = value
    raise Refused(too_large, f"more than {MOST_FIELDS} header lines")


def is_authority(text: str) -> bool:
    """Whether it is a host or host:port as in a URL (RFC 3986, 3.2, without user information)."""
    if not _HOST(text):
        return False
    host, _, port = text.rpartition(":") if not text.endswith("]") and ":" in text else (text, "", "")
    if port and (len(port) > 5 or int(port) > 65_535):
        return False
    if host.startswith("["):
        try:
            ipaddress.IPv6Address(host[1:-1])
        except ValueError:
            return False
    return True
