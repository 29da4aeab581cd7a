"""`@app.thread`: how it is called, how it is asked to stop, and that it is restarted after an exception."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from typing import Any

import gevent
import pytest
from daebus_runtime import Daebus, broadcast, cache
from daebus_runtime.testing import TestApp

from tests.support.redis_server import RedisServer
from tests.support.waiting import wait_until

Running = Callable[[], bool]


def test_a_thread_function_may_take_running_or_nothing() -> None:
    app, seen = Daebus("mill"), []

    @app.thread("asks")
    def asks(running: Running) -> None:
        seen.append("asks")
        while running():
            time.sleep(0.005)
        seen.append("asks was told")

    @app.thread("does_not")
    def does_not() -> None:
        seen.append("does not")

    with TestApp(app):
        wait_until(lambda: {"asks", "does not"} <= set(seen))
        assert "asks was told" not in seen
    assert "asks was told" in seen


@pytest.mark.parametrize("native", [False, True])
def test_it_can_be_started_and_stopped(native: bool) -> None:
    app = Daebus("mill")
    starts, turning = 0, False

    @app.thread("wheel", auto_start=False, native=native)
    def wheel(running: Running) -> None:
        nonlocal starts, turning
        starts, turning = starts + 1, True
        while running():
            time.sleep(0.005)
        turning = False

    with TestApp(app):
        assert starts == 0
        assert app.start_thread("wheel") is True
        wait_until(lambda: turning)
        assert app.start_thread("wheel") is True  # it runs already; no second one is started
        assert app.stop_thread("wheel", timeout=5) is True
        assert (starts, turning) == (1, False)
        assert app.start_thread("wheel") is True
        wait_until(lambda: starts == 2 and turning)
    assert turning is False


def test_it_can_be_started_and_stopped_from_an_os_thread() -> None:
    app = Daebus("mill")
    turns: list[float] = []

    @app.thread("wheel", auto_start=False)
    def wheel(running: Running) -> None:
        while running():
            turns.append(time.monotonic())
            time.sleep(0.002)

    app.action("start", blocking=True)(lambda: [app.start_thread("wheel"), app.start_thread("nosuch")])
    app.action("stop", blocking=True)(lambda: [app.stop_thread("wheel"), app.stop_thread("nosuch")])
    with TestApp(app) as service:
        for _ in range(2):
            turns.clear()
            assert service.call("start") == [True, False]
            wait_until(lambda: turns)
            assert service.call("stop") == [True, False]
            stopped = time.monotonic()
            assert service.call("stop") == [True, False]
            assert all(turn <= stopped for turn in turns)


def test_a_thread_that_never_asks_running_is_not_stopped_in_time() -> None:
    app, release = Daebus("mill"), gevent.event.Event()

    @app.thread("deaf")
    def deaf() -> None:
        release.wait()

    with TestApp(app):
        begun = time.monotonic()
        assert app.stop_thread("deaf", timeout=0.1) is False
        assert 0.1 <= time.monotonic() - begun < 2
        release.set()
        assert app.stop_thread("deaf", timeout=5) is True


def test_a_name_that_nobody_declared_is_refused_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    with TestApp(Daebus("mill")) as service:
        assert service.app.start_thread("sail") is False
        assert service.app.stop_thread("sail") is False
    assert caplog.text.count("there is no thread 'sail'") == 2


@pytest.mark.parametrize("native", [False, True])
def test_it_is_started_again_after_an_exception(native: bool, caplog: pytest.LogCaptureFixture) -> None:
    app, starts = Daebus("mill"), []

    @app.thread("fragile", native=native)
    def fragile(running: Running) -> None:
        starts.append(time.monotonic())
        if len(starts) < 3:
            raise ValueError("sand in the works")
        while running():
            time.sleep(0.005)

    with TestApp(app):
        wait_until(lambda: len(starts) == 3, 10)
    first, second = starts[1] - starts[0], starts[2] - starts[1]
    assert first >= 0.5
    assert second >= 1.0, "the second pause is longer than the first"
    assert caplog.text.count("thread 'fragile' failed; it is started again in") == 2


def test_a_thread_that_returns_is_not_started_again() -> None:
    app, starts = Daebus("mill"), []

    @app.thread("once")
    def once() -> None:
        starts.append(1)

    @app.background("look", 1)
    def look() -> None:
        pass

    with TestApp(app) as service:
        wait_until(lambda: starts)
        service.clock.advance(5)
    assert starts == [1]


def test_a_native_thread_is_an_os_thread_and_can_use_the_bus() -> None:
    app = Daebus("mill")
    found: dict[str, Any] = {}

    @app.thread("sensor", native=True)
    def sensor(running: Running) -> None:
        found["thread"] = threading.get_native_id()
        found["receivers"] = broadcast.send("mill.turned", {"by": "wind"})

    @app.listen("mill.turned")
    def turned(message: dict[str, Any]) -> None:
        found["heard"] = message

    with TestApp(app):
        wait_until(lambda: len(found) == 3)
    assert found["thread"] != threading.get_native_id()
    assert (found["receivers"], found["heard"]) == (1, {"by": "wind"})


def test_a_thread_that_is_still_stopping_is_not_started_again_and_that_is_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    app, begun, released = Daebus("mill"), gevent.event.Event(), gevent.event.Event()

    @app.thread("deaf", auto_start=False)
    def deaf() -> None:
        begun.set()
        released.wait()

    with TestApp(app):
        assert app.start_thread("deaf") is True
        assert begun.wait(5)
        assert app.stop_thread("deaf", timeout=0.05) is False
        assert app.start_thread("deaf") is False
        assert "thread 'deaf' is not started: it was asked to end and has not ended yet" in caplog.text
        released.set()
        assert app.stop_thread("deaf") is True
        assert app.start_thread("deaf") is True


def test_a_native_thread_that_is_started_often_leaves_nothing_behind(shared_redis: RedisServer) -> None:
    app, runs = Daebus("mill"), []
    app.thread("often", auto_start=False, native=True)(lambda: runs.append(cache.get("nothing")))

    def once() -> tuple[int, int]:
        before = len(runs)
        assert app.start_thread("often")
        wait_until(lambda: len(runs) > before)
        assert app.stop_thread("often")
        return len(os.listdir("/proc/self/task")), len(os.listdir("/proc/self/fd"))

    with TestApp(app, redis_url=shared_redis.url):
        threads, descriptors = once()
        for _ in range(20):
            last = once()
        assert last[0] <= threads + 10  # a leak would be 20 of them; what else this process does needs a few
        assert last[1] <= descriptors + 10
