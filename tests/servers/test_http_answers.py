"""HTTP responses: what a handler's return value, `response.*` and exceptions become."""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
import json
import logging
import uuid
from typing import Any

import falcon.testing
import gevent
import pytest
from daebus_runtime import Daebus, DaebusHttp, HttpRequest, HttpResponse, response
from daebus_runtime.testing import HttpResult, TestApp


def make_app(*handlers: Any) -> Daebus:
    app = Daebus("http_test")
    app.attach(DaebusHttp())
    for path, methods, handler in handlers:
        app.route(path, methods)(handler)
    return app


def answer_of(result: Any) -> HttpResult:
    """The response to a handler that returns this value."""
    with TestApp(make_app(("/x", None, lambda req: result))) as service:
        return service.http("GET", "/x")


# --- what handlers return


def test_data_is_answered_as_compact_json() -> None:
    answer = answer_of({"a": [1, "ü"], "b": None})
    assert (answer.status, answer.text) == (200, '{"a":[1,"ü"],"b":null}')
    assert answer.headers["content-type"] == "application/json"


@pytest.mark.parametrize("value", ["text", [1, 2], 5, True, None, {}, "", 0, False])
def test_any_json_value_is_an_answer_and_none_is_null(value: Any) -> None:
    answer = answer_of(value)
    assert (answer.status, json.loads(answer.content)) == (200, value)


def test_a_status_and_headers_may_stand_beside_the_data() -> None:
    assert answer_of(({"id": 1}, 201)).status == 201
    answer = answer_of(({"id": 1}, 201, {"Location": "/things/1", "X-Number": 5}))
    assert (answer.status, answer.json) == (201, {"id": 1})
    assert (answer.headers["location"], answer.headers["x-number"]) == ("/things/1", "5")


def test_a_tuple_without_a_status_is_an_array() -> None:
    assert answer_of((1, 2)).json == [1, 2]
    assert answer_of((1, True)).json == [1, True]
    assert answer_of((1, 2, 3, 4)).json == [1, 2, 3, 4]


def test_no_content_has_no_body() -> None:
    answer = answer_of((None, 204))
    assert (answer.status, answer.content) == (204, b"")


def test_with_another_content_type_text_and_bytes_are_sent_unchanged() -> None:
    page = answer_of(("<p>ü</p>", 200, {"Content-Type": "text/html; charset=utf-8"}))
    assert (page.text, page.headers["content-type"]) == ("<p>ü</p>", "text/html; charset=utf-8")
    assert answer_of((b"\x00x", 200, {"content-type": "image/x"})).content == b"\x00x"
    assert answer_of(("text", 200, {"Content-Type": "application/problem+json"})).text == '"text"'


def test_a_header_may_have_several_values() -> None:
    app = make_app(("/x", None, lambda req: (1, 200, {"Set-Cookie": ["a=1", "b=2"], "Vary": ["A", "B"]})))
    with TestApp(app):
        result = falcon.testing.TestClient(app).simulate_get("/x")
        assert {name: cookie.value for name, cookie in result.cookies.items()} == {"a": "1", "b": "2"}
        assert result.headers["vary"] == "A, B"


class Colour(enum.Enum):
    RED = "red"


@dataclasses.dataclass
class Point:
    x: int
    _secret: str = "hidden"


def test_common_values_are_encoded_and_the_answer_is_valid_json() -> None:
    answer = answer_of(
        {
            "when": datetime.datetime(2020, 1, 2, 3, 4, 5, tzinfo=datetime.UTC),
            "day": datetime.date(2020, 1, 2),
            "price": decimal.Decimal("1.50"),
            "id": uuid.UUID(int=1),
            "set": {1},
            "point": Point(1),
            "bytes": b"abc",
            "colour": Colour.RED,
            "nan": float("nan"),
            "huge": 1 << 70,
        }
    )
    assert json.loads(answer.content, parse_constant=pytest.fail) == {
        "when": "2020-01-02T03:04:05+00:00",
        "day": "2020-01-02",
        "price": 1.5,
        "id": "00000000-0000-0000-0000-000000000001",
        "set": [1],
        "point": {"x": 1},
        "bytes": "abc",
        "colour": "red",
        "nan": None,
        "huge": 1 << 70,
    }


