"""The access log on stdout: its fields, and what clients could try to write into it."""

from __future__ import annotations

import json
import re
import time
from datetime import datetime
from typing import Any

import pytest

from tests.servers.conftest import Service
from tests.servers.raw import RawConnection, RawWebSocket, ask
from tests.support.waiting import wait_until

PROGRAM = """
    from daebus_runtime import Daebus, DaebusHttp, DaebusWebSocket
    from daebus_runtime.servers.http import accesslog

    class Both(accesslog.AccessLog):  # both forms, so that one service is enough
        def __call__(self, connection, refused=None):
            entry = accesslog.entry(connection, refused)
            self._lines += [accesslog.as_json(entry), accesslog.as_combined(entry)]
            self._later.ask()

    accesslog.AccessLog = Both
    app = Daebus("logged")
    app.attach(DaebusHttp())
    app.attach(DaebusWebSocket())

    @app.route("/<name>", methods=["GET", "POST"])
    def named(req, name):
        return {"name": name}

    @app.route("/fails")
    def fails(req):
        raise ValueError

    @app.route("/big")
    def big(req):
        return "x" * 30_000_000

    app.run()
"""
ENVIRONMENT = {"DAEBUS_ACCESS_LOG": "json", "DAEBUS_FORWARDED_ALLOW": "127.0.0.1"}
COMBINED = re.compile(
    r'(?P<client>\S+) - - \[\d\d/[A-Z][a-z]{2}/\d{4}:\d\d:\d\d:\d\d \+0000\] "(?P<line>(?:[^"\\]|\\.)*)" '
    r'(?P<status>\d{3}) (?P<bytes>\d+) "(?P<referer>(?:[^"\\]|\\.)*)" "(?P<agent>(?:[^"\\]|\\.)*)"'
)


def logged(service: Service, request_id: str) -> tuple[dict[str, Any], dict[str, str]]:
    """The entry of a request in both forms."""

    def find() -> tuple[dict[str, Any], str] | None:
        lines = service.process.lines
        for place, line in enumerate(lines[:-1]):
            if f'"request_id":"{request_id}"' in line and '"daebus.access"' in line:
                return json.loads(line), lines[place + 1]
        return None

    found = wait_until(find, 10)
    assert found is not None
    entry, line = found
    match = COMBINED.fullmatch(line)
    assert match, line
    return entry, match.groupdict()


def test_the_fields(service: Service) -> None:
    fields = [
        "X-Request-ID: first",
        "User-Agent: test/1",
        "Referer: https://a.example/x",
        "X-Forwarded-For: 203.0.113.9",
    ]
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    forwarded = ["X-Forwarded-For: 203.0.113.9", f"traceparent: 00-{trace}-00f067aa0ba902b7-01"]
    answer = ask(service.port, "GET", "/tea?b=1", *fields, *forwarded)
    entry, line = logged(service, "first")
    assert abs(time.time() - datetime.fromisoformat(entry.pop("time")).timestamp()) < 60
    assert 0 <= entry.pop("seconds") < 10
    assert entry == {
        "level": "info",
        "logger": "daebus.access",
        "message": "GET /tea?b=1 200",
        "client": "203.0.113.9",
        "method": "GET",
        "target": "/tea?b=1",
        "protocol": "HTTP/1.1",
        "status": 200,
        "bytes": len(answer.body),
        "host": "localhost",
        "referer": "https://a.example/x",
        "user_agent": "test/1",
        "request_id": "first",
        "trace_id": trace,
    }
    assert line == {
        "client": "203.0.113.9",
        "line": "GET /tea?b=1 HTTP/1.1",
        "status": "200",
        "bytes": str(len(answer.body)),
        "referer": "https://a.example/x",
        "agent": "test/1",
    }


