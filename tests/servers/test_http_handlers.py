"""What HTTP handlers receive, how paths and methods are routed to them, and what cannot be served."""

from __future__ import annotations

import copy
import io
import json
import pickle
import threading
import time
import urllib.parse
from typing import Any

import falcon.testing
import gevent
import pytest
from daebus_runtime import Blueprint, Daebus, DaebusHttp, DaebusWebSocket, HttpRequest, codec, request, response
from daebus_runtime.errors import ConfigurationError, MissingComponent, OutsideHandler, RegistrationError
from daebus_runtime.registry import Route
from daebus_runtime.servers.http import bodies
from daebus_runtime.servers.http.application import check, make_wsgi
from daebus_runtime.servers.http.requests import Content, Headers
from daebus_runtime.servers.http.routing import Responder
from daebus_runtime.testing import TestApp


def make_app(*handlers: Any) -> Daebus:
    app = Daebus("http_test")
    app.attach(DaebusHttp())
    for path, methods, handler in handlers:
        app.route(path, methods)(handler)
    return app


# --- what handlers receive


def test_a_request_has_all_its_attributes() -> None:
    seen: dict[str, Any] = {}

    def handler(req: HttpRequest, name: str) -> None:
        for attribute in ("method", "path", "params", "query", "payload", "json", "form", "body", "cookies", "service"):
            seen[attribute] = getattr(req, attribute)
        seen["headers"], seen["raw"], seen["id"] = req.headers, req.raw, req.request_id
        seen["reply_to"] = req.reply_to

    with TestApp(make_app(("/things/<name>", ["POST"], handler))) as service:
        headers = {"X-Test": "Yes", "Cookie": 'a=1; b="two"; broken; a=3'}
        service.http("POST", "/things/mint%20tea?q=1&q=2&blank=&ü=%C3%BC", json={"n": 1}, headers=headers)
    assert seen["method"] == "POST"
    assert seen["path"] == "/things/mint tea"
    assert seen["params"] == {"name": "mint tea"}
    assert seen["query"] == {"q": "2", "blank": "", "ü": "ü"}
    assert seen["payload"] == seen["json"] == {"n": 1}
    assert (seen["form"], seen["body"], seen["cookies"]) == ({}, b'{"n":1}', {"a": "1", "b": "two"})
    for name in ("x-test", "X-Test", "X-TEST"):
        assert seen["headers"][name] == seen["headers"].get(name) == "Yes"
        assert name in seen["headers"]
    assert seen["headers"].get("X-Other") is None
    assert seen["headers"].get("X-Other", "?") == "?"
    assert seen["raw"]["json"] == {"n": 1}
    assert (seen["service"], seen["reply_to"]) == ("http", None)
    assert len(seen["id"]) == 16


def test_a_responder_that_reads_the_body_itself_gets_an_untouched_reader() -> None:
    body, app = io.BytesIO(b"0123456789"), make_app(("/x", ["POST"], lambda req: req.json))
    places: list[int] = []

    def take(reader: Any, environ: bodies.Environ, limit: int) -> Content:
        places.append(reader.tell())
        return Content(json=reader.read(4).decode())

    (route,) = app.registry.all(Route)
    environ = falcon.testing.create_environ(method="POST", headers={"Content-Length": "10"})
    answer = Responder(app.running(), route, "POST", {}, take)({**environ, "wsgi.input": body}, "/x", {})
    assert (places, body.tell(), answer.body) == ([0], 4, b'"0123"')


def test_the_payload_is_the_query_of_a_get_and_the_body_of_the_rest() -> None:
    app = make_app(("/x", ["GET", "POST", "PUT", "PATCH", "DELETE"], lambda req: {"payload": req.payload}))
    with TestApp(app) as service:
        assert service.http("GET", "/x?a=1&a=2&b=").json == {"payload": {"a": "2", "b": ""}}
        for method in ("POST", "PUT", "PATCH", "DELETE"):
            for value in ({"a": 1}, [1], "text", 5, None):
                assert service.http(method, "/x?a=1", json=value).json == {"payload": value}
            assert service.http(method, "/x?a=1").json == {"payload": {}}
        text = service.http("POST", "/x", body="hello", headers={"content-type": "text/plain"})
        assert text.json == {"payload": {}}


