"""RFC 6455 byte by byte: what a client may not send, with which close code it is closed, and what it costs us."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from tests.servers.conftest import Service
from tests.servers.raw import BINARY, CLOSE, PING, PONG, TEXT, RawConnection, RawWebSocket, close_frame, frame
from tests.servers.raw import handshake_fields as fields
from tests.support.waiting import wait_until

HTTPS = True
PROGRAM = """
    from daebus_runtime import Daebus, DaebusHttp, DaebusWebSocket, request

    app = Daebus("frames")
    app.attach(DaebusHttp())
    websocket = DaebusWebSocket()
    app.attach(websocket)

    @app.socket("echo")
    def echo(data, client_id):
        return data

    @app.socket("size")
    def size(data, client_id):
        return len(data)

    @app.socket("large")
    def large(data, client_id):
        return "x" * data

    @app.socket("leave")
    def leave(data, client_id):
        websocket.disconnect_client(client_id, *data)

    @app.socket("who")
    def who(data, client_id):
        about = websocket.get_client_metadata(client_id)
        return [request.headers["x-user"], request.cookies, request.query, about["path"], about["remote_address"]]

    @app.socket_connect()
    def connect(data, client_id):
        assert request.query.get("token") != "broken", "the password is 1234"
        return request.query.get("token") != "wrong"

    @app.route("/clients")
    def clients(req):
        return websocket.get_client_count()

    app.run()
