"""Every kind of response shows correctly where it ends and whether the connection stays open."""

from __future__ import annotations

import pytest

from tests.servers.conftest import Service
from tests.servers.raw import RawConnection, handshake_fields
from tests.support.ports import free_port

WEBSOCKET_PORT = free_port()
HTTPS = True
PROGRAM = """
    from daebus_runtime import Daebus, DaebusHttp, DaebusWebSocket, request

    app = Daebus("framed")
    app.attach(DaebusHttp())
    app.attach(DaebusWebSocket())

    @app.route("/got")
    def got(req):
        return {"got": True}

    @app.route("/fails")
    def fails(req):
        raise ValueError("on purpose")

    @app.route("/page")
    def page(req):
        return "x" * 100_000, 200, {"Content-Type": "text/plain"}

    @app.route("/nothing")
    def nothing(req):
        return None, 204

    @app.socket_connect()
    def refuse(data, client_id):
        return "no" not in request.query

    app.run()
"""
ENVIRONMENT = {"DAEBUS_WEBSOCKET_PORT": str(WEBSOCKET_PORT), "DAEBUS_HTTP_BODY_LIMIT": "300000"}
HANDSHAKE = tuple(handshake_fields())
WRONG_VERSION = tuple(handshake_fields(version="8"))
WRONG_KEY = tuple(handshake_fields(key="x"))


def port_of(service: Service, websocket: bool) -> int:
    return WEBSOCKET_PORT if websocket else service.port


ANSWERS = [
    (False, "/got", (), 200),
    (False, "/page", (), 200),
    (False, "/nothing", (), 204),
    (False, "/nowhere", (), 404),
    (False, "/%ff", (), 400),
    (False, "/fails", (), 500),
    (True, "/got", (), 426),
    (True, "/got", WRONG_VERSION, 426),
    (True, "/got", WRONG_KEY, 400),
    (True, "/got?no=1", HANDSHAKE, 403),
    (True, "/got?a=%ff", HANDSHAKE, 400),
    (False, "/got", WRONG_VERSION, 426),
    (False, "/got?no=1", HANDSHAKE, 403),
]


@pytest.mark.parametrize("version", ["HTTP/1.1", "HTTP/1.0"])
@pytest.mark.parametrize(("websocket", "target", "fields", "status"), ANSWERS)
def test_head_has_no_body_and_the_next_response_follows_at_once(
    service: Service, websocket: bool, target: str, fields: tuple[str, ...], status: int, version: str
) -> None:
    keep = ["Connection: keep-alive", *fields] if version == "HTTP/1.0" and not fields else fields
    with RawConnection(port_of(service, websocket)) as connection:
        head = connection.ask("HEAD", target, *keep, version=version)
        if fields:  # a WebSocket handshake can only be a GET
            assert (head.status, head.headers["allow"]) == (405, "GET")
        else:
            assert head.status == status
        if fields and version == "HTTP/1.0":
            assert connection.ended
            return
        after = connection.ask("GET", target, *keep, version=version)
        assert after.status == status
        if not fields and status not in (204, 500):
            assert head.headers["content-length"] == str(len(after.body)) == after.headers["content-length"]
            assert head.headers["content-type"] == after.headers["content-type"]


LARGE = 200_000
UNREAD = [
    ("POST", False, "/nowhere", 404),
    ("PUT", False, "/got", 405),
    ("DELETE", False, "/got", 405),
    ("POST", True, "/got", 426),
    ("HEAD", False, "/nowhere", 404),
    ("PROPFIND", False, "/nowhere", 404),
    ("POST", False, "/%ff", 400),
]


@pytest.mark.parametrize("version", ["HTTP/1.1", "HTTP/1.0"])
@pytest.mark.parametrize("expect", [(), ("Expect: 100-continue",)], ids=["at once", "with leave"])
@pytest.mark.parametrize(("method", "websocket", "target", "status"), UNREAD)
def test_a_response_that_leaves_a_large_body_unread_closes_the_connection(
    service: Service, method: str, websocket: bool, target: str, status: int, expect: tuple[str, ...], version: str
) -> None:
    keep = ["Connection: keep-alive"] if version == "HTTP/1.0" else []
    with RawConnection(port_of(service, websocket)) as connection:
        connection.request(method, target, f"Content-Length: {LARGE}", *expect, *keep, version=version)
        if not expect:
            connection.send(b"x" * 1000)
        answer = connection.answer(head=method == "HEAD")
        assert (answer.status, answer.headers["connection"]) == (status, "close")
        connection.end_sending()
        assert connection.ended


@pytest.mark.parametrize(("method", "websocket", "target", "status"), UNREAD)
def test_an_unread_chunked_body_ends_the_connection_too(
    service: Service, method: str, websocket: bool, target: str, status: int
) -> None:
    with RawConnection(port_of(service, websocket)) as connection:
        connection.request(method, target, "Transfer-Encoding: chunked", body=b"5\r\n12345\r\n")
        answer = connection.answer(head=method == "HEAD")
        assert (answer.status, answer.headers["connection"]) == (status, "close")
        connection.end_sending()
        assert connection.ended


@pytest.mark.parametrize(("method", "websocket", "target", "status"), UNREAD)
def test_a_small_body_is_skipped_and_the_connection_goes_on(
    service: Service, method: str, websocket: bool, target: str, status: int
) -> None:
    with RawConnection(port_of(service, websocket)) as connection:
        for _ in range(2):
            connection.request(method, target, "Content-Length: 60000", body=b"x" * 60_000)
            answer = connection.answer(head=method == "HEAD")
            assert answer.status == status
            assert "connection" not in answer.headers or "close" not in answer.headers["connection"]
        assert connection.ask("GET", "/got").status == (426 if websocket else 200)


def test_a_refused_handshake_with_a_body_does_not_break_the_next_response(service: Service) -> None:
    with RawConnection(WEBSOCKET_PORT) as connection:
        connection.request("GET", "/got", *HANDSHAKE, "Content-Length: 5", body=b"12345")
        assert connection.answer().status == 400
        connection.request("GET", "/got?no=1", *HANDSHAKE)
        assert connection.answer().status == 403
        assert connection.ask("GET", "/got", *handshake_fields()).status == 101
