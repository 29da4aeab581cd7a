"""A service to which the rules apply, and what sends it their requests: over any connection, also over TLS."""

from __future__ import annotations

from tests.servers.raw import Answer, RawConnection

from .rule import BODY_LIMIT, FOLLOWING, Rule

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


def _answer(connection: RawConnection, rule: Rule) -> tuple[int, str]:
    """The status of the next answer, interim ones included, and its text."""
    line = connection.read_line()
    fields = {}
    while field := connection.read_line():
        name, _, value = field.partition(":")
        assert name.lower() not in fields, f"{name} comes twice"
        fields[name.lower()] = value.strip()
    found = Answer(int(line.split(" ")[1]), fields, b"")
    if found.status != 100:
        _check(found, rule)
        if not rule.head:
            found.body = connection.read(int(fields["content-length"]))
    shown = "".join(f"{name.title()}: {value}\r\n" for name, value in fields.items())
    return found.status, shown + found.body.decode()


def _check(found: Answer, rule: Rule) -> None:
    """What every answer has (RFC 9110, 6.6.1 and 8.6; RFC 9112, 6.1)."""
    assert {"date", "x-request-id"} <= found.headers.keys()
    assert ("content-length" in found.headers) == (found.status not in (204, 304)), found
    assert "transfer-encoding" not in found.headers


def outcome(connection: RawConnection, rule: Rule) -> str:
    """Checks the answers to a request of the rule; the text of the last one."""
    text = ""
    for expected in rule.answers:
        status, text = _answer(connection, rule)
        assert status == expected, text
    assert rule.said in text
    assert ("Connection: close" in text) == rule.ends, text
    assert "secret" not in text
    return text


def obeys(connection: RawConnection, rule: Rule, request: bytes) -> None:
    """Sends the request, and FOLLOWING behind it; checks the answers, and whether the connection goes on."""
    connection.send(request + FOLLOWING)
    connection.end_sending()
    outcome(connection, rule)
    rest = connection.wait_end()
    if rule.ends:
        assert rest == b""
    else:
        assert rest.startswith(b"HTTP/1.1 200 OK\r\n")
        assert rest.endswith(b'"following"')


def ends(connection: RawConnection, rule: Rule, request: bytes) -> None:
    """Sends half a request and ends the client's side; checks the answer, and that the connection ends."""
    connection.send(request)
    connection.end_sending()
    outcome(connection, rule)
    assert connection.ended