def test_forms_are_read() -> None:
    app = make_app(("/x", ["POST"], lambda req: [req.payload, req.form]))
    with TestApp(app) as service:
        kind = {"content-type": "application/x-www-form-urlencoded"}
        answer = service.http("POST", "/x", body="a=1&a=2&blank=&name=M%C3%BCller+%26+Co", headers=kind)
        assert answer.json == [{"a": "2", "blank": "", "name": "Müller & Co"}] * 2
        for bad in (b"a=%ff", b"a=\xff", b"\xc3\xbc=1"):
            assert service.http("POST", "/x", body=bad, headers=kind).status == 400


@pytest.mark.parametrize("separator", [b"=1&", b"&", b"=&"])
def test_a_form_has_a_bounded_number_of_fields(separator: bytes) -> None:
    kind = {"content-type": "application/x-www-form-urlencoded"}
    with TestApp(make_app(("/x", ["POST"], lambda req: len(req.form)))) as service:
        fields = [b"f%d" % number for number in range(1001)]
        assert service.http("POST", "/x", body=separator.join(fields[:1000]), headers=kind).json == 1000
        for too_many in (fields, fields * 900):
            answer = service.http("POST", "/x", body=separator.join(too_many), headers=kind)
            assert (answer.status, answer.json["detail"]) == (400, "the form has more than 1000 fields")
        query = "&".join(f"a{number}" for number in range(1001))
        assert service.http("POST", f"/x?{query}").status == 400


def keep_turns(turns: list[float]) -> None:
    """Adds how many CPU seconds each turn of the loop takes, until it is killed."""
    while True:
        begun = time.thread_time()
        gevent.sleep(0.0001)
        turns.append(time.thread_time() - begun)


@pytest.mark.alone
@pytest.mark.parametrize(
    "body",
    [b"f%d=1&" * 900_000, b"&" * 10_000_000, b"a=" + b"%41" * 3_000_000, b"%" * 1_000_000, b"a=" + b"+" * 10_000_000],
    ids=["many fields", "no field", "all encoded", "nothing encoded well", "all spaces"],
)
def test_no_form_blocks_the_loop(body: bytes) -> None:
    kind = {"content-type": "application/x-www-form-urlencoded"}
    turns: list[float] = []

    with TestApp(make_app(("/x", ["POST"], lambda req: len(req.form)))) as service:
        watch = gevent.spawn(keep_turns, turns)
        answer = service.http("POST", "/x", body=body[:10_000_000], headers=kind)
        gevent.sleep(0.001)
        watch.kill()
    assert answer.status in (200, 400)
    assert max(turns) < 0.25  # parsed in one piece, the first body took 1.6 s; coverage and a busy machine add some


@pytest.mark.alone
def test_no_multipart_body_blocks_the_loop() -> None:
    begin, end = b'--b\r\nContent-Disposition: form-data; name="f"; filename="x"\r\n\r\n', b"\r\n--b--\r\n"
    body = begin + b"\r\n--" * 2_000_000 + end  # a near boundary at every position
    turns: list[float] = []

    watch = gevent.spawn(keep_turns, turns)
    gevent.sleep(0.001)
    content = bodies.parse(body, "multipart/form-data; boundary=b", len(body))
    gevent.sleep(0.001)
    watch.kill()
    assert len(content.files["f"].data) == 8_000_000
    assert len(turns) > 5
    assert max(turns) < 0.05  # parsed in one piece it took 0.09 s; coverage and a busy machine add some


