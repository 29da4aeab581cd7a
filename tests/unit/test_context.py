"""`request`, `response`, `broadcast`, `cache` and `logger` always belong to the message that is being handled."""

from __future__ import annotations

import concurrent.futures
import contextvars
import logging
import random
import threading
from collections.abc import Callable
from typing import Any

import gevent
import gevent.pool
import pytest
from daebus_runtime import Daebus, RemoteError, broadcast, cache, direct_logger, get_daemon, logger, request, response
from daebus_runtime.errors import OutsideHandler
from daebus_runtime.testing import TestApp
from gevent import monkey

from tests.support.waiting import wait_until

start_native_thread: Any = monkey.get_original("_thread", "start_new_thread")


def in_native_thread(function: Callable[[], Any]) -> Any:
    """Run the function in a real OS thread, not one of gevent's; other greenlets run meanwhile. Returns its result."""
    results: list[Any] = []

    def run() -> None:
        try:
            results.append(function())
        except BaseException as error:
            results.append(error)

    start_native_thread(run, ())
    wait_until(lambda: results)
    return results[0]


# --- outside --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", ["payload", "raw", "reply_to", "request_id", "service"])
def test_request_outside_a_handler_is_a_clear_error(name: str) -> None:
    with pytest.raises(OutsideHandler, match="`request` can be used only while a message is handled"):
        getattr(request, name)


@pytest.mark.parametrize("name", ["send", "success", "error", "progress"])
def test_response_outside_a_handler_is_a_clear_error(name: str) -> None:
    with pytest.raises(OutsideHandler, match="`response` can be used only while a message is handled"):
        getattr(response, name)


def test_broadcast_and_cache_without_a_service_are_a_clear_error() -> None:
    for use in (lambda: broadcast.send("channel", {}), lambda: cache.get("key"), get_daemon):
        with pytest.raises(RuntimeError, match="no Daebus application runs in this process"):
            use()


def test_repr_of_the_names_raises_nothing() -> None:
    assert "request" in repr(request)
    assert "response" in repr(response)
    assert "Redis client" in repr(cache)


def test_outside_a_handler_they_raise_also_while_a_service_runs() -> None:
    app = Daebus("garden")
    with TestApp(app):
        with pytest.raises(OutsideHandler):
            request.payload  # noqa: B018
        assert isinstance(in_native_thread(lambda: request.payload), OutsideHandler)
        assert get_daemon() is app


# --- what a handler sees --------------------------------------------------------------------------------------------
def test_the_fields_of_a_request() -> None:
    app = Daebus("garden")
    seen: list[Any] = []

    @app.action("look")
    def look() -> None:
        seen.extend([request.payload, request.service, request.request_id, request.reply_to, request.raw])
        assert app.request.payload == request.payload
        response.send("seen")

    with TestApp(app) as service:
        assert service.call("look", {"plant": "basil"}) == "seen"
    payload, name, identity, reply_to, raw = seen
    assert (payload, name) == ({"plant": "basil"}, "garden")
    assert raw == {
        "action": "look",
        "payload": {"plant": "basil"},
        "reply_to": reply_to,
        "request_id": identity,
        "service": "garden",
    }
    assert reply_to.startswith("caller:")
    assert identity


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        ({"a": 1}, {"a": 1}),
        ('{"a": [1]}', {"a": [1]}),
        ("5", 5),
        ("plain text", "plain text"),
        ([1, 2], [1, 2]),
        (7, 7),
        (False, False),
    ],
    ids=repr,
)
def test_a_payload_that_is_text_holding_json_is_parsed(sent: Any, expected: Any) -> None:
    app = Daebus("garden")

    @app.action("look")
    def look() -> None:
        response.send(request.payload)

    with TestApp(app) as service:
        assert service.call("look", sent) == expected


def test_functions_that_a_handler_calls_see_its_request() -> None:
    app = Daebus("garden")

    def deep(levels: int) -> Any:
        return request.payload["n"] if not levels else deep(levels - 1)

    @app.action("look")
    def look() -> Any:
        return deep(50)

    with TestApp(app) as service:
        assert service.call("look", {"n": 7}) == 7


