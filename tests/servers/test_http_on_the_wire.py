"""HTTP byte by byte: what is refused before a handler runs, and whether the connection stays open."""

from __future__ import annotations

import json
import time

import pytest

from tests.servers.conftest import Service
from tests.servers.raw import RawConnection, ask

HTTPS = True
PROGRAM = """
    from daebus_runtime import Daebus, DaebusHttp
    from daebus_runtime.servers.http import clock

    clock.SECONDS.update(new=1.0, header=1.0, idle=2.0, body=1.0, answer=2.0)
    app = Daebus("wire")
    app.attach(DaebusHttp())
    runs = []

    @app.route("/run", methods=["POST", "PUT"])
    def run(req):
        runs.append(req.payload)
        return {"runs": len(runs), "payload": req.payload, "size": len(req.body)}

    @app.route("/runs")
    def get_runs(req):
        return {"runs": len(runs)}

    @app.route("/")
    @app.route("/seen")
    def seen(req):
        return {"path": req.path, "query": req.query, "host": req.headers["Host"]}

    @app.route("/picture")
    def picture(req):
        return bytes(range(256)), 200, {"Content-Type": "image/x"}

    @app.route("/big")
    def big(req):
        return "x" * 1_000_000

    app.run()
"""
ENVIRONMENT = {"DAEBUS_HTTP_BODY_LIMIT": "100000"}
JSON = "Content-Type: application/json"


MALFORMED_HOSTS = (
    *(b"a b", b"a/b", b"a@b", b"a:b", b"a:65536", b"a:999999999999999999", b"a:80:80", b":80", b"a%zz", b"a%", b"a#"),
    *(b"a, b", b"::1", b"[::1", b"[::g]", b"[]", b"[::1]x", b"<a>", b"\xc3\xbc", b'"a"', b"a\\b", b"http://a"),
)
MALFORMED_TARGETS = (
    *(
        b"x:80",
        b"*",
        b"a/b",
        b"?a=1",
        b"ftp://x/a",
        b"ws://x/a",
        b"http:/runs",
        b"http://",
        b"http:///runs",
    ),
    *(b"/runs#a", b"/runs?a#b", b"/%", b"/runs%2", b"/runs%zz", b"/runs?a=%", b"/runs?a=%f", b"/runs?a=100%"),
    *(
        b"http://a b/",
        b"http://a@b/runs",
        b"http://a:99999/runs",
        b"http://a:b/runs",
        b"http://a/runs#b",
        b"http://a/%",
    ),
    *(b"http://[::g]/runs", b"http://a%zz/runs", b"http://a?u=%", b"http://a#b", b"http:runs", b"https//a/runs"),
)


def runs(service: Service) -> int:
    return int(ask(service.port, "GET", "/runs").json["runs"])


def test_a_truncated_body_is_refused_and_never_executed(service: Service) -> None:
    before = runs(service)
    with RawConnection(service.port) as connection:
        connection.request("POST", "/run", JSON, "Content-Length: 100", body=b'{"a": 1}')
        connection.end_sending()
        answer = connection.answer()
        assert answer.status == 400
        assert answer.headers["connection"] == "close"
        assert connection.ended
    assert runs(service) == before


UNFINISHED_CHUNKS = (
    *(b"5\r\n12", b"5\r\n12345\r\n", b"5", b"5\r", b"", b"0\r\n", b"0\r\nA: b\r\n", b"5;a=", b"1\r\nx\r"),
)
MALFORMED_CHUNKS = (
    *(b"\r\n", b";a=b\r\n", b"5\r\n12345XX0\r\n\r\n", b"zz\r\n1\r\n0\r\n\r\n", b"5 \r\n12345\r\n0\r\n\r\n"),
    *(b"5\n12345\r\n0\r\n\r\n", b"5\r\n12345\n0\r\n\r\n", b" 5\r\n12345\r\n", b"+5\r\n12345\r\n", b"-1\r\n\r\n"),
    *(
        b"0x5\r\n12345\r\n",
        b"5_0\r\n",
        b"f" * 17 + b"\r\n",
        b"5;\r\n12345\r\n",
        b"5;=b\r\n12345\r\n",
        b"1\r\nx\r\nz\r\n",
    ),
    *(
        b'5;a="b\r\n12345\r\n',
        b"5;a=\x00\r\n12345\r\n",
        b"5;a=b\rc\r\n12345\r\n",
        b"\xb2\r\nab\r\n",
        b"5;a b\r\n12345\r\n",
    ),
    *(
        b"0\r\nno colon\r\n\r\n",
        b"0\r\nA : b\r\n\r\n",
        b"0\r\n: b\r\n\r\n",
        b"0\r\nA: b\n\r\n",
        b"0\r\nA: \x00\r\n\r\n",
    ),
)


