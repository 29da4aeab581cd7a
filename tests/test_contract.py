"""One test of a service passes unchanged in memory and on a real bus: `TestApp(app)`, `TestApp(app, redis_url=…)`."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import pytest
from daebus_runtime import (
    Daebus,
    DaebusCaller,
    DaebusHttp,
    DaebusWebSocket,
    RemoteError,
    broadcast,
    cache,
    request,
    response,
)
from daebus_runtime.testing import TestApp

from tests.support.redis_server import RedisServer


def make_app() -> Daebus:
    """A small shop that receives and sends over every channel: actions, broadcasts, WebSocket, tasks."""
    app = Daebus("shop")
    pages = DaebusWebSocket()
    app.attach(DaebusHttp())
    app.attach(pages)
    heard: list[dict[str, Any]] = []

    @app.action("order")
    def order() -> Any:
        item = request.payload["item"]
        if item == "moon":
            return response.error("not for sale")
        response.progress({"step": "packing"}, 50)
        broadcast.send("shop.orders", {"item": item})
        cache.incr("orders")
        return {"item": item, "number": int(cache.get("orders"))}

    @app.action("order_twice")
    def order_twice() -> Any:
        shop = DaebusCaller("shop")
        return [shop.send_request("order", {"item": item}) for item in ("tea", "jam")]

    @app.listen("weather.*")
    def weather(message: dict[str, Any]) -> None:
        heard.append({"channel": request.channel, **message})
        pages.broadcast_to_all(message, "weather")

    @app.route("/heard")
    def what_was_heard(req: Any) -> Any:
        return heard

    @app.socket("greet")
    def greet(data: Any, client_id: str) -> Any:
        return {"hello": data["name"]}

    @app.background("count", 60)
    def count() -> None:
        broadcast.send("shop.counted", {"planned": request.scheduled})

    return app


@pytest.fixture(params=["memory", "redis"])
def shop(request: pytest.FixtureRequest) -> Iterator[TestApp]:
    redis: RedisServer | None = request.getfixturevalue("shared_redis") if request.param == "redis" else None
    with TestApp(make_app(), redis_url=redis.url if redis else None) as service:
        yield service


def test_an_action_answers_and_broadcasts(shop: TestApp) -> None:
    seen: list[Any] = []
    assert shop.call("order", {"item": "tea"}, on_progress=seen.append) == {"item": "tea", "number": 1}
    assert seen == [{"step": "packing", "progress_percentage": 50}]
    assert shop.broadcasts == [("shop.orders", {"item": "tea"})]


def test_an_error_reply_is_an_exception(shop: TestApp) -> None:
    with pytest.raises(RemoteError, match="not for sale"):
        shop.call("order", {"item": "moon"})
    with pytest.raises(RemoteError, match="no action 'buy'") as unknown:
        shop.call("buy")
    assert unknown.value.code == "unknown_action"


def test_a_handler_calls_its_own_service(shop: TestApp) -> None:
    answers = shop.call("order_twice")
    assert [answer["item"] for answer in answers] == ["tea", "jam"]
    assert [name for name, message in shop.sent if message["action"] == "order"] == ["shop", "shop"]


def test_a_broadcast_has_been_handled_when_it_returns(shop: TestApp) -> None:
    assert shop.broadcast("weather.rain", {"percent": 10}) == 1
    answer = shop.http("GET", "/heard")
    assert (answer.status, answer.json) == (200, [{"channel": "weather.rain", "percent": 10}])


def test_a_page_sends_a_message_and_is_notified(shop: TestApp) -> None:
    with shop.websocket("/ws") as page:
        assert page.request("greet", {"name": "Ada"}) == {"type": "response", "data": {"hello": "Ada"}}
        shop.broadcast("weather.sun", {"hours": 3})
        assert page.receive() == {"type": "weather", "data": {"hours": 3}}


def test_the_clock_runs_tasks_at_their_times(shop: TestApp) -> None:
    assert shop.clock.advance(59) == 0
    assert shop.clock.advance(122) == 3
    planned = [payload["planned"] for channel, payload in shop.broadcasts if channel == "shop.counted"]
    assert [later - earlier for earlier, later in itertools.pairwise(planned)] == [60, 60]
