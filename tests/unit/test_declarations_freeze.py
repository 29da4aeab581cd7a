"""Declarations are closed once a service has started: a later one raises an error and changes nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from daebus_runtime import Blueprint, Daebus, DaebusHttp, DaebusWebSocket
from daebus_runtime.errors import RegistrationError
from daebus_runtime.registry import Declared
from daebus_runtime.testing import TestApp

DECLARATIONS: dict[str, Callable[[Any], Any]] = {
    "action": lambda on: on.action("late"),
    "listen": lambda on: on.listen("late"),
    "route": lambda on: on.route("/late"),
    "route that cannot be": lambda on: on.route("/y{z"),
    "socket": lambda on: on.socket("late"),
    "socket_connect": lambda on: on.socket_connect(),
    "socket_disconnect": lambda on: on.socket_disconnect(),
    "socket_register": lambda on: on.socket_register(),
    "background": lambda on: on.background("late", 60),
    "thread": lambda on: on.thread("late"),
    "on_start": lambda on: on.on_start(),
    "on_stop": lambda on: on.on_stop(),
}


@pytest.fixture(scope="module")
def garden() -> Any:
    app, beds = Daebus("garden"), Blueprint("beds", "/beds")
    app.attach(DaebusHttp())
    app.attach(DaebusWebSocket())
    app.register_blueprint(beds)
    app.route("/early")(lambda req: "early")
    with TestApp(app) as service:
        yield app, beds, service


@pytest.mark.parametrize("place", ["app", "blueprint"])
@pytest.mark.parametrize("what", DECLARATIONS)
def test_nothing_is_declared_while_the_service_runs(garden: Any, what: str, place: str) -> None:
    app, beds, service = garden
    before = len(app.registry.all(Declared)), len(beds.registry.all(Declared))
    with pytest.raises(
        RegistrationError, match=r"test_declarations_freeze.*while the service runs.*before app.run\(\)"
    ):
        DECLARATIONS[what](app if place == "app" else beds)(lambda *args: None)
    assert (len(app.registry.all(Declared)), len(beds.registry.all(Declared))) == before
    assert service.http("GET", "/early").json == "early"
    assert service.http("GET", "/late").status == 404


@pytest.mark.parametrize("what", ["socket", "on_connect", "on_disconnect"])
def test_nothing_is_declared_on_a_component_either(garden: Any, what: str) -> None:
    app = garden[0]
    declare = app.websocket.socket("late") if what == "socket" else getattr(app.websocket, what)
    with pytest.raises(RegistrationError, match="while the service runs"):
        declare(lambda client_id: None)


def test_nothing_is_attached_registered_or_configured_either(garden: Any) -> None:
    app = garden[0]
    with pytest.raises(RegistrationError, match="register_blueprint comes too late: the service runs already"):
        app.register_blueprint(Blueprint("late"))
    with pytest.raises(RegistrationError, match="configure_cors comes too late: the service runs already"):
        app.http.configure_cors({"allowed_origins": ["https://a.example"]})
    bare = Daebus("bare")
    with TestApp(bare):
        for component in (DaebusHttp(), DaebusWebSocket()):
            with pytest.raises(RegistrationError, match="attach comes too late: the service runs already"):
                bare.attach(component)
    assert (bare.http, bare.websocket) == (None, None)
    bare.attach(DaebusHttp())


def test_a_handler_that_declares_gets_the_error_and_the_service_goes_on() -> None:
    app = Daebus("garden")

    @app.action("declare")
    def declare() -> str:
        app.action("late")(lambda: 1)
        return "declared"

    app.action("echo")(lambda: "here")
    with TestApp(app) as service:
        with pytest.raises(Exception, match="while the service runs"):
            service.call("declare")
        assert service.call("echo") == "here"


def test_once_it_has_stopped_more_may_be_declared() -> None:
    app, beds = Daebus("garden"), Blueprint("beds")
    app.register_blueprint(beds)
    for name in ("one", "two"):
        with TestApp(app) as service, pytest.raises(RegistrationError):
            beds.action(name)(lambda: 1)
        beds.action(name)(lambda name=name: name)
        with TestApp(app) as service:
            assert service.call(name) == name


def test_a_blueprint_of_two_applications_is_closed_while_either_runs() -> None:
    beds, one, two = Blueprint("beds"), Daebus("one"), Daebus("two")
    for app in (one, two):
        app.register_blueprint(beds)
    with TestApp(one), pytest.raises(RegistrationError, match="while the service runs"):
        beds.action("late")(lambda: 1)
    assert not two.registry.all(Declared)
