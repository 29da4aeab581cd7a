"""Blueprints: parts of a service that are declared in modules of their own."""

from __future__ import annotations

from typing import Any

import pytest
from daebus_runtime import Blueprint, Daebus, DaebusHttp, DaebusWebSocket, request
from daebus_runtime.errors import RegistrationError
from daebus_runtime.testing import TestApp

from tests.support.waiting import wait_until


def make_beds(said: list[Any], prefix: str = "") -> Blueprint:
    """A blueprint with one of everything that may be declared."""
    beds = Blueprint("beds", prefix)
    beds.action("dig")(lambda: ["dug", request.payload])
    beds.listen("weather.*")(lambda message: said.append(message["kind"]))
    beds.background("weed", 10)(lambda: said.append("weeded"))
    beds.thread("watch")(lambda: said.append("watched"))
    beds.on_start()(lambda: said.append("start"))
    beds.on_stop()(lambda: said.append("stop"))
    beds.route("/beds/<name>")(lambda req, name: f"bed {name}")
    beds.route("/")(lambda req: "all beds")
    beds.route("/dig", methods=["POST"])(lambda req: req.json)
    beds.socket("look")(lambda data, client_id: {"seen": data})
    beds.socket_connect()(lambda data, client_id: said.append("connect"))
    beds.socket_disconnect()(lambda data, client_id: said.append("disconnect"))
    beds.socket_register()(lambda data, client_id: said.append("register"))
    return beds


@pytest.mark.parametrize("when", ["before", "after"])
def test_everything_works_as_on_the_application_registered_before_or_after_the_components(when: str) -> None:
    said: list[Any] = []
    app = Daebus("garden")
    beds = make_beds(said)
    if when == "before":
        app.register_blueprint(beds)
    app.attach(DaebusHttp())
    app.attach(DaebusWebSocket())
    if when == "after":
        app.register_blueprint(beds)
    with TestApp(app) as service:
        wait_until(lambda: {"start", "watched"} <= set(said), message=lambda: str(said))
        assert service.call("dig", {"deep": 1}) == ["dug", {"deep": 1}]
        service.broadcast("weather.rain", {"kind": "rain"})
        service.clock.advance(10)
        assert service.http("GET", "/beds/rose%20bed").json == "bed rose bed"
        assert service.http("GET", "/").json == "all beds"
        assert service.http("POST", "/dig", json={"a": 1}).json == {"a": 1}
        with service.websocket() as page:
            assert page.request("look", 5)["data"] == {"seen": 5}
    assert sorted(said) == ["connect", "disconnect", "rain", "register", "start", "stop", "watched", "weeded"]


@pytest.mark.parametrize("prefix", ["/v1", "/v1/"])
def test_a_prefix_applies_only_to_the_paths_of_its_routes(prefix: str) -> None:
    app = Daebus("garden")
    app.attach(DaebusHttp())
    app.attach(DaebusWebSocket())
    app.register_blueprint(make_beds([], prefix))
    with TestApp(app) as service:
        assert service.http("GET", "/v1").json == "all beds"
        assert service.http("GET", "/v1/beds/rose").json == "bed rose"
        assert service.http("GET", "/beds/rose").status == 404
        assert service.call("dig") == ["dug", {}]


@pytest.mark.parametrize("prefix", ["v1", " /v1"])
def test_a_prefix_that_is_not_a_path_is_refused(prefix: str) -> None:
    with pytest.raises(RegistrationError, match="the url_prefix of blueprint 'beds' starts with '/'"):
        Blueprint("beds", prefix)


def test_a_declaration_after_the_registration_counts_too() -> None:
    app, beds = Daebus("garden"), Blueprint("beds", "/beds")
    app.attach(DaebusHttp())
    app.register_blueprint(beds)
    beds.action("late")(lambda: "late")
    beds.route("/late")(lambda req: "late")
    with TestApp(app) as service:
        assert service.call("late") == "late"
        assert service.http("GET", "/beds/late").json == "late"
    with pytest.raises(RegistrationError, match="declared twice"):
        app.action("late")(lambda: 1)


def test_one_blueprint_may_serve_two_applications() -> None:
    said: list[Any] = []
    beds = Blueprint("beds")
    beds.action("dig")(lambda: "dug")
    one, two = Daebus("one"), Daebus("two")
    for app in (one, two):
        app.register_blueprint(beds)
        with TestApp(app) as service:
            said.append(service.call("dig"))
    assert said == ["dug", "dug"]


def test_two_blueprints_that_declare_the_same_are_refused_with_both_places() -> None:
    app, beds, pots = Daebus("garden"), Blueprint("beds"), Blueprint("pots")
    beds.action("dig")(lambda: "beds")
    pots.action("dig")(lambda: "pots")
    app.register_blueprint(beds)
    with pytest.raises(RegistrationError, match=r"action 'dig' is declared twice: at .*:\d+ and at .*:\d+"):
        app.register_blueprint(pots)


def test_two_blueprints_under_different_prefixes_may_declare_the_same_path() -> None:
    app = Daebus("garden")
    app.attach(DaebusHttp())
    for name in ("beds", "pots"):
        blueprint = Blueprint(name, f"/{name}")
        blueprint.route("/count")(lambda req, name=name: name)
        app.register_blueprint(blueprint)
    with TestApp(app) as service:
        assert [service.http("GET", f"/{name}/count").json for name in ("beds", "pots")] == ["beds", "pots"]
