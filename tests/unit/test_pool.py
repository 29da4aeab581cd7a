"""The worker pool: lanes take turns, a lane may claim a share of the workers, the event loop runs between handlers."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import gevent
import gevent.event
import pytest
from daebus_runtime import Daebus, DaebusHttp, DaebusWebSocket, RemoteError, broadcast, request
from daebus_runtime.dispatch.pool import WorkerPool
from daebus_runtime.testing import TestApp
from gevent import monkey

from tests.support.waiting import wait_until


def hold(seconds: float) -> bool:
    """Compute without a switch to the event loop; True."""
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        pass
    return True


# --- the pool alone -------------------------------------------------------------------------------------------------
def test_a_killed_worker_is_replaced_and_waiting_jobs_still_run() -> None:
    pool = WorkerPool(1)
    lane = pool.lane(100)
    ran: list[int] = []

    def work(number: int) -> None:
        if number == 0:
            raise gevent.GreenletExit
        ran.append(number)

    for number in range(5):
        assert lane.submit(work, number)
    assert pool.drain(time.monotonic() + 5)
    assert ran == [1, 2, 3, 4]
    lane.submit(work, 5)
    assert pool.drain(time.monotonic() + 5)
    assert ran[-1] == 5


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit, GeneratorExit, gevent.Timeout])
def test_an_exception_in_a_job_ends_neither_its_worker_nor_the_process(
    error: type[BaseException], caplog: pytest.LogCaptureFixture
) -> None:
    pool = WorkerPool(1)
    lane = pool.lane(100)
    ran: list[Any] = []

    def work(number: int) -> None:
        ran.append(gevent.getcurrent())
        raise error

    for number in range(3):
        lane.submit(work, number)
    assert pool.drain(time.monotonic() + 5)
    assert len(ran) == 3
    assert len(set(ran)) == 1
    assert caplog.text.count("an internal error around a handler") == 3


def test_closing_reports_what_still_runs_and_what_never_will() -> None:
    pool = WorkerPool(2)
    first, second = pool.lane(100), pool.lane(100)
    release = gevent.event.Event()
    for number in range(3):
        first.submit(lambda number: release.wait(20), number)
        second.submit(lambda number: release.wait(20), 10 + number)
    wait_until(lambda: pool.running == 2)
    assert not pool.drain(time.monotonic() + 0.05)
    assert pool.waiting == 4
    running, queued = pool.close()
    assert (sorted(running), sorted(queued)) == ([0, 10], [1, 2, 11, 12])
    assert not first.submit(print, 1)
    assert (first.room, pool.waiting) == (0, 0)
    release.set()
    assert pool.drain(time.monotonic() + 5)


def test_lanes_that_have_work_take_turns() -> None:
    pool = WorkerPool(1)
    first, second = pool.lane(100), pool.lane(100)
    order: list[str] = []
    for number in range(50):
        assert first.submit(order.append, f"a{number}")
    for number in range(3):
        second.submit(order.append, f"b{number}")
    assert pool.drain(time.monotonic() + 5)
    assert order[:7] == ["a0", "b0", "a1", "b1", "a2", "b2", "a3"]
    assert [item for item in order if item[0] == "a"] == [f"a{number}" for number in range(50)]


@pytest.mark.parametrize(("concurrency", "most"), [(1, 1), (2, 1), (3, 2), (100, 75)])
def test_a_lane_leaves_the_other_lanes_the_share_that_they_claim(concurrency: int, most: int) -> None:
    pool = WorkerPool(concurrency)
    flooded, other = pool.lane(1000), pool.lane(1000)
    release = gevent.event.Event()
    pool.claim(flooded)
    pool.claim(other)
    for _ in range(300):
        flooded.submit(lambda argument: release.wait(20), None)
    wait_until(lambda: flooded.running == most)
    ran: list[int] = []
    other.submit(ran.append, 1)
    if most < concurrency:
        wait_until(lambda: ran)
    assert flooded.running == most
    release.set()
    assert pool.drain(time.monotonic() + 5)
    assert ran == [1]


def test_a_lane_may_use_all_workers_while_nobody_else_claims_any() -> None:
    pool = WorkerPool(10)
    lane, _ = pool.lane(100), pool.lane(100)
    pool.claim(lane)
    release = gevent.event.Event()
    for _ in range(20):
        lane.submit(lambda argument: release.wait(20), None)
    wait_until(lambda: pool.running == 10)
    release.set()
    assert pool.drain(time.monotonic() + 5)


# --- the event loop between handlers --------------------------------------------------------------------------------
def worst_tick(act: Callable[[], None]) -> float:
    """How late a timer of 1 ms was at worst while `act` ran, in seconds."""
    late = 0.0
    ended = False

    def tick() -> None:
        nonlocal late
        while not ended:
            begun = time.monotonic()
            gevent.sleep(0.001)
            late = max(late, time.monotonic() - begun - 0.001)

    clock = gevent.spawn(tick)
    gevent.sleep(0.005)
    act()
    ended = True
    clock.join()
    return late


@pytest.mark.parametrize("waits", [False, True], ids=["computes", "computes and waits"])
@pytest.mark.parametrize("concurrency", [1, 1000])
def test_a_timer_waits_for_about_one_handler(concurrency: int, waits: bool) -> None:
    """gevent runs up to 49 callbacks before it looks at its timers; run as callbacks, these took 980 ms."""
    pool = WorkerPool(concurrency)
    lane = pool.lane(1000)
    count, seconds = 30, 0.01

    def work(number: int) -> None:
        hold(seconds)
        if waits:
            gevent.sleep(0.001)

    def flood() -> None:
        for number in range(count):
            lane.submit(work, number)
        assert pool.drain(time.monotonic() + 20)

    assert worst_tick(flood) < 8 * seconds


@pytest.mark.alone
def test_a_timer_waits_for_about_one_handler_of_a_service(monkeypatch: pytest.MonkeyPatch) -> None:
    app = Daebus("slow")

    @app.action("compute")
    def compute() -> int:
        hold(0.01)
        return 1

    app.listen("news")(lambda message: hold(0.01))
    with TestApp(app) as service:

        def flood() -> None:
            calls = [gevent.spawn(service.call, "compute", None, 20) for _ in range(20)]
            for number in range(20):
                broadcast.send("news", {"n": number})
            gevent.joinall(calls, raise_error=True)
            service.settle(20)

        assert worst_tick(flood) < 0.1


# --- floods ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("waits", [False, True], ids=["computes", "waits"])
@pytest.mark.parametrize("concurrency", ["2", "40"])
def test_a_flood_of_broadcasts_leaves_requests_answered(
    concurrency: str, waits: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("DAEBUS_CONCURRENCY", concurrency)
    monkeypatch.setenv("DAEBUS_QUEUE_LIMIT", "200")
    app = Daebus("garden")
    release = gevent.event.Event()
    app.action("ask")(lambda: request.payload)

    @app.listen("news")
    def news(message: Any) -> None:
        release.wait(20) if waits else hold(0.002)

    with TestApp(app) as service:
        for number in range(400):
            broadcast.send("news", {"n": number})
        wait_until(lambda: app.metrics.dropped.get("overloaded"))
        for number in range(10):
            assert service.call("ask", number, 2) == number
        assert service.runner.consumer.busy > 50, "the flood is over already"
        release.set()
    assert caplog.text.count("a broadcast for the listener on 'news' is dropped") == 1
    assert 'reason="overloaded"' in app.metrics.text().decode()


@pytest.mark.parametrize("waits", [False, True], ids=["computes", "waits"])
def test_a_flood_of_requests_leaves_listeners_running(waits: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DAEBUS_CONCURRENCY", "4")
    monkeypatch.setenv("DAEBUS_QUEUE_LIMIT", "200")
    app = Daebus("garden")
    release = gevent.event.Event()
    heard: list[Any] = []
    app.listen("news")(heard.append)

    @app.action("ask")
    def ask() -> int:
        release.wait(20) if waits else hold(0.002)
        return 1

    def call() -> Any:
        try:
            return service.call("ask", None, 20)
        except RemoteError as error:
            return error.code

    with TestApp(app) as service:
        calls = [gevent.spawn(call) for _ in range(400)]
        wait_until(lambda: app.metrics.dropped.get("overloaded"))
        broadcast.send("news", {"n": 1})
        wait_until(lambda: heard, 2)
        assert not all(call.ready() for call in calls), "the flood is over already"
        release.set()
        answers = [call.get(timeout=20) for call in calls]
    assert set(answers) == {1, "overloaded"}
    assert answers.count(1) >= 200


def test_a_flood_of_blocking_requests_leaves_the_others_running() -> None:
    app = Daebus("garden", max_workers=2)
    release = monkey.get_original("threading", "Event")()
    app.action("measure", blocking=True)(lambda: release.wait(20) and 1)
    app.action("ping")(lambda: "pong")
    with TestApp(app) as service:
        measured = [gevent.spawn(service.call, "measure", None, 20) for _ in range(1500)]
        wait_until(lambda: service.runner.consumer.busy == 1500)
        assert service.call("ping", timeout=2) == "pong"
        release.set()
        assert {call.get(timeout=20) for call in measured} == {1}


@pytest.mark.alone
@pytest.mark.parametrize("way", ["http", "websocket"])
def test_handlers_that_many_clients_ask_for_at_once_leave_the_loop_to_the_timers(way: str) -> None:
    app = Daebus("garden")
    app.attach(DaebusHttp())
    app.attach(DaebusWebSocket())
    app.route("/compute")(lambda req: hold(0.01) and "done")
    app.socket("compute")(lambda data, client_id: hold(0.01) and "done")

    def ask() -> None:
        if way == "http":
            assert service.http("GET", "/compute").json == "done"
        else:
            with service.websocket() as page:
                begin.wait(10)
                assert page.request("compute")["data"] == "done"

    with TestApp(app) as service:
        begin = gevent.event.Event()
        asking = [gevent.spawn(ask) for _ in range(49)]
        if way == "websocket":
            wait_until(lambda: app.websocket.get_client_count() == 49)
            begin.set()
        latest, before = 0.0, time.thread_time()
        while not all(one.ready() for one in asking):
            gevent.sleep(0.001)
            now = time.thread_time()
            latest, before = max(latest, now - before), now
        gevent.joinall(asking, raise_error=True)
    assert latest < 0.15, f"a timer waited for {latest:.3f} s of computing"


# --- the end of the drain -------------------------------------------------------------------------------------------
@pytest.mark.parametrize("blocking", [False, True], ids=["greenlet", "blocking"])
def test_callers_that_are_cut_off_at_the_end_of_the_drain_get_an_error(
    blocking: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("DAEBUS_CONCURRENCY", "2")
    monkeypatch.setenv("DAEBUS_DRAIN_SECONDS", "1")
    app = Daebus("garden", max_workers=1)
    begun: list[int] = []

    @app.action("slow", blocking=blocking)
    def slow() -> str:
        begun.append(1)
        time.sleep(1.6)
        return "too late"

    with TestApp(app) as service:
        replies: list[Any] = []
        transport = service.runner.transport
        inbox = transport.subscribe("replies", lambda channel, data: replies.append(json.loads(data)))
        wait_until(lambda: inbox.confirmed)
        for number in range(6):  # over publish/subscribe, as programs on the original do
            transport.publish(
                "garden", json.dumps({"action": "slow", "request_id": number, "reply_to": "replies"}).encode()
            )
        wait_until(lambda: begun)
        wait_until(lambda: service.runner.consumer.busy == 6)
        consumer = service.runner.consumer
        began = time.monotonic()
        consumer.retire()
        consumer.drain(time.monotonic() + 0.1)
        wait_until(lambda: len(replies) == 6)
        assert time.monotonic() - began < 1
        assert {reply["code"] for reply in replies} == {"stopping"}
        assert sorted({reply["payload"]["error"].partition("; this request ")[2] for reply in replies}) == [
            "was cut off: it did not finish within DAEBUS_DRAIN_SECONDS",
            "was not begun",
        ]
        assert app.metrics.dropped == {"stopping": 6}
    assert "6 messages did not finish within DAEBUS_DRAIN_SECONDS" in caplog.text
