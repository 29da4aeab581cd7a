"""What may be declared, what is refused, and that a refusal names the places."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from daebus_runtime import Blueprint, Daebus
from daebus_runtime.errors import RegistrationError
from daebus_runtime.testing import TestApp

Decorator = Callable[[Daebus], Callable[[Any], Any]]


def handler(*args: Any) -> None:
    """An author's handler."""


def other(*args: Any) -> None:
    """Another handler."""


@pytest.mark.parametrize(
    "decorate",
    [
        lambda app: app.action("a"),
        lambda app: app.listen("c"),
        lambda app: app.route("/r"),
        lambda app: app.socket("s"),
        lambda app: app.socket(message_type="s"),
        lambda app: app.socket("register"),
        lambda app: app.socket_connect(),
        lambda app: app.socket_disconnect(),
        lambda app: app.socket_register(),
        lambda app: app.background("b", 1),
        lambda app: app.thread("t"),
        lambda app: app.on_start(),
        lambda app: app.on_stop(),
    ],
)
def test_a_decorator_returns_the_function_unchanged(decorate: Decorator) -> None:
    assert decorate(Daebus("shop"))(handler) is handler


@pytest.mark.parametrize(
    ("decorate", "title"),
    [
        (lambda app: app.action("buy"), "action 'buy'"),
        (lambda app: app.socket("buy"), "socket 'buy'"),
        (lambda app: app.background("count", 1), "task 'count'"),
        (lambda app: app.thread("count"), "thread 'count'"),
        (lambda app: app.route("/buy", methods=["POST", "GET"]), "route POST GET /buy"),
    ],
)
def test_a_duplicate_is_refused_and_both_places_are_named(decorate: Decorator, title: str) -> None:
    app = Daebus("shop")
    decorate(app)(handler)
    with pytest.raises(RegistrationError) as error:
        decorate(app)(other)
    places = [f"{__file__}:{function.__code__.co_firstlineno}" for function in (handler, other)]
    assert str(error.value) == f"{title} is declared twice: at {places[0]} and at {places[1]}"


def test_a_blueprints_declaration_that_the_application_has_is_a_duplicate_too() -> None:
    app, beds = Daebus("garden"), Blueprint("beds")
    app.action("dig")(handler)
    app.register_blueprint(beds)
    with pytest.raises(RegistrationError, match="action 'dig' is declared twice"):
        beds.action("dig")(other)


def test_several_may_share_a_channel_a_hook_and_a_path_with_other_methods() -> None:
    app = Daebus("shop")
    for function in (handler, other):
        app.listen("news")(function)
        app.on_start()(function)
        app.socket_disconnect()(function)
    app.route("/buy")(handler)
    app.route("/buy", methods=["POST"])(other)


def test_the_place_named_is_the_authors_function_not_its_wrapper() -> None:
    @functools.wraps(handler)
    def wrapped(*args: Any) -> None:
        handler(*args)

    app = Daebus("shop")
    app.action("buy")(wrapped)
    with pytest.raises(RegistrationError, match=f"{handler.__code__.co_firstlineno} and at"):
        app.action("buy")(other)


@pytest.mark.parametrize(
    ("declare", "text"),
    [
        (lambda app: app.action(""), "the name of an action"),
        (lambda app: app.action(None), "the name of an action"),
        (lambda app: app.action("x" * 257), "the name of an action"),
        (lambda app: app.listen(""), "a channel name"),
        (lambda app: app.listen("two words"), "a channel name"),
        (lambda app: app.route("no-slash"), "a route's path starts with '/'"),
        (lambda app: app.route("/x", methods=["BREW"]), "a route's methods are some of"),
        (lambda app: app.route("/x", methods=[]), "a route's methods are some of"),
        (lambda app: app.socket(), "the name of a message type"),
        (lambda app: app.thread(" "), "the name of a thread"),
        (lambda app: app.action("buy")("no function"), "a handler is a function"),
        (lambda app: Blueprint("beds", url_prefix="beds"), "starts with '/'"),
        (lambda app: app.attach(object()), "attach takes a DaebusHttp or a DaebusWebSocket"),
        (lambda app: app.register_blueprint(app), "register_blueprint takes a Blueprint"),
    ],
)
def test_a_declaration_that_cannot_work_is_refused(declare: Callable[[Daebus], Any], text: str) -> None:
    with pytest.raises(RegistrationError, match=text):
        declare(Daebus("shop"))


class AsyncCallable:
    """An object that is called through its class."""

    async def __call__(self) -> None:
        pass

    async def method(self) -> None:
        pass

    @staticmethod
    async def generator() -> AsyncIterator[int]:
        yield 1


@pytest.mark.parametrize(
    "function",
    [
        AsyncCallable(),
        AsyncCallable().method,
        AsyncCallable.generator,
        functools.partial(AsyncCallable.method, AsyncCallable()),
    ],
    ids=["object", "method", "generator", "partial"],
)
def test_whatever_is_async_is_refused(function: Any) -> None:
    with pytest.raises(RegistrationError, match="is an async function"):
        Daebus("shop").action("buy")(function)


def test_a_function_that_runs_an_async_one_is_accepted() -> None:
    async def answer() -> int:
        return 42

    @functools.wraps(answer)
    def run() -> int:
        return asyncio.run(answer())

    app = Daebus("shop")
    app.action("buy", blocking=True)(run)
    with TestApp(app) as service:
        assert service.call("buy") == 42


def test_a_blueprint_is_registered_once() -> None:
    app, beds = Daebus("garden"), Blueprint("beds")
    app.register_blueprint(beds)
    with pytest.raises(RegistrationError, match="blueprint 'beds' is registered already"):
        app.register_blueprint(beds)