def spawned(function: Callable[[], Any]) -> Any:
    return gevent.spawn(function).get()


def spawned_by_a_spawned_one(function: Callable[[], Any]) -> Any:
    return gevent.spawn(lambda: gevent.spawn(function).get()).get()


def in_a_pool(function: Callable[[], Any]) -> Any:
    return gevent.pool.Pool(2).spawn(function).get()


def later(function: Callable[[], Any]) -> Any:
    return gevent.spawn_later(0.005, function).get()


def in_a_thread(function: Callable[[], Any]) -> Any:
    results: list[Any] = []
    thread = threading.Thread(target=lambda: results.append(function()))
    thread.start()
    thread.join()
    return results[0]


EXECUTOR = concurrent.futures.ThreadPoolExecutor(2)


def in_a_kept_executor(function: Callable[[], Any]) -> Any:
    return EXECUTOR.submit(function).result()


WAYS = [spawned, spawned_by_a_spawned_one, in_a_pool, later, in_a_thread, in_a_kept_executor]


# Not tested: one executor used by several OS threads. Its queue and locks are gevent's and belong to one thread
# (docs/threads.md).
COMBINATIONS = [(way, kind) for kind in (False, True) for way in WAYS if not (kind and way is in_a_kept_executor)]


@pytest.mark.parametrize(
    ("way", "blocking"),
    COMBINATIONS,
    ids=[f"{way.__name__}-{'blocking' if kind else 'greenlet'}" for way, kind in COMBINATIONS],
)
def test_each_of_many_concurrent_messages_sees_its_own_request_in_greenlets_and_threads(
    way: Callable[[Callable[[], Any]], Any], blocking: bool
) -> None:
    app = Daebus("garden", max_workers=4)

    @app.action("look", blocking=blocking)
    def look() -> Any:
        mine = request.payload["n"]
        gevent.sleep(random.random() / 200)
        response.progress({"n": mine}, 50)
        before = request.payload["n"]
        elsewhere = way(lambda: (request.payload["n"], request.request_id, get_daemon().service))
        assert elsewhere == (mine, request.request_id, "garden")
        return [mine, before, request.payload["n"]]

    def call(number: int) -> tuple[Any, list[Any]]:
        progress: list[Any] = []
        return service.call("look", {"n": number}, 20, progress.append), progress

    with TestApp(app) as service:
        calls = [gevent.spawn(call, number) for number in range(100)]
        for number, done in enumerate(calls):
            assert done.get() == ([number] * 3, [{"n": number, "progress_percentage": 50}])


def test_a_greenlet_that_outlives_its_handler_keeps_its_own_message() -> None:
    app = Daebus("garden")
    release = gevent.event.Event()
    seen: list[Any] = []

    def outlive() -> None:
        release.wait()
        seen.append(request.payload)

    @app.action("look")
    def look() -> Any:
        if request.payload == "first":
            gevent.spawn(outlive)
        return request.payload

    with TestApp(app) as service:
        for payload in ("first", "second", "third"):
            service.call("look", payload)
        release.set()
        wait_until(lambda: seen)
    assert seen == ["first"]


def test_a_context_variable_of_one_message_is_never_seen_by_the_next() -> None:
    variable: contextvars.ContextVar[Any] = contextvars.ContextVar("variable", default="fresh")
    app = Daebus("garden")

    @app.action("look")
    def look() -> Any:
        before = variable.get()
        variable.set(request.payload)
        return before

    with TestApp(app) as service:
        assert [service.call("look", number) for number in range(5)] == ["fresh"] * 5


def test_tasks_and_threads_never_see_a_request() -> None:
    """On the original a task still sees the request that was handled last."""
    app = Daebus("garden")
    seen: list[Any] = []

    @app.action("ask")
    def ask() -> Any:
        return "answer"

    @app.background("task", 10)
    def task() -> None:
        seen.append((request.payload, request.request_id, request.service))
        with pytest.raises(OutsideHandler, match="nobody waits for an answer"):
            response.send("to whom?")

    @app.thread("thread", auto_start=False)
    def thread() -> None:
        with pytest.raises(OutsideHandler):
            request.payload  # noqa: B018
        seen.append("thread")

    with TestApp(app) as service:
        service.call("ask", {"secret": 1})
        service.clock.advance(10)
        app.start_thread("thread")
        wait_until(lambda: len(seen) == 2)
    assert seen == [({}, None, "garden"), "thread"]