@pytest.mark.parametrize("target", ["/run", "/nowhere"])
@pytest.mark.parametrize("chunks", UNFINISHED_CHUNKS + MALFORMED_CHUNKS)
def test_a_broken_chunked_body_is_refused_and_never_executed(service: Service, chunks: bytes, target: str) -> None:
    before = runs(service)
    with RawConnection(service.port) as connection:
        connection.request("POST", target, JSON, "Transfer-Encoding: chunked", body=chunks)
        connection.end_sending()
        # A body that no handler would read need not have an end.
        unread = target == "/nowhere" and chunks in UNFINISHED_CHUNKS
        answer = connection.answer()
        assert (answer.status, answer.headers["connection"]) == (404 if unread else 400, "close")
        assert connection.ended
    assert runs(service) == before
    assert "Traceback" not in service.process.output


def test_a_chunk_that_turns_out_malformed_later_is_refused_as_well(service: Service) -> None:
    with RawConnection(service.port) as connection:
        chunks = b"2328\r\n" + b"x" * 9000 + b"\r\n\r\n"
        connection.request("POST", "/run", JSON, "Transfer-Encoding: chunked", body=chunks)
        answer = connection.answer()
        assert (answer.status, answer.json["error"]) == (400, "Bad Request")
        assert "malformed chunk size" in answer.json["detail"]
        assert connection.ended


@pytest.mark.parametrize(
    "endless",
    [
        "1\r\nx\r\n0\r\n" + "Trailer: x\r\n" * 101,
        "0\r\n" + "T: " + "x" * 9000,
        "0\r\n" + "".join(f"T{i}: {'x' * 8000}\r\n" for i in range(9)),
        "1;" + "a" * 9000,
        f"1;a={'b' * 8000}\r\nx\r\n" * 9,
        "1" * 9000,
    ],
)
def test_chunk_extensions_and_trailers_are_limited(service: Service, endless: str) -> None:
    with RawConnection(service.port) as connection:
        connection.request("POST", "/run", JSON, "Transfer-Encoding: chunked", body=endless.encode())
        # The body has no end yet: the answer must not wait for it.
        answer = connection.answer()
        assert (answer.status, answer.headers["connection"]) == (400, "close")
        assert connection.ended


def test_extensions_and_trailers_are_dropped(service: Service) -> None:
    chunks = b'3;a;b=c ; d="e\\"f;g"\r\n[1,\r\n0002\r\n2]\r\n0;x\r\nA: b\r\nC:\r\n\r\n'
    with RawConnection(service.port) as connection:
        for _ in range(2):
            answer = connection.ask("POST", "/run", JSON, "Transfer-Encoding: Chunked", body=chunks)
            assert answer.json["payload"] == [1, 2]


def test_a_chunked_body_is_read(service: Service) -> None:
    with RawConnection(service.port) as connection:
        chunks = b'4\r\n{"a"\r\n4;x=y\r\n: 1}\r\n0\r\nTrailer: x\r\n\r\n'
        for _ in range(2):
            answer = connection.ask("POST", "/run", JSON, "Transfer-Encoding: chunked", body=chunks)
            assert answer.json["payload"] == {"a": 1}


def test_malformed_json_is_refused_and_the_connection_goes_on(service: Service) -> None:
    before = runs(service)
    with RawConnection(service.port) as connection:
        for body in (b'{"a":', b"nix", b'{"a": NaN}', b'{"a": 1} x', b'{"a": "\xff"}', b"[" * 100_000):
            answer = connection.ask("POST", "/run", JSON, body=body)
            assert (answer.status, answer.json["error"]) == (400, "Bad Request"), body[:20]
        assert connection.ask("POST", "/run", JSON, body=b'{"a": 1}').status == 200
    assert runs(service) == before + 1


def test_an_announced_body_above_the_limit_is_refused_before_it_is_read(service: Service) -> None:
    with RawConnection(service.port) as connection:
        connection.request("POST", "/run", JSON, "Content-Length: 99999999999")
        answer = connection.answer()
        assert answer.status == 413
        assert answer.json["error"] == "Content Too Large"
        assert connection.ended


def test_a_client_that_sends_its_large_body_at_once_still_sees_the_answer(service: Service) -> None:
    with RawConnection(service.port) as connection:
        connection.request("POST", "/run", JSON, body=b"x" * 2_000_000)
        assert connection.answer().status == 413
        assert connection.ended


