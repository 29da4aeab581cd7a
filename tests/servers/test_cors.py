"""CORS: which origins are allowed, which headers the browser gets, and which configurations stop the start."""

from __future__ import annotations

from typing import Any

import pytest
from daebus_runtime import Daebus, DaebusHttp
from daebus_runtime.errors import ConfigurationError
from daebus_runtime.servers.http.application import check
from daebus_runtime.testing import HttpResult, TestApp

ORIGIN = "https://app.example"
OTHER = "https://evil.example"


def make_app(config: dict[str, Any] | None) -> Daebus:
    app = Daebus("cors")
    app.attach(DaebusHttp(cors_config=config))
    app.route("/x", ["GET", "POST"])(lambda req: 1 / int(req.query.get("n", 1)))
    return app


def ask(config: dict[str, Any] | None, origin: str | None, method: str = "GET", path: str = "/x") -> HttpResult:
    headers = {"Origin": origin} if origin else {}
    with TestApp(make_app(config)) as service:
        return service.http(method, path, headers=headers)


def preflight(config: dict[str, Any], origin: str = ORIGIN, wanted: str = "x-a, x-b") -> HttpResult:
    headers = {"Origin": origin, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": wanted}
    with TestApp(make_app(config)) as service:
        return service.http("OPTIONS", "/x", headers=headers)


def allowed(answer: HttpResult) -> dict[str, str]:
    prefix = "access-control-"
    return {name[len(prefix) :]: value for name, value in answer.headers.items() if name.startswith(prefix)}


@pytest.mark.parametrize("config", [None, {}])
def test_without_a_configuration_there_are_no_cors_headers(config: dict[str, Any] | None) -> None:
    answer = ask(config, ORIGIN)
    assert allowed(answer) == {}
    assert "vary" not in answer.headers


def test_an_allowed_origin_is_named_with_vary_for_caches() -> None:
    config = {"allowed_origins": [ORIGIN, "http://localhost:3000"], "allow_credentials": True}
    answer = ask(config, ORIGIN)
    assert allowed(answer) == {"allow-origin": ORIGIN, "allow-credentials": "true"}
    assert answer.headers["vary"] == "Origin"


@pytest.mark.parametrize("origin", [OTHER, "null", ORIGIN + ".evil.example", "http://app.example", None])
def test_another_origin_gets_no_cors_headers_but_still_vary(origin: str | None) -> None:
    answer = ask({"allowed_origins": [ORIGIN], "allow_credentials": True}, origin)
    assert answer.status == 200
    assert allowed(answer) == {}
    assert answer.headers["vary"] == "Origin"


def test_a_star_is_answered_with_a_star() -> None:
    for config in ({"allowed_origins": ["*"]}, {"allowed_origins": "*"}, {"max_age": 5}):
        answer = ask(config, OTHER)
        assert allowed(answer) == {"allow-origin": "*"}
        assert "vary" not in answer.headers


@pytest.mark.parametrize(("path", "status"), [("/nowhere", 404), ("/x?n=0", 500)])
def test_error_responses_have_cors_headers_too(path: str, status: int) -> None:
    answer = ask({"allowed_origins": [ORIGIN]}, ORIGIN, path=path)
    assert (answer.status, allowed(answer)) == (status, {"allow-origin": ORIGIN})


def test_exposed_headers_are_listed() -> None:
    answer = ask({"allowed_origins": [ORIGIN], "expose_headers": ["X-Total", "ETag"]}, ORIGIN)
    assert allowed(answer)["expose-headers"] == "X-Total, ETag"


def test_a_preflight_is_answered_from_the_configuration() -> None:
    config = {
        "allowed_origins": [ORIGIN],
        "allowed_methods": ["get", "PUT"],
        "allowed_headers": ["X-A", "Content-Type"],
        "allow_credentials": True,
        "max_age": 600,
    }
    answer = preflight(config)
    assert (answer.status, answer.content) == (200, b"")
    assert allowed(answer) == {
        "allow-origin": ORIGIN,
        "allow-credentials": "true",
        "allow-methods": "GET, PUT",
        "allow-headers": "X-A, Content-Type",
        "max-age": "600",
    }
    assert answer.headers["vary"] == "Origin"
    assert allowed(preflight(config, OTHER)) == {}


def test_without_lists_a_preflight_gets_the_paths_methods_and_what_it_asked_for() -> None:
    answer = preflight({"allowed_origins": [ORIGIN]})
    assert allowed(answer) == {"allow-origin": ORIGIN, "allow-methods": "GET, POST, HEAD", "allow-headers": "x-a, x-b"}
    assert answer.headers["vary"] == "Origin, Access-Control-Request-Headers"


@pytest.mark.parametrize(
    ("config", "text"),
    [
        ({"allowed_origins": ["*"], "allow_credentials": True}, r"allowed_origins is '\*' together with"),
        ({"allow_credentials": True}, r"allowed_origins is '\*' together with"),
        ({"allowed_origins": [ORIGIN], "allowed_headers": "*", "allow_credentials": True}, "allowed_headers is"),
        ({"allowed_origins": ["app.example"]}, "'app.example' is not an origin such as"),
        ({"allowed_origins": [ORIGIN + "/"]}, "is not an origin such as"),
        ({"allowed_origins": [ORIGIN + "/path"]}, "is not an origin such as"),
        ({"allowed_origins": 5}, "5 is not a list of texts"),
        ({"allowed_origins": [5]}, "is not a list of texts"),
        ({"allowed_methods": ["GET POST"]}, "'GET POST' is not a method"),
        ({"allowed_headers": ["X: y"]}, "'X: y' is not the name of a header field"),
        ({"max_age": "long"}, "max_age: 'long' is not a number of seconds"),
        ({"max_age": -1}, "max_age: -1 is not"),
        ({"allow_credentials": "yes"}, "'yes' is not True or False"),
        ({"alowed_origins": ["*"]}, "no key 'alowed_origins'; did you mean 'allowed_origins'"),
        (["*"], "cors_config is a dict"),
    ],
)
def test_a_contradictory_configuration_stops_the_start(config: Any, text: str) -> None:
    app = make_app(config)
    with pytest.raises(ConfigurationError, match=text):
        check(app.running())
    with pytest.raises(ConfigurationError, match=text), TestApp(app):
        pass


@pytest.mark.parametrize(
    ("written", "sent"),
    [
        ("https://App.Example", "https://app.example"),
        ("HTTPS://app.example", "https://app.example"),
        ("https://app.example:443", "https://app.example"),
        ("http://app.example:80", "http://app.example"),
        ("http://app.example:443", "http://app.example:443"),
        ("https://app.example:0443", "https://app.example"),
        ("http://localhost:03000", "http://localhost:3000"),
        ("http://[0:0:0:0:0:0:0:1]:3000", "http://[::1]:3000"),
        ("http://[2001:DB8::A]", "http://[2001:db8::a]"),
        ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
        ("https://xn--mller-kva.example", "https://xn--mller-kva.example"),
        ("chrome-extension://abcdef", "chrome-extension://abcdef"),
        ("capacitor://localhost", "capacitor://localhost"),
        ("null", "null"),
        ("https://app.example", "HTTPS://APP.EXAMPLE:443"),
    ],
)
def test_origins_are_compared_as_the_standard_does(written: str, sent: str) -> None:
    with TestApp(make_app({"allowed_origins": [written], "allow_credentials": True})) as service:
        assert allowed(service.http("GET", "/x", headers={"Origin": sent})).get("allow-origin") == sent
        for other in (f"{sent}.evil", f"{sent}1", "https://other.example", "", "null" if written != "null" else "x"):
            assert allowed(service.http("GET", "/x", headers={"Origin": other})) == {}, other


@pytest.mark.parametrize(
    "origin",
    [
        *(
            "https://a.example/",
            "https://u@a.example",
            "https://u:p@a.example",
            "https://a.example:99999",
            "https://:80",
        ),
        *("https://a.example:x", "https://müller.example", "https://a b", "https://a%20b", "https://", "//a.example"),
        *("wss://a.example", "ws://a.example", "file://a", "data://a", "https://*.a.example", "NULL", "none", ""),
        *("http://[::g]", "http://[::1", "http://127.1", "http://300.0.0.1", "http://0x7f.1", "http://1.2.3.4.5"),
        *("https://a.example, https://b.example", "https://a.example https://b.example", "https://a.example\n"),
    ],
)
def test_an_origin_that_can_never_match_stops_the_start(origin: str) -> None:
    with pytest.raises(ConfigurationError, match="is not an origin such as"):
        check(make_app({"allowed_origins": [origin]}).running())


def test_the_configuration_may_be_given_later() -> None:
    app = Daebus("cors")
    http = DaebusHttp()
    app.attach(http)
    http.configure_cors({"allowed_origins": [ORIGIN]})
    app.route("/x")(lambda req: 1)
    with TestApp(app) as service:
        assert allowed(service.http("GET", "/x", headers={"Origin": ORIGIN})) == {"allow-origin": ORIGIN}