def test_characters_across_pieces_of_a_form_are_decoded() -> None:
    kind = {"content-type": "application/x-www-form-urlencoded"}
    with TestApp(make_app(("/x", ["POST"], lambda req: req.form))) as service:
        for size in range(1360, 1370):  # pieces have 4096 bytes; each letter takes three
            text = "ü" * size + "%"
            body = urllib.parse.urlencode({"ä+": text, "": "x"})
            for start in ("", "b=1&", "cc=%&"):
                answer = service.http("POST", "/x", body=start + body + "&&=&d", headers=kind)
                assert (answer.json["ä+"], answer.json[""], answer.json["d"]) == (text, "x", "")


def test_multipart_is_read_with_its_files() -> None:
    def handler(req: HttpRequest) -> Any:
        upload = req.files["file"]
        return [req.form, upload.filename, upload.content_type, len(upload.data), sorted(req.payload)]

    body = (
        b'--X\r\nContent-Disposition: form-data; name="title"\r\n\r\nM\xc3\xbcller\r\n'
        b'--X\r\nContent-Disposition: form-data; name="file"; filename="a.bin"\r\n'
        b"Content-Type: image/x\r\n\r\n\x00\xff\r\n\r\n--X--\r\n"
    )
    with TestApp(make_app(("/x", ["POST"], handler))) as service:
        kind = {"content-type": "multipart/form-data; boundary=X"}
        answer = service.http("POST", "/x", body=body, headers=kind)
        assert answer.json == [{"title": "Müller"}, "a.bin", "image/x", 4, ["file", "title"]]
        for bad in (body[:-20], b"nonsense", body.replace(b'name="title"', b""), body.replace(b"\xc3\xbc", b"\xff")):
            assert service.http("POST", "/x", body=bad, headers=kind).status == 400
        no_boundary = {"content-type": "multipart/form-data"}
        assert service.http("POST", "/x", body=body, headers=no_boundary).status == 400


def test_a_form_that_is_not_utf_8_is_refused() -> None:
    with TestApp(make_app(("/<x>", ["GET", "POST"], lambda req, x: "handled"))) as service:
        assert service.http("GET", "/%ff").status == 400
        assert service.http("GET", "/x?a=%ff").status == 400
        bad = service.http("POST", "/x", body=b'"\xff"', headers={"content-type": "application/json"})
        assert bad.json == {"error": "Bad Request", "detail": "the body is not valid JSON"}


def test_a_body_in_memory_is_limited_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DAEBUS_HTTP_BODY_LIMIT", "1024")
    with TestApp(make_app(("/x", ["POST"], lambda req: len(req.body)))) as service:
        assert service.http("POST", "/x", body="x" * 1024).json == 1024
        assert service.http("POST", "/x", body="x" * 1025).status == 413


def test_request_and_response_are_those_of_the_request_at_hand() -> None:
    def deep() -> Any:
        return request.payload["n"]

    def handler(req: HttpRequest) -> Any:
        mine = req.payload["n"]
        for _ in range(3):
            gevent.sleep(0.001)
            assert deep() == mine
        assert gevent.spawn(deep).get() == mine
        assert request.method == "GET"
        return response.send(deep())

    with TestApp(make_app(("/x", None, handler))) as service:
        runs = [gevent.spawn(service.http, "GET", f"/x?n={n}") for n in range(50)]
        assert [run.get().json for run in runs] == [str(n) for n in range(50)]
        with pytest.raises(OutsideHandler):
            _ = request.payload


def test_a_blocking_handler_runs_in_a_thread_with_its_request() -> None:
    app = make_app()

    @app.route("/x/<name>", blocking=True)
    def handler(req: HttpRequest, name: str) -> Any:
        return [name, request.query["a"], threading.get_ident() != main]

    main = threading.get_ident()
    with TestApp(app) as service:
        assert service.http("GET", "/x/y?a=b").json == ["y", "b", True]