def test_in_a_listener_request_is_the_broadcast() -> None:
    app = Daebus("garden")
    seen: list[Any] = []

    @app.listen("sensors.*")
    def sensors(message: dict[str, Any]) -> None:
        seen.append((message, request.payload, request.raw, request.channel, request.service))
        with pytest.raises(OutsideHandler):
            response.send("to whom?")

    with TestApp(app) as service:
        assert service.broadcast("sensors.door", {"open": True}) == 1
    assert seen == [({"open": True}, {"open": True}, {"open": True}, "sensors.door", "garden")]


def test_two_applications_in_one_process_do_not_mix() -> None:
    one, two = Daebus("one"), Daebus("two")
    for app in (one, two):

        @app.action("who")
        def who() -> Any:
            gevent.sleep(0.001)
            return [request.service, get_daemon().service]

    with TestApp(one) as first:
        assert first.call("who") == ["one", "one"]
    with TestApp(two) as second:
        assert second.call("who") == ["two", "two"]


# --- answers --------------------------------------------------------------------------------------------------------
def answering(handler: Callable[[], Any]) -> tuple[TestApp, list[Any]]:
    app = Daebus("garden")
    app.action("ask")(handler)
    return TestApp(app), []


@pytest.mark.parametrize("value", [{"a": 1}, [1], "text", 5, True, False, 0, "", [], {}], ids=repr)
@pytest.mark.parametrize("how", ["return", "send", "success"])
def test_a_handler_answers_by_return_or_by_response(value: Any, how: str) -> None:
    def handler() -> Any:
        return value if how == "return" else getattr(response, how)(value)

    test, _ = answering(handler)
    with test as service:
        assert service.call("ask") == value


def test_response_send_of_none_is_null() -> None:
    test, _ = answering(lambda: response.send(None))
    with test as service:
        assert service.call("ask") is None


def test_a_sent_reply_wins_over_the_return_value() -> None:
    def handler() -> Any:
        response.send("sent")
        return "returned"

    test, _ = answering(handler)
    with test as service:
        assert service.call("ask") == "sent"


def test_progress_and_intermediate_replies_come_before_the_final_one() -> None:
    def handler() -> Any:
        response.progress({"step": 1}, 25)
        response.progress({"step": 2})
        response.progress("text", 75.5)
        response.send("part", False)
        response.send("part", final=False)
        response.error("soft", False)
        return "whole"

    test, seen = answering(handler)
    with test as service:
        assert service.call("ask", on_progress=seen.append) == "whole"
    assert seen == [
        {"step": 1, "progress_percentage": 25},
        {"step": 2},
        {"data": "text", "progress_percentage": 75.5},
        "part",
        "part",
        {"error": "soft"},
    ]


def test_a_second_final_reply_is_logged_and_not_sent(caplog: pytest.LogCaptureFixture) -> None:
    def handler() -> Any:
        response.send("first")
        response.send("second")
        response.error("third")
        response.progress({"too": "late"})

    test, seen = answering(handler)
    with test as service:
        assert service.call("ask", on_progress=seen.append) == "first"
        assert service.call("ask") == "first"
        assert service.app.metrics.dropped == {}
    assert seen == []
    assert caplog.text.count("a reply after the final one was not sent") == 6


class Refusal(Exception):
    code = "refused_by_author"


@pytest.mark.parametrize(
    ("error", "text", "code"),
    [
        ("bad thing", "bad thing", "error"),
        (ValueError("wrong value"), "wrong value", "error"),
        ({"code": 7}, '{"code":7}', "error"),
        (Refusal("no"), "no", "refused_by_author"),
    ],
    ids=repr,
)
def test_response_error_raises_its_text_at_the_caller(error: Any, text: str, code: str) -> None:
    test, _ = answering(lambda: response.error(error))
    with test as service, pytest.raises(RemoteError) as raised:
        service.call("ask")
    assert (str(raised.value), raised.value.code) == (text, code)
    assert (raised.value.service, raised.value.action) == ("garden", "ask")


