"""Behind a proxy: whose word about the client counts, and what is refused (RFC 7239, X-Forwarded-*)."""

from __future__ import annotations

import json
import socket
from typing import Any

import pytest

from tests.servers.conftest import Service
from tests.servers.raw import RawConnection, RawWebSocket, frame, secured

PROGRAM = """
    from daebus_runtime import Daebus, DaebusHttp, DaebusWebSocket

    app = Daebus("behind")
    app.attach(DaebusHttp())
    app.attach(DaebusWebSocket())

    def facts(one):
        return {"address": list(one.remote_address), "secure": one.secure, "host": one.headers["Host"]}

    @app.route("/who")
    def who(req):
        assert req.host == req.headers["Host"]
        sent = sorted(name for name in req.headers if name.startswith(("X-Forwarded", "Forwarded")))
        return {**facts(req), "prefix": req.prefix, "path": req.path, "sent": sent}

    @app.socket("who")
    def socket_who(data, client_id):
        websocket = app.websocket
        return {"address": list(websocket.get_client_metadata(client_id)["remote_address"]),
                "secure": websocket.get_client_metadata(client_id)["secure"]}

    app.run()
"""
HTTPS = False  # the scheme is one of the facts that are tested
ENVIRONMENT = {"DAEBUS_FORWARDED_ALLOW": "127.0.0.1, 10.0.0.0/8, fd00::/8,::ffff:192.168.0.0/112"}
TRUSTED, STRANGER = "127.0.0.1", "127.0.0.2"


class From(RawConnection):
    """A connection from one of loopback's addresses."""

    def __init__(self, port: int, source: str = TRUSTED) -> None:
        plain = socket.create_connection(("127.0.0.1", port), timeout=10, source_address=(source, 0))
        self.socket = secured(plain, port)
        self._buffer = b""


def who(service: Service, *fields: str, source: str = TRUSTED) -> Any:
    with From(service.port, source) as connection:
        answer = connection.ask("GET", "/who", *fields)
        assert answer.status == 200, answer
        return answer.json


def client(service: Service, *fields: str) -> str:
    address: str = who(service, *fields)["address"][0]
    return address


XFF, XFP, XFH, XFX = "X-Forwarded-For: ", "X-Forwarded-Proto: ", "X-Forwarded-Host: ", "X-Forwarded-Prefix: "


def test_a_trusted_proxy_without_a_word_is_the_client(service: Service) -> None:
    with From(service.port) as connection:
        seen = connection.ask("GET", "/who").json
        assert seen["address"] == list(connection.socket.getsockname())
    assert (seen["secure"], seen["host"], seen["prefix"]) == (False, "localhost", "")


FROM_THE_RIGHT = [
    ("203.0.113.9", "203.0.113.9"),
    ("203.0.113.9, 10.1.2.3", "203.0.113.9"),
    ("6.6.6.6, 203.0.113.9, 10.1.2.3, 10.9.9.9", "203.0.113.9"),
    ("10.0.0.1, 10.0.0.2", "10.0.0.1"),  # every hop is ours: the furthest
    ("6.6.6.6, 203.0.113.9", "203.0.113.9"),
    ("127.0.0.1, 203.0.113.9", "203.0.113.9"),
    ("203.0.113.9:4711", "203.0.113.9"),
    ("2001:db8::9", "2001:db8::9"),
    ("[2001:DB8:0::9]:80", "2001:db8::9"),
    ("2001:db8::9, fd00::1", "2001:db8::9"),
    ("::ffff:203.0.113.9, ::ffff:10.1.1.1", "203.0.113.9"),
    ("203.0.113.9, 192.168.7.7", "203.0.113.9"),  # trusted as ::ffff:192.168.0.0/112
    ("203.0.113.9, unknown", ""),
    ("unknown, 203.0.113.9", "203.0.113.9"),
    ("203.0.113.9,\t10.1.2.3", "203.0.113.9"),
]


@pytest.mark.parametrize(("chain", "address"), FROM_THE_RIGHT)
def test_the_client_is_the_first_address_from_the_right_that_is_not_ours(
    service: Service, chain: str, address: str
) -> None:
    assert client(service, XFF + chain) == address


