"""The PROXY protocol: what a load balancer says before HTTP, byte by byte."""

from __future__ import annotations

import ipaddress
import socket
import struct
import time
from collections.abc import Iterator
from typing import Any

import pytest
from daebus_runtime.servers.http import proxyprotocol

from tests.servers.conftest import Service
from tests.servers.test_http_proxies import STRANGER, TRUSTED, From
from tests.support.ports import accepts

PROGRAM = """
    from daebus_runtime import Daebus, DaebusHttp
    from daebus_runtime.servers.http import clock

    clock.SECONDS.update(new=1.0)
    app = Daebus("balanced")
    app.attach(DaebusHttp())

    @app.route("/who")
    def who(req):
        return list(req.remote_address)

    app.run()
"""
HTTPS = False  # test_tls.py has both together
ENVIRONMENT = {"DAEBUS_FORWARDED_ALLOW": "127.0.0.1,10.0.0.0/8", "DAEBUS_PROXY_PROTOCOL": "auto"}
GET = b"GET /who HTTP/1.1\r\nHost: a\r\n\r\n"
LOCAL, PROXY = 0, 1
V4, V6, UNIX, UNSPECIFIED = 0x11, 0x21, 0x31, 0x00


def line(family: str = "TCP4", source: str = "203.0.113.9", target: str = "10.0.0.1", ports: str = "4711 80") -> bytes:
    return f"PROXY {family} {source} {target} {ports}\r\n".encode()


def binary(
    family: int = V4, data: bytes | None = None, command: int = PROXY, version: int = 2, size: int | None = None
) -> bytes:
    if data is None:
        wide = family == V6
        source, target = ("2001:db8::9", "fd00::1") if wide else ("203.0.113.9", "10.0.0.1")
        data = b"".join(ipaddress.ip_address(one).packed for one in (source, target)) + struct.pack("!HH", 4711, 80)
    head = proxyprotocol.SIGNATURE + bytes((version << 4 | command, family))
    return head + struct.pack("!H", len(data) if size is None else size) + data


def tlv(kind: int, value: bytes) -> bytes:
    return bytes((kind,)) + struct.pack("!H", len(value)) + value


IPV4 = binary()[16:]
GOOD: list[tuple[bytes, str | None, int]] = [
    (line(), "203.0.113.9", 4711),
    (line("TCP6", "2001:db8::9", "fd00::1"), "2001:db8::9", 4711),
    (line("TCP6", "::ffff:203.0.113.9", "fd00::1"), "203.0.113.9", 4711),
    (b"PROXY UNKNOWN\r\n", None, 0),
    (b"PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n", None, 0),
    (binary(), "203.0.113.9", 4711),
    (binary(V6), "2001:db8::9", 4711),
    (binary(command=LOCAL), None, 0),
    (binary(UNSPECIFIED, b"", command=LOCAL), None, 0),
    (binary(UNSPECIFIED, b"anything"), None, 0),
    (binary(UNIX, b"/a".ljust(108, b"\0") + b"/b".ljust(108, b"\0")), None, 0),
    (binary(V4, IPV4 + tlv(3, b"crc.") + tlv(4, b"") + tlv(0xE0, b"x" * 3000)), "203.0.113.9", 4711),
]
BAD = [
    *(b"PROXY\r\n", b"PROXY \r\n        ", b"proxy TCP4 1.1.1.1 2.2.2.2 1 2\r\n", line("TCP5")),
    line("TCP4", "2001:db8::9"),
    *(line("TCP6", "1.1.1.1"), line(target="x"), line(ports="4711"), line(ports="4711 65536"), line(ports="0 01")),
    *(line(ports="-1 80"), line(ports="4711 80 1"), line(source="203.0.113.999"), line(source="010.0.0.1")),
    *(line().replace(b"\r\n", b"\n"), line().replace(b" ", b"  "), line().replace(b"\r\n", b"\x00\r\n")),
    *(b"PROXY UNKNOWN " + b"x" * 200 + b"\r\n", b"PROXY TCP4 " + b"1" * 500, b"PROXY UNKNOWNS\r\n"),
    *(binary(version=1), binary(version=3), binary(command=2), binary(0x41), binary(0x13), binary(0x12)),
    *(binary(V4, IPV4[:-1]), binary(V6, IPV4), binary(UNIX, b"x" * 215), binary(V4, IPV4 + b"\x03")),
    *(binary(V4, IPV4 + b"\x03\x00\x05abcd"), binary(size=4097), binary(size=65_535), binary(V4, b"")),
    *(GET, b"\x16\x03\x01" + b"\0" * 20, b"\r\n\r\n\x00\r\nQUIT\r" + b"\0" * 16),
]  # fmt: skip