# --- broadcast ------------------------------------------------------------------------------------------------------
def test_broadcast_goes_to_listeners_and_counts_them() -> None:
    app = Daebus("garden")
    heard: list[Any] = []
    app.listen("news")(heard.append)
    app.listen("news")(heard.append)

    @app.action("tell")
    def tell() -> int:
        return broadcast.send("news", request.payload)

    with TestApp(app) as service:
        assert service.call("tell", {"a": 1}) == 1  # receivers are connections: one, with two listeners
        service.settle()
        assert heard == [{"a": 1}, {"a": 1}]
        assert service.broadcasts == [("news", {"a": 1})]
        assert app.broadcast.send("nobody", {}) == 0


@pytest.mark.parametrize("channel", ["", None, 5, "two words", "new\nline", "x" * 600, "\ud800"], ids=repr)
def test_a_bad_channel_name_is_a_value_error(channel: Any) -> None:
    with TestApp(Daebus("garden")), pytest.raises(ValueError, match="channel name"):
        broadcast.send(channel, {})


@pytest.mark.parametrize(
    "payload",
    [[], "text", None, 5, {1, 2}, {"a": object()}, {"a": lambda: 1}],
    ids=["list", "text", "None", "number", "set", "object within", "function within"],
)
def test_a_payload_that_is_not_a_json_object_is_a_type_error(payload: Any) -> None:
    with TestApp(Daebus("garden")), pytest.raises(TypeError):
        broadcast.send("channel", payload)


def test_broadcast_works_from_an_os_thread() -> None:
    app = Daebus("garden")
    heard: list[Any] = []
    app.listen("news")(heard.append)
    with TestApp(app):
        assert in_native_thread(lambda: broadcast.send("news", {"from": "thread"})) == 1
        wait_until(lambda: heard)
    assert heard == [{"from": "thread"}]


# --- cache ----------------------------------------------------------------------------------------------------------
def test_cache_takes_and_gives_text_here_and_in_os_threads() -> None:
    app = Daebus("garden")

    @app.action("keep", blocking=True)
    def keep() -> Any:
        cache.set("key", request.payload)
        return cache.get("key")

    with TestApp(app) as service:
        assert service.call("keep", "grün") == "grün"
        assert cache.get("key") == app.cache.get("key") == "grün"
        assert cache.get("other") is None


# --- loggers --------------------------------------------------------------------------------------------------------
def fields(record: logging.LogRecord) -> dict[str, Any]:
    found: dict[str, Any] = getattr(record, "daebus", {})
    return found


def test_logger_says_service_request_and_trace_and_direct_logger_does_not(caplog: pytest.LogCaptureFixture) -> None:
    app = Daebus("garden")
    caplog.set_level("INFO")

    @app.action("say")
    def say() -> Any:
        logger.info("by logger")
        gevent.spawn(app.logger.info, "by a greenlet").join()
        direct_logger.info("directly")
        return request.request_id

    with TestApp(app) as service:
        identity = service.call("say")
        logger.info("beside")
        in_native_thread(lambda: logger.info("in a thread"))
    logger.info("outside")
    said = {record.message: record for record in caplog.records}
    about = fields(said["by logger"])
    assert (about["service"], about["request_id"]) == ("garden", identity)
    assert len(about["trace_id"]) == 32
    assert fields(said["by a greenlet"]) == about
    assert fields(said["directly"]) == {}
    assert fields(said["beside"]) == fields(said["in a thread"]) == {"service": "garden"}
    assert fields(said["outside"]) == {}


def test_a_trace_id_that_came_with_the_message_is_kept(caplog: pytest.LogCaptureFixture) -> None:
    app = Daebus("garden")
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    caplog.set_level("INFO")

    @app.listen("news")
    def news(message: Any) -> None:
        logger.info("heard")

    with TestApp(app) as service:
        service.broadcast("news", {"traceparent": f"00-{trace}-00f067aa0ba902b7-01"})
    assert [fields(record)["trace_id"] for record in caplog.records if record.message == "heard"] == [trace]