def test_headers_are_a_case_insensitive_dict() -> None:
    headers = Headers({"content-type": "a", "X-TEST": "b"})
    assert list(headers) == ["Content-Type", "X-Test"]
    headers["CONTENT-type"] = "c"
    assert (headers.setdefault("x-test", "z"), headers.setdefault("x-new", "n")) == ("b", "n")
    assert headers.pop("CONTENT-TYPE") == "c"
    assert (headers.pop("content-type", None), headers.pop("no", "default")) == (None, "default")
    del headers["x-NEW"]
    headers.update({"x-test": "d"}, b="e")
    headers.update([("A", "f")])
    headers |= {"a": "g"}
    assert headers == {"X-Test": "d", "B": "e", "A": "g"}
    assert headers == {"x-test": "d", "b": "e", "a": "g"}
    assert headers != {"x-test": "other"}
    for same in (headers.copy(), copy.copy(headers), copy.deepcopy(headers), pickle.loads(pickle.dumps(headers))):
        assert isinstance(same, Headers)
        assert same == headers
        assert "X-TEST" in same
    merged = headers | {"X-TEST": "h", "new": "i"}
    assert (merged["x-test"], merged["NEW"], headers["x-test"], len(merged)) == ("h", "i", "d", 4)
    assert ({"x-test": "j"} | headers)["X-TEST"] == "d"
    assert Headers.fromkeys(["a", "A"], "b") == {"a": "b"}
    assert Headers([("a", "1"), ("A", "2")]) == {"A": "2"}
    assert json.loads(codec.dumps(headers)) == {"X-Test": "d", "B": "e", "A": "g"}
    assert not any(other in headers for other in ("x", 5, None))
    missing: Any
    for missing in ("none", 5):
        with pytest.raises(KeyError):
            headers[missing]
        with pytest.raises(KeyError):
            del headers[missing]
        with pytest.raises(KeyError):
            headers.pop(missing)
    with pytest.raises(TypeError):
        hash(headers)
    with pytest.raises(TypeError):
        headers | 5


# --- paths and methods


def test_paths_of_the_same_shape_may_name_their_parameters_differently() -> None:
    app = make_app(
        ("/a/<x>", ["GET"], lambda req, x: ["get", x]),
        ("/a/<thing>", ["DELETE"], lambda req, thing: ["delete", thing]),
        ("/a/<y>/b", ["GET"], lambda req, y: ["b", y]),
        ("/a/<one>/<two>", ["GET"], lambda req, one, two: [one, two]),
        ("/a/fixed", ["GET"], lambda req: "fixed"),
        ("/a/<name>.json", ["GET"], lambda req, name: ["json", name]),
        ("/café", ["GET"], lambda req: "café"),
    )
    with TestApp(app) as service:
        assert service.http("GET", "/a/1").json == ["get", "1"]
        assert service.http("DELETE", "/a/1").json == ["delete", "1"]
        assert service.http("GET", "/a/1/b").json == ["b", "1"]
        assert service.http("GET", "/a/1/2").json == ["1", "2"]
        assert service.http("GET", "/a/fixed").json == "fixed"
        assert service.http("GET", "/a/x.json").json == ["json", "x"]
        assert service.http("GET", "/caf%C3%A9").json == "café"
        assert service.http("GET", "/a/1%2F2").json == ["get", "1/2"]
        assert service.http("GET", "/no/1%2f2").json["path"] == "/no/1%2F2"


def test_an_unknown_path_is_404_and_a_trailing_slash_is_another_path() -> None:
    with TestApp(make_app(("/a/<x>", None, lambda req, x: x), ("/b/", None, lambda req: "b"))) as service:
        for path in ("/", "/a", "/a/", "/a/1/", "/a//1", "//a/1", "/b", "/nowhere"):
            answer = service.http("GET", path)
            assert (answer.status, answer.json) == (404, {"error": "Not Found", "path": path})
        assert service.http("GET", "/b/").json == "b"


def test_another_method_is_405_with_the_allowed_ones() -> None:
    app = make_app(("/x", ["GET"], lambda req: "got"), ("/x", ["POST", "PUT"], lambda req: req.method))
    with TestApp(app) as service:
        for method in ("DELETE", "PATCH"):
            answer = service.http(method, "/x")
            assert (answer.status, answer.json["error"]) == (405, "Method Not Allowed")
            assert {"GET", "HEAD", "POST", "PUT", "OPTIONS"} == set(answer.headers["allow"].split(", "))
        assert service.http("POST", "/x").json == "POST"