class Unknown:
    def __init__(self) -> None:
        self.public, self._password = "seen", "secret"


def test_an_unknown_object_is_an_error_and_leaks_nothing() -> None:
    answer = answer_of({"a": Unknown()})
    assert answer.status == 500
    assert "secret" not in answer.text
    assert "seen" not in answer.text


# --- response.*


def test_send_answers_whether_it_is_returned_or_not() -> None:
    def sends(req: HttpRequest) -> None:
        response.send({"by": "sent"}, 202)

    app = make_app(
        ("/sent", None, sends),
        ("/returned", None, lambda req: response.send([1], 201, {"X-A": "b"})),
        ("/success", None, lambda req: response.success("fine")),
        ("/named", None, lambda req: response.send("x", status_code=203)),
        ("/error", None, lambda req: response.error("bad thing")),
        ("/teapot", None, lambda req: response.error(ValueError("v"), 418)),
    )
    with TestApp(app) as service:
        answers = {path: service.http("GET", f"/{path}") for path in ("sent", "returned", "success", "named")}
        assert (answers["sent"].status, answers["sent"].json) == (202, {"by": "sent"})
        assert (answers["returned"].status, answers["returned"].headers["x-a"]) == (201, "b")
        assert answers["success"].json == "fine"
        assert answers["named"].status == 203
        error, teapot = service.http("GET", "/error"), service.http("GET", "/teapot")
        assert (error.status, error.json) == (400, {"status": "error", "error": "bad thing"})
        assert (teapot.status, teapot.json) == (418, {"status": "error", "error": "v"})


def test_the_classes_work_without_a_service() -> None:
    assert HttpResponse().send({"a": 1}, 201) == ({"a": 1}, 201)
    assert HttpResponse().send(1) == (1, 200)
    for wrong in (False, "200", 99, 600, None):
        with pytest.raises(ValueError, match="an HTTP status is a number"):
            HttpResponse().send(1, wrong)  # type: ignore[arg-type]
    raw = {"method": "post", "path": "/a", "params": {"x": "1"}, "headers": {"x-test": "y"}, "json": {"a": 1}}
    made = HttpRequest(raw)
    assert (made.method, made.path, made.params, made.payload, made.query) == ("POST", "/a", {"x": "1"}, {"a": 1}, {})
    assert made.headers["X-Test"] == "y"
    assert HttpRequest({"method": "GET", "query": {"a": "b"}, "json": {"c": 1}}).payload == {"a": "b"}
    assert HttpRequest({}).payload == {}


# --- what fails


def test_an_exception_is_logged_and_not_shown_to_the_client(caplog: pytest.LogCaptureFixture) -> None:
    def handler(req: HttpRequest) -> None:
        raise ValueError("the password is 1234")

    with TestApp(make_app(("/x", None, handler))) as service, caplog.at_level(logging.ERROR):
        answer = service.http("GET", "/x")
    assert (answer.status, answer.json["error"]) == (500, "Internal Server Error")
    assert set(answer.json) == {"error", "id"}
    record = next(record for record in caplog.records if answer.json["id"] in record.getMessage())
    assert record.exc_info is not None
    assert "the password is 1234" in str(record.exc_info[1])


