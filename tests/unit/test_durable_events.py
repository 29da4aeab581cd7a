"""Durable listeners as authors declare them, in memory and on a real bus."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
from daebus_runtime import Blueprint, Daebus, DaebusCaller, broadcast, cache, errors, request
from daebus_runtime.testing import TestApp

from tests.support.redis_server import RedisServer


@pytest.fixture(params=["memory", "redis"])
def address(request: pytest.FixtureRequest) -> Iterator[str | None]:
    if request.param == "memory":
        yield None
    else:
        server: RedisServer = request.getfixturevalue("redis_server")
        yield server.url


def test_events_reach_durable_listeners_of_the_application_and_of_blueprints(address: str | None) -> None:
    app, seen, main = Daebus("garden"), list[Any](), threading.get_ident()
    beds = Blueprint("beds")

    @app.listen("rain", durable=True)
    def rain(message: dict[str, Any]) -> None:
        seen.append(("rain", message["mm"], request.channel, request.attempt, request.redelivered))

    @beds.listen("wind", durable=True, blocking=True)
    def wind(message: dict[str, Any]) -> None:
        seen.append(("wind", message["mm"], threading.get_ident() == main))

    @app.listen("rain")
    def plain(message: dict[str, Any]) -> None:
        seen.append(("plain", message["mm"]))

    app.register_blueprint(beds)
    with TestApp(app, redis_url=address) as service:
        assert service.broadcast("rain", {"mm": 1}, durable=True) == 1
        assert sorted(seen) == [("plain", 1), ("rain", 1, "rain", 1, False)]
        seen.clear()
        assert service.broadcast("wind", {"mm": 2}, durable=True) == 1
        assert seen == [("wind", 2, False)]
        seen.clear()
        assert service.broadcast("rain", {"mm": 3}) == 1
        assert seen == [("plain", 3)]
        assert service.broadcasts == [("rain", {"mm": 1}), ("wind", {"mm": 2}), ("rain", {"mm": 3})]
        assert service.sent == []


def test_a_listener_that_fails_takes_only_its_own_commands_with_it(
    address: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    app = Daebus("garden")

    def commit(name: str) -> None:
        pipe = cache.pipeline()
        pipe.incr(name)
        request.commit(pipe)

    @app.listen("rain", durable=True)
    def first(message: dict[str, Any]) -> None:
        commit("first")

    @app.listen("rain", durable=True)
    def second(message: dict[str, Any]) -> None:
        commit("second")
        raise RuntimeError("too wet")

    @app.listen("rain", durable=True)
    def third(message: dict[str, Any]) -> None:
        commit("third")

    with TestApp(app, redis_url=address) as service:
        assert service.broadcast("rain", {}, durable=True) == 1
        found = [service.run(cache.get, name) for name in ("first", "second", "third")]
        assert found == ["1", None, "1"]
        assert "durable listener on 'rain' failed" in caplog.text
        assert service.broadcast("rain", {}, durable=True) == 1
        assert service.run(cache.get, "first") == "2"


def test_a_durable_event_belongs_to_the_chain_of_the_message_whose_handler_sent_it(address: str | None) -> None:
    app, seen = Daebus("garden"), list[Any]()

    @app.action("plan")
    def plan() -> Any:
        return {"id": request.request_id, "services": broadcast.send("planned", {"n": 1}, durable=True)}

    @app.listen("planned", durable=True)
    def planned(message: dict[str, Any]) -> None:
        seen.append(request.trail)

    with TestApp(app, redis_url=address) as service:
        answer = service.call("plan")
        service.settle()
        assert answer["services"] == 1
        (trail,) = seen
        assert trail.correlation == trail.causation == answer["id"]
        assert trail.deadline is None


def test_a_pattern_cannot_be_durable() -> None:
    with pytest.raises(errors.RegistrationError, match=r"names one channel, not the pattern 'rain\.\*'"):
        Daebus("garden").listen("rain.*", durable=True)


@pytest.mark.parametrize(
    ("channel", "payload", "error"),
    [("two words", {}, ValueError), ("rain", [1], TypeError), ("rain", {"a": object()}, TypeError)],
)
def test_what_cannot_be_sent_is_an_error(address: str | None, channel: str, payload: Any, error: type) -> None:
    app = Daebus("garden")
    app.listen("rain", durable=True)(lambda message: None)
    with TestApp(app, redis_url=address) as service, pytest.raises(error):
        DaebusCaller(service.runner.service).send_message(channel, payload, durable=True)


def test_ids_of_calls_messages_and_events(address: str | None) -> None:
    app, seen = Daebus("garden"), list[Any]()

    @app.action("water")
    def water() -> Any:
        seen.append(("water", request.request_id, request.payload))
        return len(seen)

    @app.action("note")
    def note() -> None:
        seen.append(("note", request.request_id, request.raw["n"]))

    @app.listen("rain", durable=True)
    def rain(message: dict[str, Any]) -> None:
        seen.append(("rain", request.request_id, message))

    with TestApp(app, redis_url=address) as service:
        garden = DaebusCaller("garden")
        assert [garden.send_request("water", {"a": 1}, request_id="w-1") for _ in range(3)] == [1, 1, 1]
        assert [garden.send_to_service({"n": 1}, "note", id="n-1") for _ in range(3)] == [1, 1, 1]
        assert [garden.send_message("rain", {"mm": 1}, durable=True, id="r-1") for _ in range(3)] == [1, 1, 1]
        service.settle()
        assert sorted(seen) == [("note", "n-1", 1), ("rain", "r-1", {"mm": 1}), ("water", "w-1", {"a": 1})]
        for again in (
            lambda: garden.send_request("water", {"a": 2}, request_id="w-1"),
            lambda: garden.send_to_service({"n": 2}, "note", id="n-1"),
            lambda: garden.send_message("rain", {"mm": 2}, durable=True, id="r-1"),
        ):
            with pytest.raises(errors.IdReused, match="another content"):
                again()
        with pytest.raises(errors.InvalidArgument, match="only durable events have an id"):
            garden.send_message("rain", {}, id="r-2")
        with pytest.raises(errors.InvalidArgument, match="an id has 1 to 200 characters"):
            garden.send_request("water", request_id="two words")
        assert len(seen) == 3


def test_a_handler_that_sends_the_same_twice_means_two_messages(address: str | None) -> None:
    app, seen = Daebus("garden"), list[Any]()

    @app.action("plan")
    def plan() -> None:
        for _ in range(2):
            broadcast.send("planned", {"n": 1}, durable=True)
            DaebusCaller("garden").send_to_service({"n": 2}, "note")

    @app.action("note")
    def note() -> None:
        seen.append("note")

    @app.listen("planned", durable=True)
    def planned(message: dict[str, Any]) -> None:
        seen.append("planned")
        if len(seen) < 3:
            broadcast.send("more", {"of": request.request_id}, durable=True)

    @app.listen("more", durable=True)
    def more(message: dict[str, Any]) -> None:
        seen.append("more")

    with TestApp(app, redis_url=address) as service:
        assert DaebusCaller("garden").send_to_service({}, "plan") == 1
        for _ in range(4):
            service.settle()
        assert sorted(seen)[-2:] == ["planned", "planned"]
        assert seen.count("note") == 2
