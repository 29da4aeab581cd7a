"""Whatever an author's route, socket, task or thread raises ends that run only (handlers of the bus: test_dispatch)."""

from __future__ import annotations

import datetime
from typing import Any

import gevent
import pytest
from daebus_runtime import Daebus, DaebusHttp, DaebusWebSocket
from daebus_runtime.testing import TestApp

from tests.support.waiting import wait_until


class Odd(BaseException):
    """A BaseException, so `except Exception` does not catch it."""


ERRORS = [Odd("odd"), SystemExit(3), KeyboardInterrupt(), gevent.GreenletExit(), gevent.Timeout(1), GeneratorExit()]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("blocking", [False, True], ids=["greenlet", "blocking"])
def test_a_route_and_a_socket_answer_and_a_task_and_a_thread_go_on(
    error: BaseException, blocking: bool, caplog: pytest.LogCaptureFixture
) -> None:
    app = Daebus("garden")
    app.attach(DaebusHttp())
    app.attach(DaebusWebSocket())
    runs: list[str] = []

    @app.route("/fail", blocking=blocking)
    def fail(req: Any) -> None:
        raise error

    @app.socket("fail", blocking=blocking)
    def socket_fail(data: Any, client_id: str) -> None:
        raise error

    @app.background("tick", 60, blocking=blocking)
    def tick() -> None:
        runs.append("task")
        raise error

    @app.thread("watch", native=blocking)
    def watch(running: Any) -> None:
        runs.append("thread")
        raise error

    with TestApp(app) as service:
        assert [service.http("GET", "/fail").status for _ in range(2)] == [500, 500]
        with service.websocket() as page:
            assert [page.request("fail")["type"] for _ in range(2)] == ["error", "error"]
        for _ in range(2):
            service.clock.advance(datetime.timedelta(seconds=60).total_seconds())
        wait_until(lambda: runs.count("task") == 2)
        wait_until(lambda: runs.count("thread") >= (1 if isinstance(error, SystemExit) else 2))
        assert service.app.is_running()
    assert caplog.text.count("task 'tick' failed") == 2
    assert ("thread 'watch' ended itself: SystemExit(3)" in caplog.text) is isinstance(error, SystemExit)


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_a_hook_that_fails_stops_neither_the_service_nor_the_other_hooks(
    error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    app = Daebus("garden")
    runs: list[str] = []

    @app.on_start()
    @app.on_stop()
    def fail() -> None:
        runs.append("fail")
        raise error

    @app.on_start()
    def begun() -> None:
        runs.append("begun")

    @app.on_stop()
    def ended() -> None:
        runs.append("ended")

    @app.action("ask")
    def ask() -> str:
        return "alive"

    with TestApp(app) as service:
        wait_until(lambda: "begun" in runs)
        assert service.call("ask") == "alive"
        assert service.app.is_running()
    assert runs == ["fail", "begun", "fail", "ended"]
    assert caplog.text.count("a hook failed: on_start at") == caplog.text.count("a hook failed: on_stop at") == 1