def test_debug_shows_it_to_the_client(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DAEBUS_DEBUG", "1")
    with TestApp(make_app(("/x", None, lambda req: 1 / 0))) as service:
        assert service.http("GET", "/x").json["detail"] == "ZeroDivisionError: division by zero"


@pytest.mark.parametrize(
    "result",
    [
        ("x", 200, {"X-A": "a\r\nSet-Cookie: b=c"}),
        ("x", 200, {"X-A": "€"}),
        ("x", 200, {"Content-Length": "1"}),
        ("x", 200, {"Transfer-Encoding": "chunked"}),
        ("x", 200, 5),
        {"a": object()},
    ],
)
def test_an_answer_that_cannot_be_sent_is_an_error(result: Any) -> None:
    answer = answer_of(result)
    assert (answer.status, set(answer.json)) == (500, {"error", "id"})
    assert not {"x-a", "set-cookie"} & set(answer.headers)


@pytest.mark.parametrize(
    "headers",
    [
        *({"X Y": "a"}, {"x:y": "a"}, {"": "a"}, {"X\r\nY": "a"}, {"Ü": "a"}, {"X\0": "a"}, {"x\t": "a"}),
        *({"X": "a\nb"}, {"X": "a\rb"}, {"X": "a\0b"}, {"X": "€"}, {"X": "\x7f"}, {"X": ["a", "b\n"]}, {"X": "\ud800"}),
        *({"Content-Type": "text/€"}, {"Content-Type": "text/x\r\nX: y"}, {"content-type": "\0"}),
        *({"Connection": "close"}, {"content-length": 5}, {"TRANSFER-ENCODING": "chunked"}),
        *(
            {"X": None},
            {"X": {}},
            {"X": [["a"]]},
            {"X": {1}},
            {5: "a"},
            {None: "a"},
            {"Content-Type": None},
            {b"X Y": "a"},
        ),
        *([("X", "a", "b")], [("X",)], "text", 5, [5], {"Set-Cookie": ["a=1", "b=2\n"]}),
    ],
)
def test_a_header_that_cannot_be_sent_is_an_error_that_names_the_handler(
    headers: Any, caplog: pytest.LogCaptureFixture
) -> None:
    def refuses(req: HttpRequest) -> None:
        raise falcon.HTTPError("418 I am a teapot", headers=headers)

    app = make_app(
        (
            "/returned",
            None,
            lambda req: ("x", 200, {"Set-Cookie": "early=1", **headers} if type(headers) is dict else headers),
        ),
        ("/sent", None, lambda req: response.send("x", 201, headers)),
        ("/error", None, lambda req: response.error("x", 400, headers)),
        ("/refused", None, refuses),
        ("/empty", None, lambda req: (None, 204, headers)),
    )
    with TestApp(app) as service:
        for path in ("/returned", "/sent", "/error", "/refused", "/empty"):
            caplog.clear()
            result = service.http("GET", path)
            assert (result.status, set(result.json)) == (500, {"error", "id"}), path
            assert {name.lower() for name in result.headers} <= {"content-type", "content-length"}, path
            assert result.headers["content-type"] == "application/json"
            lines = [record.getMessage() for record in caplog.records if result.json["id"] in record.getMessage()]
            assert len(lines) == 1
            assert f"GET {path}" in lines[0]


@pytest.mark.parametrize(
    ("value", "sent"), [(5, "5"), (1.5, "1.5"), ("ü", "ü"), ("", ""), (True, "True"), (b"v\xfc", "vü")]
)
def test_a_header_value_may_be_a_number_or_any_latin_text(value: Any, sent: str) -> None:
    answer = answer_of((1, 200, {"X-A": value, "x_b-1": "y"}))
    assert (answer.status, answer.headers["x-a"]) == (200, sent)
    assert answer_of((1, 200, {b"X-A": value})).headers["x-a"] == sent


def test_a_reset_has_no_body() -> None:
    answer = answer_of(({"a": 1}, 205))
    assert (answer.status, answer.content) == (205, b"")


def test_a_gevent_timeout_that_leaves_a_handler_ends_only_its_request() -> None:
    def handler(req: HttpRequest) -> None:
        with gevent.Timeout(0.001):
            gevent.sleep(5)

    with TestApp(make_app(("/x", None, handler), ("/y", None, lambda req: 1))) as service:
        assert service.http("GET", "/x").status == 500
        assert service.http("GET", "/y").json == 1


def test_runs_are_counted_by_template() -> None:
    app = make_app(("/a/<x>", ["GET"], lambda req, x: 1 / int(x)))
    with TestApp(app) as service:
        for x in "012":
            service.http("GET", f"/a/{x}")
        service.http("GET", "/nowhere")
        work = app.metrics.work["http", "GET /a/<x>"]
        assert (work.count, work.errors) == (3, 1)
        assert ("http", "GET /nowhere") not in app.metrics.work
