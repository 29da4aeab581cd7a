"""The request line: method, target and version (RFC 9112, 3), and the authority in a target or in `Host`."""

from __future__ import annotations

import functools
import ipaddress
import re
import urllib.parse
from typing import NamedTuple

TOKEN = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
MOST_METHOD = 32
"""No registered method is longer (RFC 9112, 3: one that is longer than any known one is 501)."""

LONGEST_KEPT, MOST_KEPT = 200, 512
"""Lines up to this length are kept, and how many of them."""

_ENCODED = r"%[0-9A-Fa-f]{2}"
# RFC 3986, and what browsers leave unencoded: https://url.spec.whatwg.org, "percent-encode sets".
_IN_PATH = r"A-Za-z0-9\-._~!$&'()*+,;=:@/|\[\]"
_PATH = rf"[{_IN_PATH}]*(?:{_ENCODED}[{_IN_PATH}]*)*"
_IN_QUERY = _IN_PATH + r"?{}^`\\"
_QUERY = rf"[{_IN_QUERY}]*(?:{_ENCODED}[{_IN_QUERY}]*)*"
_IN_NAME = r"A-Za-z0-9\-._~!$&'()*+,;="
_HOST = rf"(?:(?:[{_IN_NAME}]|{_ENCODED})+|\[[0-9A-Fa-f:.]+\]|\[v[0-9A-Fa-f]+\.[{_IN_NAME}:]+\])"
_AUTHORITY = rf"{_HOST}(?::[0-9]*)?"

_usual_line = re.compile(rf"({TOKEN}) (/{_PATH})(?:\?({_QUERY}))? HTTP/1\.([0-9])").fullmatch
_any_line = re.compile(rf"({TOKEN}) ([^\x00-\x20\x7f]+) HTTP/([0-9])\.([0-9])").fullmatch
_absolute = re.compile(rf"https?://({_AUTHORITY})(/{_PATH})?(?:\?({_QUERY}))?", re.IGNORECASE).fullmatch
_authority = re.compile(_AUTHORITY, re.IGNORECASE).fullmatch
_dots = re.compile(r"(?:^|/|%2f)(?:\.|%2e){1,2}(?=/|%2f|$)", re.IGNORECASE).search


class Refused(ValueError):
    """A request that is refused while it is parsed; `status` is the text of the status line."""

    def __init__(self, status: str, reason: str) -> None:
        super().__init__(reason)
        self.status = status


def bad(reason: str) -> Refused:
    return Refused("400 Bad Request", reason)


class RequestLine(NamedTuple):
    """target: path and query as received, or `*`; path: percent-decoded, bytes as Latin-1; query: as received; version:
    `1.0` or `1.1`; authority: of an absolute target, else None."""

    method: str
    target: str
    path: str
    query: str
    version: str
    authority: str | None


def parse(line: str) -> RequestLine:
    """Parse a request line. Refused."""
    return _parse_again(line) if len(line) <= LONGEST_KEPT else _parse(line)


def _parse(line: str) -> RequestLine:
    match = _usual_line(line)
    if match is None:
        return _unusual(line)
    method, path, query, minor = match.groups()
    if method == "CONNECT":
        raise bad("the target of CONNECT is not an authority")
    return _checked(method, path, query, "1.0" if minor == "0" else "1.1")


# A service gets the same few lines again and again.
_parse_again = functools.lru_cache(MOST_KEPT)(_parse)


def _checked(method: str, path: str, query: str | None, version: str, authority: str | None = None) -> RequestLine:
    if len(method) > MOST_METHOD:
        raise Refused("501 Not Implemented", f"a method of more than {MOST_METHOD} characters")
    if ("/." in path or "%2" in path) and _dots(path):
        # Clients resolve these before they send (RFC 3986, 5.2.4). A proxy could understand them in another way.
        raise bad("a dot segment in the path")
    target = path if query is None else f"{path}?{query}"
    decoded = urllib.parse.unquote(path, "latin-1") if "%" in path else path
    return RequestLine(method, target, decoded, query or "", version, authority)


def _unusual(line: str) -> RequestLine:
    match = _any_line(line)
    if match is None:
        raise bad("malformed request line")
    method, target, major, minor = match.groups()
    if major != "1":
        raise Refused("505 HTTP Version Not Supported", f"HTTP/{major}.{minor}")
    version = "1.0" if minor == "0" else "1.1"
    if method == "CONNECT":
        if not is_authority(target) or not target.rpartition(":")[2].isdecimal():
            raise bad("the target of CONNECT is not an authority")
        raise Refused("501 Not Implemented", "CONNECT: this is no proxy")
    if target == "*" and method == "OPTIONS":
        return RequestLine(method, target, target, "", version, None)
    absolute = _absolute(target)
    if absolute is None or not is_authority(absolute[1]):
        raise bad("malformed target")
    authority, path, query = absolute.groups()
    if not path:
        path = "*" if method == "OPTIONS" and query is None else "/"  # RFC 9110, 4.2.3
    return _checked(method, path, query, version, authority)


def is_authority(text: str) -> bool:
    """Whether it is a host or host:port as in a URL (RFC 3986, 3.2, without user information)."""
    if not _authority(text):
        return False
    host, _, port = text.rpartition(":") if not text.endswith("]") and ":" in text else (text, "", "")
    digits = port.lstrip("0")
    if digits and (len(digits) > 5 or int(digits) > 65_535):
        return False
    if host.startswith("[") and host[1] not in "vV":
        try:
            ipaddress.IPv6Address(host[1:-1])
        except ValueError:
            return False
    return True