def test_a_field_in_several_lines_is_one_list(service: Service) -> None:
    assert client(service, XFF + "6.6.6.6", XFF + "203.0.113.9", XFF + "10.1.1.1") == "203.0.113.9"


FORWARDED = [
    ("for=203.0.113.9", "203.0.113.9", False, "localhost"),
    ('For="[2001:db8::9]:4711";Proto=HTTPS;Host=shop.example', "2001:db8::9", True, "shop.example"),
    ("for=6.6.6.6;host=evil, for=203.0.113.9;proto=https;host=a.example, for=10.1.1.1;proto=http;host=b",
     "203.0.113.9", True, "a.example"),
    ("for=203.0.113.9;by=10.1.1.1; proto=https", "203.0.113.9", True, "localhost"),
    ("for=203.0.113.9;proto=https, for=10.1.1.1;host=b.example", "203.0.113.9", True, "b.example"),
    ("for=unknown;proto=https", "", True, "localhost"),
    ("for=_hidden", "", False, "localhost"),
    ('for="_hidden:_port"', "", False, "localhost"),
    ("proto=https", "127.0.0.1", True, "localhost"),
    ('for="203.0.113.9:80";secret="a,b;c\\"d"', "203.0.113.9", False, "localhost"),
    ("for=203.0.113.9;extension=1", "203.0.113.9", False, "localhost"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "address", "secure", "host"), FORWARDED)
def test_forwarded(service: Service, text: str, address: str, secure: bool, host: str) -> None:
    seen = who(service, "Forwarded: " + text)
    assert (seen["address"][0], seen["secure"], seen["host"]) == (address, secure, host)


def test_the_port_of_the_client(service: Service) -> None:
    assert who(service, XFF + "203.0.113.9:4711")["address"] == ["203.0.113.9", 4711]
    assert who(service, XFF + "203.0.113.9")["address"] == ["203.0.113.9", 0]
    assert who(service, 'Forwarded: for="203.0.113.9:4711"')["address"] == ["203.0.113.9", 4711]


@pytest.mark.parametrize(
    ("proto", "secure"),
    [("https", True), ("http", False), ("HTTPS", True), ("wss", True), ("ws", False), ("https, https", True)],
)
def test_the_scheme(service: Service, proto: str, secure: bool) -> None:
    assert who(service, XFP + proto)["secure"] is secure


@pytest.mark.parametrize("host", ["shop.example", "shop.example:8443", "[2001:db8::1]:443", "a.example, a.example"])
def test_the_host(service: Service, host: str) -> None:
    assert who(service, XFH + host)["host"] == host.partition(",")[0]


@pytest.mark.parametrize(
    ("sent", "prefix"),
    [("/shop", "/shop"), ("/shop/", "/shop"), ("/", ""), ("/a/b%20c", "/a/b c"), ("/%C3%BC", "/ü")],
)
def test_the_prefix(service: Service, sent: str, prefix: str) -> None:
    seen = who(service, XFX + sent)
    assert (seen["prefix"], seen["path"]) == (prefix, "/who")


def test_both_kinds_may_say_the_same(service: Service) -> None:
    seen = who(
        service,
        "Forwarded: for=203.0.113.9;proto=https;host=A.example",
        *(XFF + "203.0.113.9", XFP + "https", XFH + "a.example", XFX + "/shop"),
    )
    assert (seen["address"][0], seen["secure"], seen["prefix"]) == ("203.0.113.9", True, "/shop")


def test_both_kinds_may_complete_each_other(service: Service) -> None:
    seen = who(service, "Forwarded: for=203.0.113.9", XFP + "https", XFH + "a.example")
    assert (seen["address"][0], seen["secure"], seen["host"]) == ("203.0.113.9", True, "a.example")