def test_a_chunked_body_is_counted_while_it_is_read(service: Service) -> None:
    before = runs(service)
    chunk = b"2710\r\n" + b"x" * 10_000 + b"\r\n"
    with RawConnection(service.port) as connection:
        connection.request("POST", "/run", JSON, "Transfer-Encoding: chunked", body=chunk * 11)
        # The body has no end yet: the answer must not wait for it.
        assert connection.answer().status == 413
        assert connection.ended
    assert runs(service) == before


def test_a_body_at_the_limit_is_accepted(service: Service) -> None:
    body = json.dumps("x" * 99_998).encode()
    assert len(body) == 100_000
    assert ask(service.port, "POST", "/run", JSON, body=body).json["size"] == 100_000
    assert ask(service.port, "POST", "/run", JSON, body=body + b" ").status == 413


def test_100_continue_is_sent_only_for_a_body_that_is_wanted(service: Service) -> None:
    with RawConnection(service.port) as connection:
        connection.request("POST", "/run", JSON, "Expect: 100-continue", "Content-Length: 8")
        assert connection.read_line() == "HTTP/1.1 100 Continue"
        assert connection.read_line() == ""
        connection.send(b'{"a": 1}')
        assert connection.answer().json["payload"] == {"a": 1}
    for target, length, status in (("/run", 200_000, 413), ("/nowhere", 10, 404)):
        with RawConnection(service.port) as connection:
            connection.request("POST", target, JSON, "Expect: 100-continue", f"Content-Length: {length}")
            assert connection.read_line().split(" ")[1] == str(status)


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        (["Content-Length: 2", "Transfer-Encoding: chunked"], 400),
        (["Content-Length: 2", "Content-Length: 2"], 400),
        (["Content-Length: 2", "Content-Length: 3"], 400),
        (["Content-Length: +2"], 400),
        (["Content-Length: -2"], 400),
        (["Content-Length: 0x2"], 400),
        (["Transfer-Encoding: gzip"], 400),
        (["Transfer-Encoding: gzip, chunked"], 501),
        (["Transfer-Encoding: chunked", "Transfer-Encoding: chunked"], 400),
        (["Expect: a-miracle", "Content-Length: 2"], 417),
        (["Host: localhost"], 400),
        (["Host: other"], 400),
        (["X : y"], 400),
        (["X: y", " folded"], 400),
        (["no colon"], 400),
        (["X: a\x00b"], 400),
        (["X: " + "y" * 9000], 431),
        ([f"X-{i}: y" for i in range(101)], 431),
        ([f"X-{i}: " + "y" * 8000 for i in range(9)], 431),
    ],
)
def test_an_ambiguous_or_endless_header_is_refused(service: Service, fields: list[str], status: int) -> None:
    before = runs(service)
    with RawConnection(service.port) as connection:
        connection.request("POST", "/run", *fields, body=b"{}")
        assert connection.answer().status == status
        assert connection.ended
    assert runs(service) == before


@pytest.mark.parametrize(
    ("line", "status"),
    [
        (b"GET /runs\r\n\r\n", 400),
        (b"GET /runs HTTP/1.1\nHost: x\n\n", 400),
        (b"GET /runs HTTP/1.1\r\n\r\n", 400),
        *((b"GET /runs HTTP/1.1\r\nHost: %b\r\n\r\n" % host, 400) for host in MALFORMED_HOSTS),
        *((b"GET %b HTTP/1.1\r\nHost: x\r\n\r\n" % target, 400) for target in MALFORMED_TARGETS),
        (b"CONNECT x:80 HTTP/1.1\r\nHost: x:80\r\n\r\n", 501),
        (b"CONNECT x HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"POST * HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}", 400),
        (b"GET  /runs HTTP/1.1\r\n\r\n", 400),
        (b"G@T /runs HTTP/1.1\r\n\r\n", 400),
        (b"GET /runs HTTP/2.0\r\n\r\n", 505),
        (b"GET /" + b"x" * 9000 + b" HTTP/1.1\r\n\r\n", 414),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400),
    ],
)
def test_a_malformed_request_line_is_refused(service: Service, line: bytes, status: int) -> None:
    with RawConnection(service.port) as connection:
        connection.send(line)
        assert connection.answer().status == status
        assert connection.ended


def test_a_name_with_an_underscore_does_not_pass_for_one_with_a_hyphen(service: Service) -> None:
    # Content_Length and Content-Length would be one name in the WSGI environ.
    assert ask(service.port, "POST", "/run", "Content_Length: 5", "Transfer_Encoding: chunked").status == 200


