"""The PROXY protocol, versions 1 and 2, as a load balancer sends it before everything else: who the client is.

https://www.haproxy.org/download/2.9/doc/proxy-protocol.txt. Only the bytes of the header are read. A header that is
malformed, too long or of another version raises Malformed; the connection must be closed.
"""

from __future__ import annotations

import ipaddress
import re
import socket
import struct
from typing import Any

from .trust import parse_ip

OFF, AUTO, VERSION_1, VERSION_2 = "off", "auto", "v1", "v2"
MOST_LINE = 107
"""The longest header of version 1, with its CRLF."""
MOST_BINARY = 4096
"""Bytes of addresses and additional values (TLV) in a header of version 2."""
SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
BEGIN = b"PROXY "
SIZES = {0x0: 0, 0x1: 12, 0x2: 36, 0x3: 216}  # by address family: unspecified, IPv4, IPv6, Unix

_PORT = rb"(0|[1-9][0-9]{0,4})"
_ADDRESS = rb"([0-9A-Fa-f:.]+)"
_LINE = re.compile(
    rb"PROXY (?:UNKNOWN(?: [\x20-\x7e]*)?|TCP([46]) %b %b %b %b)\r\n" % (_ADDRESS, _ADDRESS, _PORT, _PORT)
).fullmatch


class Malformed(ValueError):
    """What came is not a header of the expected version."""


def read(sock: Any, versions: str) -> tuple[str, int] | None:
    """The client's (address, port); None if the header says nothing of it (a health check of the balancer itself).

    versions: `v1`, `v2` or `auto` for either. Waits for the bytes. Malformed; EOFError; OSError.
    """
    begin = _exactly(sock, len(SIGNATURE))
    if begin == SIGNATURE and versions != VERSION_1:
        return _binary(sock)
    if begin.startswith(BEGIN) and versions != VERSION_2:
        return _text(begin + _line(sock, MOST_LINE - len(begin)))
    raise Malformed("no PROXY header of the expected version")


def _exactly(sock: Any, size: int) -> bytes:
    data = b""
    while len(data) < size:
        piece = sock.recv(size - len(data))
        if not piece:
            raise EOFError
        data += piece
    return data


def _line(sock: Any, most: int) -> bytes:
    """The rest of a line, and nothing after it."""
    line = b""
    while not line.endswith(b"\n"):
        if len(line) >= most:
            raise Malformed("a PROXY line without an end")
        arrived = sock.recv(most - len(line), socket.MSG_PEEK)
        if not arrived:
            raise EOFError
        line += _exactly(sock, arrived.find(b"\n") + 1 or len(arrived))
    return line


def _text(line: bytes) -> tuple[str, int] | None:
    match = _LINE(line)
    if match is None:
        raise Malformed("a malformed PROXY line")
    family, source, target, source_port, target_port = match.groups()
    if family is None:
        return None
    make = ipaddress.IPv4Address if family == b"4" else ipaddress.IPv6Address
    try:
        _, address = make(target.decode()), parse_ip(str(make(source.decode())))
    except ValueError:
        raise Malformed("a malformed address in a PROXY line") from None
    if max(int(source_port), int(target_port)) > 65_535:
        raise Malformed("a malformed port in a PROXY line")
    return str(address), int(source_port)


def _binary(sock: Any) -> tuple[str, int] | None:
    version_command, family_protocol, size = struct.unpack("!BBH", _exactly(sock, 4))
    if size > MOST_BINARY:
        raise Malformed(f"a PROXY header of {size} bytes")
    data = _exactly(sock, size)
    command, family, protocol = version_command & 15, family_protocol >> 4, family_protocol & 15
    if version_command >> 4 != 2 or command > 1 or family not in SIZES or protocol > 2:
        raise Malformed("a malformed PROXY header")
    if command == 0:  # LOCAL: the balancer's own connection; the rest means nothing
        return None
    if protocol == 2 or size < SIZES[family]:
        raise Malformed("a PROXY header of a datagram, or without its addresses")
    if not family:  # unspecified: the rest means nothing
        return None
    _check_values(data[SIZES[family] :])
    if not protocol or family == 0x3:
        return None
    width = 4 if family == 0x1 else 16
    (port,) = struct.unpack_from("!H", data, 2 * width)
    return str(parse_ip(data[:width])), port


def _check_values(data: bytes) -> None:
    """The additional values are skipped, but each must be whole."""
    while data:
        if len(data) < 3:
            raise Malformed("a PROXY header with a broken value")
        end = 3 + int.from_bytes(data[1:3], "big")
        if end > len(data):
            raise Malformed("a PROXY header with a broken value")
        data = data[end:]
