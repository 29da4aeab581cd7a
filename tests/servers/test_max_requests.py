"""A worker that is replaced after `DAEBUS_MAX_REQUESTS`: in order, and without a failed request."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import gevent
import pytest
from daebus_runtime.servers.http.served import Countdown, limit
from daebus_runtime.settings import Settings

from tests.servers.raw import RawConnection, RawWebSocket, ask
from tests.support.process import ServiceProcess
from tests.support.waiting import wait_until

PROGRAM = """
    import os, time
    from daebus import Daebus, DaebusHttp, DaebusWebSocket

    app = Daebus("leaky")
    app.attach(DaebusHttp())
    app.attach(DaebusWebSocket())

    @app.route("/pid")
    def pid(req):
        return os.getpid()

    @app.route("/slow")
    def slow(req):
        print("slow begun", flush=True)
        time.sleep(1)
        return "slow"

    @app.on_stop()
    def stopped():
        print("on_stop ran", flush=True)

    if __name__ == "__main__":
        app.run()
"""
Start = Callable[..., ServiceProcess]


def client(port: int, pids: set[int], served: list[int], stop: list[bool]) -> None:
    """Asks on kept connections, and connects again only when told to leave. Any other end fails."""
    connection = RawConnection(port, timeout=30)
    try:
        while not stop:
            answer = connection.ask("GET", "/pid")
            assert answer.status == 200
            pids.add(answer.json)
            served[0] += 1
            if answer.headers.get("connection") == "close":
                connection.close()
                connection = RawConnection(port, timeout=30)
            gevent.sleep(0.005)
    finally:
        connection.close()


def test_no_request_fails_while_workers_are_replaced(start_process: Start, free_port: int) -> None:
    settings = {"DAEBUS_MAX_REQUESTS": "150", "DAEBUS_MAX_REQUESTS_JITTER": "50", "DAEBUS_EMBEDDED": "never"}
    process = start_process(PROGRAM, env={"DAEBUS_HTTP_PORT": str(free_port), **settings})
    process.wait_line("service leaky started")
    pids, served, stop = set[int](), [0], list[bool]()
    clients = [gevent.spawn(client, free_port, pids, served, stop) for _ in range(10)]
    wait_until(lambda: len(pids) >= 3 or any(one.dead for one in clients), 60)
    stop.append(True)
    gevent.joinall(clients, raise_error=True, timeout=30)
    assert served[0] >= 300
    assert process.count("the worker has served its number of requests") == process.count("on_stop ran") >= 2
    assert process.terminate() == 0
    assert "Traceback" not in process.output


def test_what_is_in_flight_is_answered_and_websockets_are_told(start_process: Start, free_port: int) -> None:
    settings = {"DAEBUS_MAX_REQUESTS": "3", "DAEBUS_EMBEDDED": "never"}
    process = start_process(PROGRAM, env={"DAEBUS_HTTP_PORT": str(free_port), **settings})
    process.wait_line("service leaky started")
    socket = RawWebSocket(free_port)
    slow = RawConnection(free_port, timeout=30)
    slow.request("GET", "/slow")
    process.wait_line("slow begun")
    first = [ask(free_port, "GET", "/pid").json for _ in range(3)]
    assert len(set(first)) == 1
    assert socket.closing()[0] == 1001
    answer = slow.answer()
    assert (answer.json, answer.headers["connection"]) == ("slow", "close")
    slow.close()
    with RawConnection(free_port, timeout=30) as connection:  # waits for the next worker
        assert connection.ask("GET", "/pid").json != first[0]


def test_gunicorns_own_option_counts(start_process: Start, free_port: int, tmp_path: Path) -> None:
    (tmp_path / "leaky.py").write_text(textwrap.dedent(PROGRAM))
    line = [
        sys.executable,
        "-m",
        "gunicorn",
        "-c",
        "python:daebus_runtime.gunicorn",
        "--max-requests",
        "2",
        "leaky:app",
    ]
    environment = {"DAEBUS_HTTP_PORT": str(free_port), "DAEBUS_EMBEDDED": "never"}
    process = start_process(line, directory=tmp_path, env=environment)
    process.wait_line("service leaky started")
    first = ask(free_port, "GET", "/pid").json
    wait_until(lambda: ask(free_port, "GET", "/pid").json != first, 20)


class _Cfg:
    max_requests = max_requests_jitter = 0


@pytest.mark.parametrize(("requests", "jitter", "least", "most"), [(0, 50, 0, 0), (10, 0, 10, 10), (10, 5, 10, 15)])
def test_the_jitter(requests: int, jitter: int, least: int, most: int) -> None:
    settings = Settings(max_requests=requests, max_requests_jitter=jitter)
    seen = {limit(settings, _Cfg) for _ in range(300)}
    assert seen == set(range(least, most + 1))


def test_the_end_is_told_once() -> None:
    told: list[bool] = []
    count = Countdown(2, lambda: told.append(True))
    count(None, refused="400 Bad Request")
    for _ in range(5):
        count(None)
    assert told == [True]