def test_head_and_options_are_answered() -> None:
    with TestApp(
        make_app(("/x", None, lambda req: {"method": req.method}), ("/p", ["POST"], lambda req: 1))
    ) as service:
        head = service.http("HEAD", "/x")
        assert (head.status, head.content, head.headers["content-length"]) == (200, b"", "17")
        options = service.http("OPTIONS", "/x")
        assert (options.status, options.content) == (200, b"")
        assert set(options.headers["allow"].split(", ")) >= {"GET", "HEAD"}
        assert service.http("HEAD", "/p").status == 405


def test_a_declared_options_handler_takes_precedence() -> None:
    with TestApp(make_app(("/x", ["GET", "OPTIONS"], lambda req: req.method))) as service:
        assert service.http("OPTIONS", "/x").json == "OPTIONS"


def test_routes_added_to_a_registered_blueprint_are_served() -> None:
    app = make_app()
    blueprint = Blueprint("plants", url_prefix="/plants")
    app.register_blueprint(blueprint)
    blueprint.route("/<name>")(lambda req, name: name)
    with TestApp(app) as service:
        assert service.http("GET", "/plants/mint").json == "mint"


# --- what cannot be served


def test_routes_without_http_stop_the_start() -> None:
    app = Daebus("none")
    app.route("/x")(lambda req: 1)
    with pytest.raises(RuntimeError, match=r"no HTTP component is attached for route GET /x .*DaebusHttp") as caught:
        check(app.running())
    assert isinstance(caught.value, MissingComponent)


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("/<int:id>", "written <name>"),
        ("/<a>/<a>", "a name of its own"),
        ("/<>", "written <name>"),
        ("/<a><b>", "nothing between"),
        ("/{a}", "brace"),
        ("/it's", "quote"),
        ("/a b", "white space"),
        ("/<a", "<"),
    ],
)
def test_a_path_that_cannot_be_routed_stops_the_start(path: str, text: str) -> None:
    with pytest.raises(RegistrationError, match=text) as caught:
        check(make_app((path, None, lambda req, **params: 1)).running())
    assert "test_http_handlers.py:" in str(caught.value)


def test_one_path_declared_twice_under_two_names_stops_the_start() -> None:
    with pytest.raises(RegistrationError, match=r"GET /a/<y> is declared twice: at .* \(as /a/<x>\) and at "):
        check(make_app(("/a/<x>", None, lambda req, x: 1), ("/a/<y>", None, lambda req, y: 1)).running())


def test_port_and_host_are_as_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DAEBUS_HTTP_PORT", "9001")
    http = DaebusHttp(port=9000, host="127.0.0.1")
    assert (http.port, http.host) == (9000, "127.0.0.1")
    assert (DaebusHttp().port, DaebusHttp().host) == (8080, "0.0.0.0")
    app = Daebus("ports")
    app.attach(http)
    loaded = app.load_settings()
    assert (loaded.settings.http_port, loaded.settings.http_host) == (9001, "127.0.0.1")
    assert len(loaded.overridden) == 1
    with pytest.raises(ConfigurationError, match=r"DaebusHttp\(port\): '70000' is not a port number"):
        DaebusHttp(port=70000)


def test_without_http_every_request_is_426_upgrade_required() -> None:
    app = Daebus("sockets")
    app.attach(DaebusWebSocket(port=9000))
    result = falcon.testing.TestClient(make_wsgi(app.running())).simulate_get("/x")
    assert (result.status_code, result.headers["upgrade"]) == (426, "websocket")


def test_a_handshake_without_websockets_is_refused_clearly() -> None:
    headers = {
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "MDEyMzQ1Njc4OWFiY2RlZg==",
    }
    result = falcon.testing.TestClient(make_wsgi(make_app().running())).simulate_get("/ws", headers=headers)
    assert (result.status_code, result.json) == (400, {"error": "no WebSocket is served here"})