BAD_FOR = (
    *("", "nonsense", "203.0.113.9,", ",203.0.113.9", "203.0.113.999", "203.0.113.9:99999", "[2001:db8::9", "1.2.3"),
    *("2001:db8::g", "fe80::1%eth0", "a, 203.0.113.9", "0x7f.1", "203.0.113.9 10.1.1.1", "010.0.0.1", "203.0.113.9:"),
    *("[]", "<a>", '"203.0.113.9"', ",".join(["10.0.0.1"] * 101)),
)
BAD_PROTO = ("", "ftp", "https://", "https, http", "http,https", "on", "https;")
BAD_HOST = ("a b", "a/b", "a@b", "a:99999", "[::g]", "a.example, b.example", "<a>", "a#")
BAD_PREFIX = ("", "shop", "//evil.example", "/a//b", "/../a", "/%2e%2e/a", "/a?b", "/a b", "/%zz", "/%0d", "/a, /b")
BAD_FORWARDED = (
    *("", ",", "for", "for=", "=a", "for=203.0.113.999", "for=a", "for=2001:db8::9", "for=[2001:db8::9]", "proto=ftp"),
    *('for="203.0.113.9', "for=1.1.1.1;for=2.2.2.2", "host=a b", 'host="a b"', "for=203.0.113.9,", "for=a,b"),
    *("for=203.0.113.9 proto=https", "proto=https;proto=http", "for=203.0.113.9;;,", ",for=203.0.113.9"),
    ",".join(["for=10.0.0.1"] * 101),
)
MALFORMED = [
    *([XFF + text] for text in BAD_FOR),
    *([XFP + text] for text in BAD_PROTO),
    *([XFH + text] for text in BAD_HOST),
    *([XFX + text] for text in BAD_PREFIX),
    *(["Forwarded: " + text] for text in BAD_FORWARDED),
    [XFP + "https", XFP + "http"],
    [XFH + "a.example", XFH + "b.example"],
    [XFX + "/a", XFX + "/b"],
    ["Forwarded: for=203.0.113.9", XFF + "203.0.113.8"],
    ["Forwarded: for=unknown", XFF + "203.0.113.8"],
    ["Forwarded: for=203.0.113.9;proto=http", XFF + "203.0.113.9", XFP + "https"],
    ["Forwarded: host=a.example", XFH + "b.example"],
]


@pytest.mark.parametrize("fields", MALFORMED)
def test_what_is_malformed_or_contradicts_itself_is_refused(service: Service, fields: list[str]) -> None:
    with From(service.port) as connection:
        answer = connection.ask("GET", "/who", *fields)
        assert (answer.status, answer.headers["connection"]) == (400, "close")
        assert connection.ended


@pytest.mark.parametrize("fields", [*MALFORMED, [XFF + "203.0.113.9", XFP + "https", XFH + "evil", XFX + "/x"]])
def test_a_strangers_word_counts_for_nothing_and_is_not_shown(service: Service, fields: list[str]) -> None:
    seen = who(service, *fields, source=STRANGER)
    assert seen["address"][0] == STRANGER
    assert (seen["secure"], seen["host"], seen["prefix"], seen["sent"]) == (False, "localhost", "", [])


def test_each_request_of_a_connection_has_its_own_client(service: Service) -> None:
    with From(service.port) as connection:
        for address in ("203.0.113.1", "203.0.113.2"):
            assert connection.ask("GET", "/who", XFF + address).json["address"][0] == address
        assert connection.ask("GET", "/who").json["address"][0] == TRUSTED


@pytest.mark.parametrize(("source", "address", "secure"), [(TRUSTED, "203.0.113.9", True), (STRANGER, STRANGER, False)])
def test_websockets_too(service: Service, source: str, address: str, secure: bool) -> None:
    socket_ = RawWebSocket.__new__(RawWebSocket)
    From.__init__(socket_, service.port, source)  # type: ignore[arg-type]
    with socket_:
        assert socket_.handshake("/ws", XFF + "203.0.113.9", XFP + "https").status == 101
        socket_.send(frame(1, json.dumps({"type": "who"}).encode()))
        answer = socket_.message()["data"]
        assert (answer["address"][0], answer["secure"]) == (address, secure)


def test_a_handshake_that_contradicts_itself_is_refused(service: Service) -> None:
    socket_ = RawWebSocket.__new__(RawWebSocket)
    From.__init__(socket_, service.port)  # type: ignore[arg-type]
    with socket_:
        assert socket_.handshake("/ws", XFP + "https, http").status == 400