@pytest.mark.parametrize(
    ("method", "target", "status"),
    [("GET", "/a/b", 404), ("PUT", "/tea", 405), ("HEAD", "/tea", 200), ("GET", "/fails", 500), ("OPTIONS", "*", 200)],
)
def test_every_answer_has_an_entry(service: Service, method: str, target: str, status: int) -> None:
    number = f"{method}-{status}"
    answer = ask(service.port, method, target, f"X-Request-ID: {number}")
    entry, line = logged(service, number)
    assert (entry["method"], entry["target"], entry["status"]) == (method, target, status)
    assert entry["bytes"] == int(line["bytes"]) == (0 if method == "HEAD" else len(answer.body))


def test_a_websocket_has_an_entry_when_it_ends(service: Service) -> None:
    with RawWebSocket(service.port, "/ws", "X-Request-ID: socket") as client:
        client.close_in_order()
    entry, _ = logged(service, "socket")
    assert (entry["status"], entry["bytes"]) == (101, 0)


def test_a_refused_request_has_its_status_and_nothing_of_the_client(service: Service) -> None:
    with RawConnection(service.port) as connection:
        connection.send("GET /x\x1b[2J\nrefused-marker HTTP/1.1\r\n\r\n")
        connection.wait_end()
    wait_until(lambda: '"message":"- - 400"' in service.process.output, 10)
    assert service.process.count(r'^127\.0\.0\.1 - - \[.*\] "-" 400 0 "-" "-"$')
    assert "refused-marker" not in service.process.output


def test_an_answer_that_is_not_read_to_its_end_is_marked(service: Service) -> None:
    with RawConnection(service.port) as connection:
        connection.request("GET", "/big", "X-Request-ID: aborted")
        connection.read(1000)
    entry, _ = logged(service, "aborted")
    assert entry["aborted"] is True


HOSTILE = (
    *('a" 200 5 "x', "a\\", '\\"', "\x1b[2J\x1b[31m", "\u202eevil", "é", "\x80\x9b0m", "a\tb", "{}"),
    *('","status":200,"x":"', "%0d%0a127.0.0.1 - -", "<script>alert(1)</script>", "x" * 7000),
)

IN_TARGETS = ("a\\", "'`{}", "%0d%0a127.0.0.1+-+-", "%22,%22status%22:200", "x" * 7000)
NOT_IN_TARGETS = (
    'a"+200+5+"x',
    '\\"',
    "\u202eevil",
    "é",
    "\x80\x9b0m",
    '","status":201,"x":"',
    "<script>alert(1)</script>",
)
PLACES = [(place, text) for place in ("User-Agent", "Referer") for text in HOSTILE if "\x1b" not in text]
PLACES += [("target", text) for text in IN_TARGETS]


@pytest.mark.parametrize("number", range(len(PLACES)))
def test_nobody_writes_lines_or_fields_of_his_own(service: Service, number: int) -> None:
    place, sent = PLACES[number]
    name = f"{place}-{number}"
    target, field = (f"/tea?{sent}", "") if place == "target" else ("/tea", f"{place}: {sent}\r\n")
    with RawConnection(service.port) as connection:
        connection.send(f"GET {target} HTTP/1.1\r\nHost: a\r\nX-Request-ID: {name}\r\n{field}\r\n".encode())
        assert connection.answer().status == 200
    entry, line = logged(service, name)
    assert entry["status"] == 200
    assert line["status"] == "200"
    assert "".join(line.values()).isascii()
    assert "".join(line.values()).isprintable()


@pytest.mark.parametrize("sent", NOT_IN_TARGETS)
def test_a_target_that_is_refused_does_not_come_into_the_log(service: Service, sent: str) -> None:
    with RawConnection(service.port) as connection:
        connection.send(f"GET /no-tea?{sent} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        answer = connection.answer()
    assert answer.status == 400
    wait_until(lambda: f'"request_id":"{answer.headers["x-request-id"]}"' in service.process.output, 10)
    assert "no-tea" not in service.process.output


def test_no_line_of_the_output_holds_control_characters(service: Service) -> None:
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f\u202e]", service.process.output)
