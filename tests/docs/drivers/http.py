"""docs/http.md"""

from __future__ import annotations

import pytest
from daebus_runtime.errors import RegistrationError

from tests.docs.drivers import drives
from tests.docs.stage import Stage

PAGE = "http.md"


@drives(PAGE, "hello", "hello-session", slow=True)
def smallest(stage: Stage) -> None:
    # Runs without Redis: nobody listens at this address.
    process = stage.start("hello", DAEBUS_REDIS_URL="redis://127.0.0.1:1")
    stage.session("hello-session")
    assert process.terminate() == 0


@drives(PAGE, "notes")
def notes(stage: Stage) -> None:
    module = stage.load()
    with stage.service(module) as service:
        assert module.app.routes == {"/notes": ["GET"], "/notes/<name>": ["DELETE", "GET", "PUT"]}
        assert service.http("GET", "/notes").json == {"tea": "buy some"}
        assert service.http("GET", "/notes/none%20such").json == {"status": "error", "error": "no note 'none such'"}
        made = service.http("PUT", "/notes/milk", json={"text": "two litres"})
        assert (made.status, made.json, made.headers["location"]) == (201, {"text": "two litres"}, "/notes/milk")
        assert service.http("GET", "/notes/milk").json == {"text": "two litres"}
        gone = service.http("DELETE", "/notes/milk")
        assert (gone.status, gone.content) == (204, b"")
        refused = service.http("POST", "/notes/milk")
        assert (refused.status, refused.json["error"]) == (405, "Method Not Allowed")
        assert set(refused.headers["allow"].split(", ")) == {"GET", "HEAD", "PUT", "DELETE", "OPTIONS"}
        assert service.http("HEAD", "/notes").status == 200
        assert service.http("OPTIONS", "/notes").status in (200, 204)
        assert service.http("GET", "/x").json == {"error": "Not Found", "path": "/x"}
        assert service.http("GET", "/x").status == 404
        bad = service.http("PUT", "/notes/milk", body="{", headers={"content-type": "application/json"})
        assert (bad.status, bad.json["error"]) == (400, "Bad Request")
        failed = service.http("PUT", "/notes/milk", json={})
        assert (failed.status, failed.json["error"], set(failed.json)) == (
            500,
            "Internal Server Error",
            {"error", "id"},
        )
        with pytest.raises(RegistrationError, match="twice"):
            module.app.route("/notes")(lambda req: None)


@drives(PAGE, "request")
def request(stage: Stage) -> None:
    with stage.service() as service:
        seen = service.http("POST", "/seen/a%20b?x=1&x=2&y=", json={"n": 1}, headers={"X-Token": "t", "Cookie": "c=d"})
        assert seen.json == {
            "method": "POST",
            "path": "/seen/a b",
            "params": {"what": "a b"},
            "query": {"x": "2", "y": ""},
            "token": "t",
            "cookie": "d",
            "payload": {"n": 1},
        }


@drives(PAGE, "cors")
def cors(stage: Stage) -> None:
    with stage.service() as service:
        asked = {"Origin": "https://app.example"}
        headers = service.http("GET", "/status", headers=asked).headers
        assert headers["access-control-allow-origin"] == "https://app.example"
        assert headers["access-control-allow-credentials"] == "true"
        asked["Access-Control-Request-Method"] = "GET"
        assert service.http("OPTIONS", "/status", headers=asked).headers["access-control-max-age"] == "600"
        foreign = service.http("GET", "/status", headers={"Origin": "https://other.example"})
        assert foreign.status == 200
        assert "access-control-allow-origin" not in foreign.headers


@drives(PAGE, "page")
def page(stage: Stage) -> None:
    with stage.service() as service:
        answer = service.http("GET", "/")
        assert answer.headers["content-type"] == "text/html; charset=utf-8"
        assert answer.text == "<h1>Open</h1>"
