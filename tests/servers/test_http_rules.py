"""Every rule of RFC 9110 and 9112 for a server, on the wire: see rules/."""

from __future__ import annotations

import pytest

from tests.servers.conftest import Service
from tests.servers.raw import Answer, RawConnection
from tests.servers.rules import BODY_LIMIT, FOLLOWING, INCOMPLETE, RULES, Rule, names

PROGRAM = """
    from daebus_runtime import Daebus, DaebusHttp

    app = Daebus("rules")
    app.attach(DaebusHttp())

    @app.route("/")
    def root(req):
        return {}

    @app.route("/seen")
    def seen(req):
        fields = [req.headers.get(name) for name in ("Host", "X-Token", "Cookie")]
        return {"path": req.path, "query": req.query, "fields": fields}

    @app.route("/at/<name>")
    def at(req, name):
        return {"path": req.path, "name": name}

    @app.route("/echo", methods=["POST", "PUT"])
    def echo(req):
        return {"body": req.body.decode(), "token": req.headers.get("X-Token")}

    @app.route("/status/<code>")
    def status(req, code):
        return {"code": code}, int(code)

    @app.route("/fails")
    def fails(req):
        raise ValueError("the secret of the house")

    @app.route("/following")
    def following(req):
        return "following"

    app.run()
"""
ENVIRONMENT = {"DAEBUS_HTTP_BODY_LIMIT": str(BODY_LIMIT)}
CASES, HALVES = names(RULES), names(INCOMPLETE)


def answer(connection: RawConnection, rule: Rule) -> tuple[int, str]:
    """The status of the next answer, interim ones included, and its text."""
    line = connection.read_line()
    fields = {}
    while field := connection.read_line():
        name, _, value = field.partition(":")
        assert name.lower() not in fields, f"{name} comes twice"
        fields[name.lower()] = value.strip()
    found = Answer(int(line.split(" ")[1]), fields, b"")
    if found.status != 100:
        check(found, rule)
        if not rule.head:
            found.body = connection.read(int(fields["content-length"]))
    shown = "".join(f"{name.title()}: {value}\r\n" for name, value in fields.items())
    return found.status, shown + found.body.decode()


def check(found: Answer, rule: Rule) -> None:
    """What every answer has (RFC 9110, 6.6.1 and 8.6; RFC 9112, 6.1)."""
    assert "date" in found.headers
    assert ("content-length" in found.headers) == (found.status not in (204, 304)), found
    assert "transfer-encoding" not in found.headers


def outcome(connection: RawConnection, rule: Rule) -> str:
    """Checks the answers to a request of the rule; the text of the last one."""
    text = ""
    for expected in rule.answers:
        status, text = answer(connection, rule)
        assert status == expected, text
    assert rule.said in text
    assert ("Connection: close" in text) == rule.ends, text
    assert "secret" not in text
    return text


def test_there_are_enough_of_them() -> None:
    assert len(CASES) >= 250
    assert len({request for _, _, request in CASES}) >= 250


@pytest.mark.parametrize(("rule", "request_"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_a_request_gets_its_answers_and_the_connection_ends_or_goes_on(
    service: Service, rule: Rule, request_: bytes
) -> None:
    with RawConnection(service.port) as connection:
        connection.send(request_ + FOLLOWING)
        connection.end_sending()
        outcome(connection, rule)
        rest = connection.wait_end()
    if rule.ends:
        assert rest == b""
    else:
        assert rest.startswith(b"HTTP/1.1 200 OK\r\n")
        assert rest.endswith(b'"following"')


@pytest.mark.parametrize(("rule", "request_"), [case[1:] for case in HALVES], ids=[case[0] for case in HALVES])
def test_half_a_request_is_400_and_the_end(service: Service, rule: Rule, request_: bytes) -> None:
    with RawConnection(service.port) as connection:
        connection.send(request_)
        connection.end_sending()
        outcome(connection, rule)
        assert connection.ended


def test_nothing_of_all_this_was_a_fault_of_the_service(service: Service) -> None:
    faults = service.process.count("Traceback")
    with RawConnection(service.port) as connection:
        assert connection.ask("GET", "/fails").status == 500
    assert service.process.count("the secret of the house") >= 1
    assert service.process.count("ValueError: the secret of the house") >= faults