"""
ENVIRONMENT = {"DAEBUS_WEBSOCKET_MESSAGE_LIMIT": "100000"}


def message(kind: str, data: object) -> bytes:
    return json.dumps({"type": kind, "data": data}, ensure_ascii=False).encode()


def works(service: Service) -> bool:
    with RawWebSocket(service.port) as client:
        client.send(frame(TEXT, message("echo", "still here")))
        return bool(client.message()["data"] == "still here")


def test_text_and_binary_are_both_json_and_the_answer_is_text(service: Service) -> None:
    with RawWebSocket(service.port) as client:
        for opcode in (TEXT, BINARY):
            client.send(frame(opcode, message("echo", {"ä": 1})))
            assert client.message() == {"type": "response", "data": {"ä": 1}}


@pytest.mark.parametrize("size", [0, 1, 124, 125, 126, 127, 399, 400, 401, 65_500, 65_536, 99_000])
def test_every_length_is_masked_and_framed_right(service: Service, size: int) -> None:
    text = os.urandom(size)[: size // 2].hex() + "x" * (size % 2)
    with RawWebSocket(service.port) as client:
        client.send(frame(TEXT, message("echo", text)))
        assert client.message()["data"] == text


def test_a_text_may_be_split_inside_a_character_with_pings_between(service: Service) -> None:
    data = message("echo", "grüße 🌍")
    with RawWebSocket(service.port) as client:
        for i in range(len(data)):
            client.send(frame(0 if i else TEXT, data[i : i + 1], fin=i == len(data) - 1))
            client.send(frame(PING, b"%d" % i) + frame(PONG, b"unasked"))
        for i in range(len(data) - 1):
            assert client.frame() == (PONG, b"%d" % i)
        # The last ping followed the end of the message, so its pong may come before or after the answer.
        rest = [client.frame(), client.frame()]
        assert sorted(opcode for opcode, _ in rest) == [TEXT, PONG]
        assert json.loads(min(rest)[1])["data"] == "grüße 🌍"


def test_a_binary_message_may_come_in_pieces_too_some_of_them_empty(service: Service) -> None:
    data = message("size", "x" * 5000)
    with RawWebSocket(service.port) as client:
        client.send(frame(BINARY, data[:10], fin=False) + frame(0, b"", fin=False) * 1000 + frame(0, data[10:]))
        assert client.message()["data"] == 5000


def test_frames_may_arrive_byte_by_byte(service: Service) -> None:
    with RawWebSocket(service.port) as client:
        for byte in frame(TEXT, message("echo", "slow")):
            client.send(bytes((byte,)))
        assert client.message()["data"] == "slow"


VIOLATIONS = {
    "unmasked": (frame(TEXT, b"{}", masked=False), 1002),
    "unmasked close": (frame(CLOSE, b"", masked=False), 1002),
    "reserved bit 1": (frame(TEXT, b"{}", reserved=4), 1002),
    "reserved bit 3": (frame(TEXT, b"{}", reserved=1), 1002),
    "reserved opcode": (frame(3, b"{}"), 1002),
    "reserved control opcode": (frame(11, b"{}"), 1002),
    "continuation of nothing": (frame(0, b"{}"), 1002),
    "message inside a message": (frame(TEXT, b"{", fin=False) + frame(TEXT, b"}"), 1002),
    "fragmented ping": (frame(PING, b"", fin=False), 1002),
    "long ping": (frame(PING, b"x" * 126), 1002),
    "16-bit length for a short frame": (frame(TEXT, b"{}", length_bytes=2), 1002),
    "64-bit length for a short frame": (frame(TEXT, b"x" * 200, length_bytes=8), 1002),
    "length with the highest bit": (frame(TEXT, b"", length_bytes=8, announced=1 << 63), 1002),
    "close with one byte": (frame(CLOSE, b"\x03"), 1002),
    "text that is not UTF-8": (frame(TEXT, b'{"a": "\xff"}'), 1007),
    "text that ends inside a character": (frame(TEXT, "ä".encode()[:1]), 1007),
    "fragment that cannot become UTF-8": (frame(TEXT, b"\xc3(", fin=False), 1007),
    "surrogate": (frame(TEXT, b"\xed\xa0\x80"), 1007),
    "close reason that is not UTF-8": (close_frame(1000, b"\xff"), 1007),
    "message above the limit": (frame(TEXT, b"x" * 100_001), 1009),
    "frame of 8 GiB announced": (frame(BINARY, b"", length_bytes=8, announced=8 << 30), 1009),
    "fragments above the limit": (frame(TEXT, b"x" * 60_000, fin=False) + frame(0, b"x" * 60_000), 1009),
} | {
    f"close code {code}": (close_frame(code), 1002)
    for code in (0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535)
}


@pytest.mark.parametrize("name", VIOLATIONS)
def test_a_violation_is_closed_with_its_code_within_a_second(service: Service, name: str) -> None:
    data, code = VIOLATIONS[name]
    with RawWebSocket(service.port) as client:
        client.send(data)
        client.end_sending()
        assert client.closing()[0] == code
    assert works(service)


def test_a_violator_that_keeps_the_connection_is_cut_off_within_about_a_second(service: Service) -> None:
    with RawWebSocket(service.port) as client:
        client.send(frame(TEXT, b"{}", masked=False))
        code, _, seconds = client.closing()
        assert code == 1002
        assert seconds < 2


@pytest.mark.alone
@pytest.mark.parametrize("code", [1000, 1001, 1003, 1007, 1011, 1012, 1013, 1014, 3000, 4999])
def test_a_valid_close_code_is_echoed(service: Service, code: int) -> None:
    with RawWebSocket(service.port) as client:
        client.send(close_frame(code, b"bye") + frame(TEXT, message("echo", 1)))
        answered, _, seconds = client.closing()
        assert answered == code
        assert seconds < 0.4, "the server waited for more after both close frames"


def test_a_close_without_a_code_is_answered_without_one(service: Service) -> None:
    with RawWebSocket(service.port) as client:
        client.send(close_frame(None))
        assert client.closing()[0] is None


def test_the_server_closes_with_the_code_and_reason_it_is_given(service: Service) -> None:
    with RawWebSocket(service.port) as client:
        client.send(frame(TEXT, message("leave", [4321, "ü" * 100])))
        assert client.frame() == (CLOSE, b"\x10\xe1" + "ü".encode() * 61)
        client.send(close_frame(4321))
        assert client.wait_end() == b""


def test_a_client_that_does_not_answer_a_close_is_cut_off_within_about_a_second(service: Service) -> None:
    with RawWebSocket(service.port) as client:
        client.send(frame(TEXT, message("leave", [1000])))
        code, _, seconds = client.closing()
        assert code == 1000
        assert 0.3 < seconds < 2


def test_an_8_gib_announcement_costs_no_memory(service: Service) -> None:
    def resident() -> int:
        status = Path(f"/proc/{worker}/status").read_text()
        return int(status.partition("VmRSS:")[2].split()[0])

    children = Path(f"/proc/{service.process.pid}/task/{service.process.pid}/children").read_text().split()
    worker = int(children[0])
    assert works(service)
    before = resident()
    sockets = [RawWebSocket(service.port) for _ in range(20)]
    for client in sockets:
        client.send(frame(BINARY, b"x" * 1000, length_bytes=8, announced=8 << 30))
    for client in sockets:
        assert client.closing()[0] == 1009
        client.close()
    assert resident() - before < 20 * 1024  # KiB: 1 MiB each


def test_pings_are_answered_with_their_data(service: Service) -> None:
    with RawWebSocket(service.port) as client:
        client.send(frame(PING, b"x" * 125) + frame(PING))
        assert client.frame() == (PONG, b"x" * 125)
        assert client.frame() == (PONG, b"")


def test_large_answers_are_framed_right(service: Service) -> None:
    with RawWebSocket(service.port) as client:
        for size in (60, 70_000, 3_000_000):
            client.send(frame(TEXT, message("large", size)))
            assert client.message()["data"] == "x" * size


def test_a_client_that_vanishes_is_forgotten(service: Service) -> None:
    client = RawWebSocket(service.port)
    client.send(frame(TEXT, message("echo", 1))[:-3])
    client.close()
    with RawConnection(service.port) as probe:
        wait_until(lambda: probe.ask("GET", "/clients").json == 0)


# --- the handshake


@pytest.mark.parametrize(
    ("wrong", "status"),
    [
        (fields(version="8"), 426),
        (fields(version=""), 426),
        (fields(key=""), 400),
        (fields(key="c2hvcnQ="), 400),
        (fields(key="not base64!!"), 400),
        ([*fields(), "Content-Length: 5"], 400),
        ([*fields(), "Transfer-Encoding: chunked"], 400),
    ],
)
def test_a_wrong_handshake_is_refused_as_http(service: Service, wrong: list[str], status: int) -> None:
    with RawConnection(service.port) as connection:
        connection.request("GET", "/ws", *wrong)
        connection.send(b"0\r\n\r\n")
        answer = connection.answer()
        assert answer.status == status
        assert answer.json["error"]
        assert answer.headers["sec-websocket-version"] == "13"


def test_a_hook_refuses_before_the_upgrade_and_the_connection_stays_http(service: Service) -> None:
    with RawConnection(service.port) as connection:
        refused = connection.ask("GET", "/ws?token=wrong", *fields())
        assert (refused.status, refused.json) == (403, {"error": "Forbidden"})
        failed = connection.ask("GET", "/ws?token=broken", *fields())
        assert (failed.status, set(failed.json)) == (500, {"error", "id"})
        assert connection.ask("GET", "/clients").json == 0


def test_the_handshake_can_be_read_later(service: Service) -> None:
    with RawWebSocket(service.port, "/a%20path?token=right&x=%C3%BC", "X-User: me", "Cookie: a=1; b=2") as client:
        client.send(frame(TEXT, message("who", None)))
        address = list(client.socket.getsockname())
        assert client.message()["data"] == [
            "me",
            {"a": "1", "b": "2"},
            {"token": "right", "x": "ü"},
            "/a path",
            address,
        ]


def test_only_get_over_http_1_1_can_become_a_websocket(service: Service) -> None:
    with RawConnection(service.port) as connection:
        assert connection.ask("POST", "/ws", *fields()).status == 405
    with RawConnection(service.port) as connection:
        assert connection.ask("GET", "/ws", *fields(), version="HTTP/1.0").status == 400


def test_an_upgrade_to_something_else_is_plain_http(service: Service) -> None:
    with RawConnection(service.port) as connection:
        assert connection.ask("GET", "/clients", "Upgrade: h2c", "Connection: Upgrade, HTTP2-Settings").status == 200
        assert connection.ask("GET", "/clients", "Upgrade: websocket").status == 200


def test_the_tokens_of_a_handshake_may_be_in_any_case_and_in_lists(service: Service) -> None:
    with RawWebSocket.__new__(RawWebSocket) as client:
        RawConnection.__init__(client, service.port)
        answer = client.ask("GET", "/any/path?x=1", *fields(upgrade="WebSocket", connection="keep-alive, UPGRADE"))
        assert (answer.status, answer.headers["upgrade"]) == (101, "websocket")
        client.send(frame(TEXT, message("echo", 1)))
        assert client.message()["data"] == 1


def test_frames_sent_together_with_the_handshake_are_not_lost(service: Service) -> None:
    with RawWebSocket.__new__(RawWebSocket) as client:
        RawConnection.__init__(client, service.port)
        head = "\r\n".join(["GET /ws HTTP/1.1", "Host: x", *fields()]) + "\r\n\r\n"
        client.send(head.encode() + frame(TEXT, message("echo", 1)) * 3)
        assert client.answer().status == 101
        assert [client.message()["data"] for _ in range(3)] == [1, 1, 1]


def test_a_client_that_always_has_a_message_ready_gives_others_a_turn(service: Service) -> None:
    with RawWebSocket(service.port) as chatty, RawConnection(service.port) as other:
        chatty.send(frame(TEXT, message("size", "x" * 50)) * 20_000)
        begun = time.monotonic()
        assert other.ask("GET", "/clients").status == 200
        waited = time.monotonic() - begun
        for _ in range(20_000):
            chatty.frame()
        assert waited < (time.monotonic() - begun) / 2
