"""From a message to the run of its handler: lookup, errors, limits, metrics; one message never harms another."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any

import gevent
import gevent.event
import pytest
from daebus_runtime import (
    CallTimeout,
    Daebus,
    DaebusCaller,
    DaebusError,
    RemoteError,
    broadcast,
    logger,
    request,
    response,
)
from daebus_runtime.testing import TestApp

from tests.support.waiting import wait_until


def service_with(handler: Callable[[], Any]) -> TestApp:
    app = Daebus("garden")
    app.action("do")(handler)
    return TestApp(app)


def in_os_thread(function: Callable[[], Any]) -> Any:
    return gevent.get_hub().threadpool.apply(function)


def refusal(service: TestApp, action: str = "do", payload: Any = None) -> RemoteError:
    """The error that the call raises. It must come at once, not by a timeout."""
    begun = time.monotonic()
    with pytest.raises(RemoteError) as raised:
        service.call(action, payload, 20)
    assert time.monotonic() - begun < 2
    return raised.value


# --- which handler --------------------------------------------------------------------------------------------------
def test_an_unknown_action_is_answered_at_once_with_the_nearest_name() -> None:
    app = Daebus("garden")
    app.action("water")(lambda: "wet")
    with TestApp(app) as service:
        error = refusal(service, "watr")
        assert str(error) == "service 'garden' has no action 'watr'; did you mean 'water'?"
        assert error.code == "unknown_action"
        assert str(refusal(service, "prune")) == "service 'garden' has no action 'prune'"
        assert service.call("water") == "wet"


def test_a_caller_of_unknown_actions_cannot_fill_the_log(caplog: pytest.LogCaptureFixture) -> None:
    app = Daebus("garden")
    app.action("water")(lambda: "wet")
    with TestApp(app) as service:
        for number in range(100):
            assert refusal(service, f"dig {number}").code == "unknown_action"
    said = [record.getMessage() for record in caplog.records if "has no action 'dig" in record.getMessage()]
    assert len(said) == 1
    assert "'dig 0'; further ones are only counted (dropped, reason unknown_action)" in said[0]
    assert app.metrics.dropped["unknown_action"] == 100


def test_a_service_that_only_listens_answers_requests_too() -> None:
    app = Daebus("garden")
    app.listen("news")(lambda message: None)
    with TestApp(app) as service:
        assert refusal(service, "water").code == "unknown_action"


def test_an_action_with_an_unusual_name_is_served() -> None:
    app = Daebus("garden")
    for name in ("a b", "größe", "x" * 256, "../etc", "{}"):
        app.action(name)(lambda name=name: name)
    with TestApp(app) as service:
        for name in ("a b", "größe", "x" * 256, "../etc", "{}"):
            assert service.call(name) == name


# --- what goes wrong in a handler -----------------------------------------------------------------------------------
class Odd(BaseException):
    """A BaseException, so `except Exception` does not catch it."""


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ValueError("wrong value"), "wrong value"),
        (KeyError("missing"), "'missing'"),
        (RuntimeError(), "RuntimeError"),
        (AssertionError(), "AssertionError"),
        (gevent.Timeout(3), "3 seconds"),
        (SystemExit("bye"), "bye"),
        (SystemExit(1), "1"),
        (gevent.GreenletExit(), "GreenletExit"),
        (Odd("odd"), "odd"),
        (StopIteration(5), "5"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else "",
)
@pytest.mark.parametrize("blocking", [False, True], ids=["greenlet", "blocking"])
def test_any_exception_of_a_handler_is_an_error_reply_at_once_and_disturbs_no_other(
    error: BaseException, text: str, blocking: bool, caplog: pytest.LogCaptureFixture
) -> None:
    app = Daebus("garden")

    @app.action("fail", blocking=blocking)
    def fail() -> None:
        raise error

    app.action("work")(lambda: request.payload)
    with TestApp(app) as service:
        others = [gevent.spawn(service.call, "work", number) for number in range(20)]
        raised = refusal(service, "fail")
        assert (str(raised), raised.code) == (text, "handler_error")
        assert [other.get() for other in others] == list(range(20))
        assert service.call("work", "after") == "after"
        assert service.app.is_running()
    assert "action 'fail' failed" in caplog.text
    assert "Traceback" in caplog.text


def test_sys_exit_in_a_handler_does_not_end_the_service() -> None:
    with service_with(lambda: sys.exit(3)) as service:
        assert refusal(service).code == "handler_error"
        assert refusal(service).code == "handler_error"


# GreenletExit too: an author who raises it wants to end this run, not the pool's greenlet that it runs on.
ABORTS = [Odd("odd"), SystemExit(3), KeyboardInterrupt(), gevent.GreenletExit(), gevent.Timeout(1), GeneratorExit()]


@pytest.mark.parametrize("error", ABORTS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("blocking", [False, True], ids=["greenlet", "blocking"])
def test_whatever_a_listener_or_hook_raises_ends_that_run_only(
    error: BaseException, blocking: bool, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DAEBUS_CONCURRENCY", "1")
    app = Daebus("garden")
    heard: list[Any] = []

    @app.on_start()
    def first() -> None:
        raise error

    @app.on_start()
    def second() -> None:
        heard.append("hook")

    @app.listen("news", blocking=blocking)
    def news(message: Any) -> None:
        heard.append(message["n"])
        raise error

    with TestApp(app) as service:
        for number in range(3):
            service.broadcast("news", {"n": number})
        assert service.app.is_running()
        assert 'daebus_request_errors_total{kind="listener",name="news"} 3.0' in app.metrics.text().decode()
    assert heard == ["hook", 0, 1, 2]
    assert caplog.text.count("listener on 'news' failed") == 3
    assert caplog.text.count("a hook failed") == 1


def test_a_killed_greenlet_ends_even_after_its_handler_was_answered() -> None:
    greenlets: list[Any] = []

    def handler() -> None:
        greenlets.append(gevent.getcurrent())
        gevent.sleep(20)

    with service_with(handler) as service:
        call = gevent.spawn(service.call, "do", None, 20)
        wait_until(lambda: greenlets)
        greenlets[0].kill(timeout=5)
        assert greenlets[0].dead
        with pytest.raises(RemoteError, match="GreenletExit"):
            call.get(timeout=5)


def test_a_handler_that_gives_no_reply_is_an_error_reply_at_once() -> None:
    with service_with(lambda: None) as service:
        error = refusal(service)
    assert (str(error), error.code) == ("action 'do' returned without a reply", "no_reply")


def test_a_handler_that_gives_only_intermediate_replies_is_one_without_a_reply() -> None:
    with service_with(lambda: response.progress({}, 50)) as service:
        assert refusal(service).code == "no_reply"


def test_a_handler_that_answers_and_then_fails_has_answered(caplog: pytest.LogCaptureFixture) -> None:
    def handler() -> None:
        response.send("answer")
        raise ValueError("afterwards")

    with service_with(handler) as service:
        assert service.call("do") == "answer"
    assert "afterwards" in caplog.text


@pytest.mark.parametrize("value", [object(), lambda: 1, {"a": {1: object()}}], ids=["object", "function", "nested"])
@pytest.mark.parametrize("how", ["return", "send", "progress"])
def test_a_result_without_a_json_form_is_an_error_reply_that_names_its_type(value: Any, how: str) -> None:
    def handler() -> Any:
        return value if how == "return" else getattr(response, how)(value)

    with service_with(handler) as service:
        assert "has no JSON form" in str(refusal(service))


def test_a_result_above_the_message_limit_is_an_error_reply(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DAEBUS_MESSAGE_LIMIT", "2048")
    with service_with(lambda: "x" * request.payload) as service:
        assert len(service.call("do", 1500)) == 1500
        error = refusal(service, "do", 2048)
    assert error.code == "message_too_large"
    assert "DAEBUS_MESSAGE_LIMIT" in str(error)


@pytest.mark.parametrize("limit", [1024, 16384])
def test_an_error_text_that_is_huge_is_cut(limit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DAEBUS_MESSAGE_LIMIT", str(limit))

    def handler() -> None:
        raise ValueError("x" * 1_000_000)

    with service_with(handler) as service:
        assert 100 < len(str(refusal(service))) <= 10_000


def nested(action: str, payload: Any = None, timeout: float = 5.0) -> Any:
    return DaebusCaller("garden").send_request(action, payload, timeout)


NESTED: dict[str, tuple[Callable[[], Any], str]] = {
    "unknown action": (lambda: nested("nosuch"), "service 'garden' has no action 'nosuch'"),
    "timeout": (lambda: nested("never", timeout=0.05), "action 'never': no reply within 0.05 seconds"),
    "handler error": (lambda: nested("fail"), "planted"),
    "own code": (lambda: nested("empty"), "the tank is empty"),
    "no reply": (lambda: nested("mute"), "action 'mute' returned without a reply"),
    "too large": (lambda: nested("never", "x" * 5000), "DAEBUS_MESSAGE_LIMIT"),
    "outside": (lambda: logger.info(in_os_thread(lambda: request.payload)), "`request` can be used only while"),
}


@pytest.mark.parametrize("how", ["raised", "response.error"])
@pytest.mark.parametrize("cause", NESTED)
def test_the_error_of_a_nested_call_is_a_handler_error_with_its_text(
    cause: str, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DAEBUS_MESSAGE_LIMIT", "2048")
    act, text = NESTED[cause]
    app = Daebus("garden")
    app.action("never")(lambda: gevent.sleep(0.3))
    app.action("mute")(lambda: None)
    app.action("empty")(lambda: response.error(Coded("the tank is empty", "empty")))

    @app.action("fail")
    def fail() -> None:
        raise ValueError("planted")

    @app.action("do")
    def do() -> Any:
        if how == "raised":
            return act()
        try:
            act()
        except Exception as error:
            response.error(error)

    with TestApp(app) as service:
        error = refusal(service)
        assert error.code == "handler_error"
        assert text in str(error)
        if isinstance(error, RemoteError) and cause in ("unknown action", "own code"):
            assert "service 'garden', action" in str(error)


class Coded(Exception):
    def __init__(self, text: Any, code: Any) -> None:
        super().__init__(text)
        self.code = code


class Failing(Exception):
    """An object whose every method raises."""

    @property
    def code(self) -> str:
        raise KeyError("code")

    def __str__(self) -> str:
        raise KeyError("text")


class Word(str):
    """A subclass of str."""


class OutOfStock(DaebusError):
    code = "out_of_stock"


@pytest.mark.parametrize(
    ("error", "text", "code"),
    [
        (Coded("broken", "valve_stuck"), "broken", "valve_stuck"),
        (Coded("broken", Word("word")), "broken", "word"),
        (Coded("broken", lambda: "called"), "broken", "error"),
        (Coded("broken", 404), "broken", "error"),
        (Coded("broken", None), "broken", "error"),
        (Coded("broken", ""), "broken", "error"),
        (Coded("broken", "x" * 1_000_000), "broken", "error"),
        (Coded("broken", "two\nlines"), "broken", "error"),
        (Coded("broken", "\ud800"), "broken", "error"),
        (Coded("broken", object()), "broken", "error"),
        (Coded("\ud800 half", "half"), "\\ud800 half", "half"),
        (Failing(), "Failing", "error"),
        (OutOfStock("none left"), "none left", "out_of_stock"),
        (SystemExit(3), "3", "error"),
        (RuntimeError(), "RuntimeError", "error"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_an_exception_given_as_an_error_keeps_its_text_and_a_code_that_is_a_short_text(
    error: BaseException, text: str, code: str
) -> None:
    with service_with(lambda: response.error(error)) as service:
        raised = refusal(service)
    assert (str(raised), raised.code) == (text, code)


@pytest.mark.parametrize(
    ("error", "text", "code"),
    [
        (Failing(), "Failing", "handler_error"),
        (Coded("broken", "valve_stuck"), "broken", "handler_error"),
        (Coded("\ud800 half", 1), "\\ud800 half", "handler_error"),
        (OutOfStock("none left"), "none left", "out_of_stock"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_the_caller_is_answered_even_if_the_exception_itself_is_broken(
    error: BaseException, text: str, code: str
) -> None:
    def handler() -> None:
        raise error

    with service_with(handler) as service:
        raised = refusal(service)
    assert (str(raised), raised.code) == (text, code)


def test_a_listener_that_fails_is_logged_and_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    app = Daebus("garden")
    heard: list[Any] = []

    @app.listen("news")
    def first(message: Any) -> None:
        if message["n"] < 2:
            raise (ValueError("planted"), gevent.Timeout(1))[message["n"]]
        heard.append(message["n"])

    @app.listen("news")
    def second(message: Any) -> None:
        heard.append(-message["n"])

    with TestApp(app) as service:
        for number in range(4):
            service.broadcast("news", {"n": number})
    assert sorted(heard) == [-3, -2, -1, 0, 2, 3]
    assert caplog.text.count("listener on 'news' failed") == 2


def test_a_broadcast_that_is_not_an_object_is_counted_and_reaches_no_listener() -> None:
    app = Daebus("garden")
    heard: list[Any] = []
    app.listen("news")(heard.append)
    with TestApp(app) as service:
        for data in (b"[1]", b"not JSON", b'"text"', b"\xff"):
            service.runner.transport.publish("news", data)
        service.broadcast("news", {"fine": True})
        assert heard == [{"fine": True}]
        assert app.metrics.dropped == {"malformed_message": 4}


# --- how many at the same time --------------------------------------------------------------------------------------
def test_a_handler_that_waits_delays_no_other() -> None:
    app = Daebus("garden")
    release = gevent.event.Event()
    app.action("slow")(lambda: release.wait(20))
    app.action("quick")(lambda: "quick")
    with TestApp(app) as service:
        slow = [gevent.spawn(service.call, "slow") for _ in range(50)]
        assert service.call("quick") == "quick"
        release.set()
        assert [call.get() for call in slow] == [True] * 50


def test_no_more_run_at_the_same_time_than_concurrency_and_no_more_wait_than_queue_limit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DAEBUS_CONCURRENCY", "3")
    monkeypatch.setenv("DAEBUS_QUEUE_LIMIT", "5")
    release = gevent.event.Event()
    running = most = 0

    def handler() -> str:
        nonlocal running, most
        running += 1
        most = max(most, running)
        release.wait(20)
        running -= 1
        return "done"

    with service_with(handler) as service:
        calls = []
        for _ in range(8):
            calls.append(gevent.spawn(service.call, "do", None, 20))
            gevent.sleep(0.005)
        wait_until(lambda: running == 3)
        metrics = service.app.metrics.text().decode()
        assert "daebus_in_flight 3.0" in metrics
        error = refusal(service)
        assert error.code == "overloaded"
        assert "too many messages wait" in str(error)
        release.set()
        assert [call.get() for call in calls] == ["done"] * 8
        assert service.call("do") == "done"
    assert most == 3
    assert service.app.metrics.dropped == {"overloaded": 1}


def test_broadcasts_beyond_the_queue_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DAEBUS_CONCURRENCY", "1")
    monkeypatch.setenv("DAEBUS_QUEUE_LIMIT", "2")
    app = Daebus("garden")
    release = gevent.event.Event()
    heard: list[Any] = []

    @app.listen("news")
    def news(message: Any) -> None:
        release.wait(20)
        heard.append(message["n"])

    with TestApp(app) as service:
        for number in range(6):
            broadcast.send("news", {"n": number})
            gevent.sleep(0.005)
        release.set()
        wait_until(lambda: len(heard) == 3)
        service.settle()
    assert heard == [0, 1, 2]
    assert app.metrics.dropped == {"overloaded": 3}


def test_a_thousand_handlers_can_wait_at_the_same_time_by_default() -> None:
    barrier: list[int] = []
    release = gevent.event.Event()

    def handler() -> int:
        barrier.append(1)
        if len(barrier) == 1000:
            release.set()
        assert release.wait(20), f"only {len(barrier)} handlers run at the same time"
        return 1

    with service_with(handler) as service:
        calls = [gevent.spawn(service.call, "do", None, 20) for _ in range(1000)]
        assert sum(call.get() for call in calls) == 1000


def test_messages_begin_in_the_order_they_came() -> None:
    begun: list[int] = []

    def handler() -> int:
        begun.append(request.payload)
        gevent.sleep(0)
        return 1

    with service_with(handler) as service:
        service.call("do", -1)
        begun.clear()
        gevent.joinall([gevent.spawn(service.call, "do", n) for n in range(300)], raise_error=True)
    assert begun == list(range(300))


def test_handlers_that_never_wait_leave_room_for_others() -> None:
    """A flood of short messages must not delay timers and sockets."""
    ticks: list[float] = []

    def tick() -> None:
        while True:
            ticks.append(time.monotonic())
            gevent.sleep(0.001)

    def handler() -> int:
        until = time.perf_counter() + 0.0005
        while time.perf_counter() < until:
            pass
        return 1

    with service_with(handler) as service:
        clock = gevent.spawn(tick)
        begun = time.monotonic()
        gevent.joinall([gevent.spawn(service.call, "do", None, 20) for _ in range(600)], raise_error=True)
        ended = time.monotonic()
        clock.kill()
    assert ended - begun > 0.3
    assert sum(begun < moment < ended for moment in ticks) > 10


# --- measuring ------------------------------------------------------------------------------------------------------
def test_runs_and_failures_are_counted_by_action_and_listener() -> None:
    app = Daebus("garden")
    app.action("fine")(lambda: 1)
    app.action("mute")(lambda: None)
    app.listen("news")(lambda message: message["there"])

    @app.action("fail")
    def fail() -> None:
        raise ValueError("planted")

    with TestApp(app) as service:
        service.call("fine")
        service.call("fine")
        for action in ("fail", "mute", "nosuch"):
            refusal(service, action)
        service.broadcast("news", {"there": 1})
        service.broadcast("news", {})
        text = app.metrics.text().decode()
    for line in (
        'daebus_requests_total{kind="action",name="fine"} 2.0',
        'daebus_request_errors_total{kind="action",name="fine"} 0.0',
        'daebus_requests_total{kind="action",name="fail"} 1.0',
        'daebus_request_errors_total{kind="action",name="fail"} 1.0',
        'daebus_request_errors_total{kind="action",name="mute"} 1.0',
        'daebus_requests_total{kind="listener",name="news"} 2.0',
        'daebus_request_errors_total{kind="listener",name="news"} 1.0',
        'daebus_request_seconds_count{kind="action",name="fine"} 2.0',
    ):
        assert line in text, text
    assert "nosuch" not in text  # labels hold names that the author declared, never names from a message


def test_a_call_that_times_out_does_not_disturb_the_service() -> None:
    release = gevent.event.Event()
    with service_with(lambda: release.wait(20)) as service:
        with pytest.raises(CallTimeout, match=r"service 'garden', action 'do': no reply within 0.05 seconds"):
            service.call("do", None, 0.05)
        release.set()
        service.settle()
        assert service.call("do") is True