def ask(service: Service, sent: bytes, source: str = TRUSTED) -> Any:
    with From(service.port, source) as connection:
        connection.send(sent)
        return connection.answer().json


@pytest.mark.parametrize(("header", "address", "port"), GOOD)
def test_the_client_is_the_one_in_the_header(service: Service, header: bytes, address: str | None, port: int) -> None:
    seen = ask(service, header + GET)
    assert seen == [address, port] if address is not None else seen[0] == TRUSTED


@pytest.mark.parametrize("header", [GOOD[0][0], GOOD[5][0]])
def test_a_header_may_arrive_in_pieces(service: Service, header: bytes) -> None:
    with From(service.port) as connection:
        for byte in header + GET:
            connection.send(bytes((byte,)))
            time.sleep(0.002)
        assert connection.answer().json == ["203.0.113.9", 4711]


@pytest.mark.parametrize("header", BAD)
def test_a_malformed_header_ends_the_connection_without_an_answer(service: Service, header: bytes) -> None:
    with From(service.port) as connection:
        connection.send(header + GET)
        assert connection.ended
    assert "Traceback" not in service.process.output


@pytest.mark.alone
@pytest.mark.parametrize("header", [b"", line()[:20], binary()[:20], b"P"])
def test_half_a_header_has_a_time_limit(service: Service, header: bytes) -> None:
    with From(service.port) as connection:
        begun = time.monotonic()
        connection.send(header)
        assert connection.ended
        assert time.monotonic() - begun < 3.5


def test_a_stranger_needs_no_header_and_may_send_none(service: Service) -> None:
    assert ask(service, GET, STRANGER)[0] == STRANGER
    for header in (line(), binary()):
        with From(service.port, STRANGER) as connection:
            connection.send(header + GET)
            assert b"203.0.113.9" not in (answer := connection.wait_end())
            assert answer.startswith((b"HTTP/1.1 400", b"HTTP/1.1 505"))


def test_the_forwarded_fields_count_if_the_address_in_the_header_is_trusted(service: Service) -> None:
    request = GET.replace(b"Host: a\r\n", b"Host: a\r\nX-Forwarded-For: 198.51.100.7\r\n")
    assert ask(service, line(source="10.5.5.5") + request) == ["198.51.100.7", 0]
    assert ask(service, line() + request) == ["203.0.113.9", 4711]


def test_the_next_request_has_no_header(service: Service) -> None:
    with From(service.port) as connection:
        connection.send(line() + GET + GET)
        assert [connection.answer().json for _ in range(2)] == [["203.0.113.9", 4711]] * 2
        connection.send(line() + GET)
        assert connection.answer().status == 400


# --- the versions -----------------------------------------------------------------------------------------------------
@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


@pytest.mark.parametrize(("versions", "header"), [("v1", binary()), ("v2", line())])
def test_another_version_is_refused(pair: tuple[socket.socket, socket.socket], versions: str, header: bytes) -> None:
    pair[1].sendall(header)
    with pytest.raises(proxyprotocol.Malformed):
        proxyprotocol.read(pair[0], versions)


@pytest.mark.parametrize(
    ("versions", "header"), [("v1", line()), ("v2", binary()), ("auto", line()), ("auto", binary())]
)
def test_only_the_header_is_read(pair: tuple[socket.socket, socket.socket], versions: str, header: bytes) -> None:
    pair[1].sendall(header + b"PROXY after\r\n")
    assert proxyprotocol.read(pair[0], versions) == ("203.0.113.9", 4711)
    assert pair[0].recv(100) == b"PROXY after\r\n"


def test_nobody_may_send_it_without_trust(start_process: Any, free_port: int) -> None:
    process = start_process(PROGRAM, env={"DAEBUS_HTTP_PORT": str(free_port), "DAEBUS_PROXY_PROTOCOL": "v1"})
    assert process.wait() != 0
    assert "name them in DAEBUS_FORWARDED_ALLOW" in process.output
    assert not accepts(free_port)