def test_one_connection_carries_many_requests_also_sent_at_once(service: Service) -> None:
    with RawConnection(service.port) as connection:
        connection.request("POST", "/nowhere", JSON, body=b'{"a": 1}')
        connection.request("GET", "/runs")
        connection.request("HEAD", "/runs")
        connection.request("GET", "/runs", "Connection: close")
        assert connection.answer().status == 404
        assert connection.answer().status == 200
        assert connection.answer(head=True).headers["content-length"] == "10"
        last = connection.answer()
        assert (last.status, last.headers["connection"]) == (200, "close")
        assert connection.ended


def test_http_1_0_closes_unless_it_is_asked_to_stay(service: Service) -> None:
    with RawConnection(service.port) as connection:
        assert connection.ask("GET", "/runs", "Connection: keep-alive", version="HTTP/1.0").status == 200
        assert connection.ask("GET", "/runs", version="HTTP/1.0").status == 200
        assert connection.ended


def test_an_absolute_target_is_understood(service: Service) -> None:
    assert ask(service.port, "GET", "http://example.com/runs?x=1").status == 200


@pytest.mark.parametrize(
    "host", ["", "localhost", "a.example:8080", "a:", "127.0.0.1:80", "[::1]:80", "[::]", "a_b", "x%20y"]
)
def test_a_valid_host_is_accepted(service: Service, host: str) -> None:
    assert ask(service.port, "GET", "/runs", f"Host: {host}", host=False).status == 200


def test_http_1_0_needs_no_host(service: Service) -> None:
    assert ask(service.port, "GET", "/runs", version="HTTP/1.0", host=False).status == 200
    assert ask(service.port, "GET", "/runs", "Host: a b", version="HTTP/1.0", host=False).status == 400


@pytest.mark.parametrize(
    ("target", "path", "query"),
    [
        ("/seen?url=http://example.com/a/b&x=1", "/seen", {"url": "http://example.com/a/b", "x": "1"}),
        ("/seen?HTTPS://a?b", "/seen", {"HTTPS://a?b": ""}),
        ("/seen/http://a/b?c=d", None, None),
        ("http://other.example/seen?u=http://a/b", "/seen", {"u": "http://a/b"}),
        ("HTTPS://other.example:81/seen", "/seen", {}),
        ("http://other.example?u=1", "/", {"u": "1"}),
        ("http://[::1]:80/seen", "/seen", {}),
        ("http://other.example", "/", {}),
        ("/seen?a=%25&b=|{}", "/seen", {"a": "%", "b": "|{}"}),
    ],
)
def test_the_raw_target_reaches_the_handler_unchanged(
    service: Service, target: str, path: str | None, query: object
) -> None:
    answer = ask(service.port, "GET", target)
    if path is None:
        assert (answer.status, answer.json["path"]) == (404, "/seen/http://a/b")
    else:
        assert (answer.json["path"], answer.json["query"]) == (path, query)


def test_the_authority_of_an_absolute_target_is_the_host(service: Service) -> None:
    assert ask(service.port, "GET", "http://other.example:81/seen").json["host"] == "other.example:81"


def test_options_may_ask_about_the_whole_server(service: Service) -> None:
    with RawConnection(service.port) as connection:
        answer = connection.ask("OPTIONS", "*")
        assert (answer.status, answer.body) == (200, b"")
        assert connection.ask("GET", "/runs").status == 200


def test_a_large_answer_arrives_whole(service: Service) -> None:
    assert ask(service.port, "GET", "/big").json == "x" * 1_000_000


def test_bytes_arrive_unchanged(service: Service) -> None:
    answer = ask(service.port, "GET", "/picture")
    assert (answer.body, answer.headers["content-type"]) == (bytes(range(256)), "image/x")


@pytest.mark.parametrize("method", ["DELETE", "PROPFIND", "TRACE", "FOO"])
def test_any_other_method_is_405_with_the_allowed_ones(service: Service, method: str) -> None:
    answer = ask(service.port, method, "/runs")
    assert (answer.status, answer.headers["allow"]) == (405, "GET, HEAD, OPTIONS")


def test_half_a_header_is_dropped_in_time(service: Service) -> None:
    begun = time.monotonic()
    with RawConnection(service.port) as connection:
        connection.send(b"GET /runs HTTP/1.1\r\nHost: x\r\n")
        assert connection.answer().status == 408
        assert connection.ended
    assert 0.9 < time.monotonic() - begun < 5


def test_a_silent_connection_is_dropped_in_time(service: Service) -> None:
    with RawConnection(service.port) as connection:
        assert connection.ended
    begun = time.monotonic()
    with RawConnection(service.port) as connection:
        assert connection.ask("GET", "/runs").status == 200
        assert connection.ended
    assert 1.9 < time.monotonic() - begun < 6
