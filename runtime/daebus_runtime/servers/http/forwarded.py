"""What a trusted proxy says about the client: `Forwarded` (RFC 7239), or `X-Forwarded-For`, -Proto, -Host, -Prefix.

Each proxy adds its peer at the right end. So the search for the client begins there, and goes on to the left as long as
the address is that of a trusted proxy. What is further left was written by the client, who may write anything.
Statements that are malformed, or that contradict each other, are refused with 400: another hop may believe the other.
"""

from __future__ import annotations

import dataclasses
import re
import urllib.parse
from typing import Any

from .target import bad, is_authority
from .trust import Trust, parse_ip

FIELDS = ("forwarded", "x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "x-forwarded-prefix")
MOST_HOPS = 100
MOST_VALUE = 1024
"""Characters of a scheme, host or prefix."""
SCHEMES = {"http": "http", "https": "https", "ws": "http", "wss": "https"}

_TOKEN = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_QUOTED = r'"(?:[\t \x21\x23-\x5b\x5d-\x7e\x80-\xff]|\\[\t \x21-\x7e\x80-\xff])*"'
_PAIR = re.compile(rf"[ \t]*(?:({_TOKEN})=({_TOKEN}|{_QUOTED})[ \t]*)?([;,]|\Z)").match
_HIDDEN = r"unknown|_[0-9A-Za-z._\-]+"
_PORT = r"(?::([0-9]{1,5}|_[0-9A-Za-z._\-]+))?"
_NODE = re.compile(rf"(?:([0-9.]+)|\[([0-9A-Fa-f:.]+)\]|({_HIDDEN})){_PORT}", re.IGNORECASE).fullmatch
_SHOWN = re.compile(r"[^\x00-\x1f\x7f]*").fullmatch
_PREFIX = re.compile(r"(?:/(?:[A-Za-z0-9\-._~!$&'()*+,;=:@]|%[0-9A-Fa-f]{2})+)+/?|/").fullmatch


@dataclasses.dataclass(frozen=True)
class Origin:
    """A request as the outermost trusted proxy saw it. address: of the client, empty if the proxy hides it; port: 0 if
    unknown; scheme, host: None if nobody said it; prefix: of the path that the proxy has removed, percent-decoded."""

    address: str
    port: int
    scheme: str | None = None
    host: str | None = None
    prefix: str = ""

    def put(self, environ: dict[str, Any]) -> None:
        """Write it into a WSGI environ."""
        environ["REMOTE_ADDR"], environ["REMOTE_PORT"] = self.address, str(self.port or "")
        if self.scheme is not None:
            environ["wsgi.url_scheme"] = self.scheme
        if self.host is not None:
            environ["HTTP_HOST"] = self.host
        environ["SCRIPT_NAME"] = self.prefix


def read(trust: Trust, fields: dict[str, str], peer: Any) -> Origin | None:
    """The origin of a request with these fields (names in lower case), which `peer` has sent: (host, port), or anything
    else on a Unix socket. None if the peer is the client; then the fields are removed unless it is trusted. Refused."""
    address, port = (str(peer[0]), int(peer[1])) if isinstance(peer, tuple) else ("", 0)
    if not trust.trusts(address):
        for name in FIELDS:
            fields.pop(name, None)
        return None
    if not any(name in fields for name in FIELDS):
        return None
    standard = _standard(trust, fields["forwarded"]) if "forwarded" in fields else Claim()
    claim = standard.agreed(_usual(trust, fields))
    client, client_port = (address, port) if claim.client is None else claim.client
    return Origin(client, client_port, claim.scheme, claim.host, claim.prefix)


@dataclasses.dataclass(frozen=True)
class Claim:
    """What one kind of fields says; None where it says nothing. client: (address, port), as in Origin."""

    client: tuple[str, int] | None = None
    scheme: str | None = None
    host: str | None = None
    prefix: str = ""

    def agreed(self, other: Claim) -> Claim:
        """Both together. Refused if they contradict each other."""
        pairs = {
            "client": (self.client and self.client[0], other.client and other.client[0]),
            "scheme": (self.scheme, other.scheme),
            "host": (self.host and self.host.lower(), other.host and other.host.lower()),
        }
        for name, (mine, theirs) in pairs.items():
            if mine is not None and theirs is not None and mine != theirs:
                raise bad(f"Forwarded and X-Forwarded-* contradict each other: {name}")
        client = self.client if other.client is None or (self.client and self.client[1]) else other.client
        return Claim(client, self.scheme or other.scheme, self.host or other.host, other.prefix)


# --- X-Forwarded-* ----------------------------------------------------------------------------------------------------
def _usual(trust: Trust, fields: dict[str, str]) -> Claim:
    client = None
    if "x-forwarded-for" in fields:
        for client in reversed([_node(part) for part in _parts(fields["x-forwarded-for"])]):
            if not client[0] or not trust.trusts(client[0]):
                break
    return Claim(client, *_scheme_host_prefix(fields))


def _scheme_host_prefix(fields: dict[str, str]) -> tuple[str | None, str | None, str]:
    scheme, host, prefix = (_single(fields.get(name), name) for name in FIELDS[2:])
    return (
        None if scheme is None else _scheme(scheme),
        None if host is None else _host(host),
        "" if prefix is None else _prefix(prefix),
    )


def _parts(text: str) -> list[str]:
    parts = [part.strip(" \t") for part in text.split(",")]
    if len(parts) > MOST_HOPS:
        raise bad("more than 100 hops")
    return parts


def _single(text: str | None, name: str) -> str | None:
    """The one value of a field; several hops may have written the same."""
    if text is None:
        return None
    values = set(_parts(text))
    value = values.pop()
    if values or len(value) > MOST_VALUE:
        raise bad(f"differing values of {name}, or a very long one")
    return value


# --- Forwarded --------------------------------------------------------------------------------------------------------
def _standard(trust: Trust, text: str) -> Claim:
    client = scheme = host = None
    for element in reversed(_elements(text)):
        scheme, host = element.get("proto", scheme), element.get("host", host)
        client = element.get("for", client)
        address = element["for"][0] if "for" in element else ""
        if not address or not trust.trusts(address):
            break
    return Claim(client, scheme, host)


def _elements(text: str) -> list[dict[str, Any]]:
    """The elements of a `Forwarded` field, left to right, each with its checked parameters."""
    elements: list[dict[str, Any]] = [{}]
    place = 0
    while True:
        match = _PAIR(text, place)
        if match is None:
            raise bad("malformed Forwarded")
        name, value, end = match.groups()
        if name is not None:
            _add(elements[-1], name.lower(), _unquoted(value))
        if not end:
            break
        if end == ",":
            elements.append({})
        if len(elements) > MOST_HOPS:
            raise bad("more than 100 hops")
        place = match.end()
    if not all(elements):
        raise bad("an empty element in Forwarded")
    return elements


def _add(element: dict[str, Any], name: str, value: str) -> None:
    if name in element:
        raise bad(f"a repeated parameter of Forwarded: {name}")
    check = {"for": _node, "by": _node, "proto": _scheme, "host": _host}.get(name, str)
    element[name] = check(value)


def _unquoted(value: str) -> str:
    return re.sub(r"\\(.)", r"\1", value[1:-1]) if value.startswith('"') else value


# --- values -----------------------------------------------------------------------------------------------------------
def _node(text: str) -> tuple[str, int]:
    """(address, port) of a hop: an empty address if it is hidden, 0 without a port."""
    match = _NODE(text)
    try:
        if match is None:
            return str(parse_ip(text.replace("%", " "))), 0  # IPv6 without brackets, and without a zone
        four, six, hidden, port = match.groups()
        number = int(port) if port and port.isdecimal() else 0
        if number > 65_535:
            raise ValueError
        return "" if hidden else str(parse_ip(four or six)), number
    except ValueError:
        raise bad("malformed address of a hop") from None


def _scheme(text: str) -> str:
    scheme = SCHEMES.get(text.lower())
    if scheme is None:
        raise bad("an unknown scheme of a hop")
    return scheme


def _host(text: str) -> str:
    if len(text) > MOST_VALUE or not is_authority(text):
        raise bad("malformed host of a hop")
    return text


def _prefix(text: str) -> str:
    prefix = urllib.parse.unquote(text.rstrip("/"), "latin-1")
    if not _PREFIX(text) or not {".", ".."}.isdisjoint(prefix.split("/")) or not _SHOWN(prefix):
        raise bad("malformed X-Forwarded-Prefix")
    return prefix
