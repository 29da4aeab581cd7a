"""The drain of a service with HTTP and WebSockets: work in flight is finished, idle connections delay nothing."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gevent
import pytest

from tests.servers.conftest import Service, started
from tests.servers.raw import TEXT, RawConnection, RawWebSocket, frame
from tests.support.ports import accepts
from tests.support.process import ServiceProcess
from tests.support.waiting import wait_until

PROGRAM = """
    import time
    from daebus_runtime import Daebus, DaebusHttp, DaebusWebSocket

    app = Daebus("ending")
    app.attach(DaebusHttp())
    app.attach(DaebusWebSocket())

    @app.route("/sleep/<seconds>")
    def sleep(req, seconds):
        print("request begun", flush=True)
        time.sleep(float(seconds))
        return "slept"

    @app.route("/now")
    def now(req):
        return "now"

    @app.socket("sleep")
    def socket_sleep(data, client_id):
        print("message begun", flush=True)
        time.sleep(data)
        return "slept"

    @app.socket_disconnect()
    def gone(data, client_id):
        print("client gone", flush=True)

    @app.on_stop()
    def stopped():
        print("on_stop ran", flush=True)

    app.run()
"""
Start = Callable[..., Service]


@pytest.fixture
def start(start_process: Callable[..., ServiceProcess], free_port: int) -> Start:
    """Starts the service; keyword arguments are additional settings."""

    def start(**settings: str) -> Service:
        environment = {"DAEBUS_HTTP_PORT": str(free_port), "DAEBUS_EMBEDDED": "never", **settings}
        return started(start_process(PROGRAM, env=environment), free_port)

    return start


def message(kind: str, data: Any) -> bytes:
    return frame(TEXT, json.dumps({"type": kind, "data": data}).encode())


def in_flight(service: Service, seconds: float) -> RawConnection:
    """A connection with a request in flight that takes this many seconds."""
    connection = RawConnection(service.port, timeout=30)
    connection.request("GET", f"/sleep/{seconds}")
    service.process.wait_line("request begun")
    return connection


def idle(service: Service) -> RawConnection:
    """A kept connection that has had an answer and is idle."""
    connection = RawConnection(service.port)
    assert connection.ask("GET", "/now").json == "now"
    return connection


def ended(service: Service, begun: float, within: float) -> None:
    """The process must have ended with code 0, within the limit after `begun`, and run its stop hook."""
    assert service.process.wait(within + 10) == 0, service.process.output
    assert time.monotonic() - begun < within, service.process.output
    assert service.process.count("on_stop ran") == 1
    assert "Traceback" not in service.process.output


@pytest.mark.alone
def test_idle_connections_and_silent_websockets_do_not_delay_the_end(start: Start) -> None:
    service = start()
    connections = [idle(service) for _ in range(5)] + [RawConnection(service.port)]
    half = RawConnection(service.port)
    half.send("GET /now HTTP/1.1\r\nHost:")
    silent = [RawWebSocket(service.port) for _ in range(3)]
    begun = time.monotonic()
    service.process.signal(signal.SIGTERM)
    for connection in connections:
        assert connection.ended
    assert time.monotonic() - begun < 1
    assert half.answer().status == 408
    assert half.ended
    for client in silent:
        assert client.closing()[0] == 1001
    ended(service, begun, 2)
    assert service.process.count("client gone") == 3


@pytest.mark.alone
def test_requests_in_flight_are_answered_beside_silent_websockets(start: Start) -> None:
    service = start()
    connection, waiting = in_flight(service, 2), idle(service)
    silent = [RawWebSocket(service.port) for _ in range(3)]
    begun = time.monotonic()
    service.process.signal(signal.SIGTERM)
    assert [client.closing()[0] for client in silent] == [1001] * 3
    assert waiting.ended
    wait_until(lambda: not accepts(service.port))
    answer = connection.answer()
    assert (answer.status, answer.json, answer.headers["connection"]) == (200, "slept", "close")
    assert connection.ended
    ended(service, begun, 3.5)


@pytest.mark.alone
def test_a_socket_message_in_flight_is_answered_before_the_close(start: Start) -> None:
    service = start()
    with RawWebSocket(service.port) as client:
        client.send(message("sleep", 1) + message("sleep", 60))
        service.process.wait_line("message begun")
        begun = time.monotonic()
        service.process.signal(signal.SIGTERM)
        assert client.message() == {"type": "response", "data": "slept"}
        assert client.closing()[0] == 1001
    ended(service, begun, 3.5)
    assert service.process.count("message begun") == 1


def test_a_request_that_arrived_before_the_signal_is_answered(start: Start) -> None:
    service = start()
    connections = [idle(service) for _ in range(20)]
    for connection in connections:
        connection.request("GET", "/now")
    service.process.signal(signal.SIGTERM)
    for connection in connections:
        assert connection.answer().json == "now"
        assert connection.ended
    assert service.process.wait() == 0


@pytest.mark.alone
def test_an_idle_client_may_send_one_more_request_and_is_told_to_leave(start: Start) -> None:
    service = start()
    connections, fresh = [idle(service) for _ in range(5)], RawConnection(service.port)
    service.process.signal(signal.SIGTERM)
    service.process.wait_line("draining")
    for connection in (*connections, fresh):
        connection.request("GET", "/now")
    for connection in (*connections, fresh):
        answer = connection.answer()
        assert (answer.json, answer.headers["connection"]) == ("now", "close")
        assert connection.ended
    assert service.process.wait() == 0


def test_busy_keep_alive_clients_lose_no_request(start: Start) -> None:
    service = start()
    served = [0] * 20

    def client(number: int) -> str:
        with RawConnection(service.port) as connection:
            while True:
                answer = connection.ask("GET", "/now")
                assert answer.status == 200
                served[number] += 1
                if "connection" in answer.headers:
                    return answer.headers["connection"]
                gevent.sleep(0.01 * number)

    clients = [gevent.spawn(client, number) for number in range(20)]
    wait_until(lambda: min(served) > 1)
    service.process.signal(signal.SIGTERM)
    assert [one.get(timeout=10) for one in clients] == ["close"] * 20
    assert service.process.wait() == 0


@pytest.mark.alone
def test_work_beyond_the_drain_limit_is_cut_off_and_the_stop_hook_still_runs(start: Start) -> None:
    service = start(DAEBUS_DRAIN_SECONDS="1")
    connection = in_flight(service, 60)
    begun = time.monotonic()
    service.process.signal(signal.SIGTERM)
    gevent.spawn(connection.wait_end).join(10)
    ended(service, begun, 4)
    assert service.process.count("did not end within DAEBUS_DRAIN_SECONDS and are cut") == 1


@pytest.mark.alone
def test_ctrl_c_drains_too(start: Start) -> None:
    service = start()
    client = RawWebSocket(service.port)
    worker = worker_of(service)
    begun = time.monotonic()
    service.process.signal(signal.SIGINT)
    worker_signal(worker, signal.SIGINT)  # a terminal signals the whole process group
    assert client.closing()[0] == 1001
    ended(service, begun, 3)


def test_the_worker_ends_when_its_master_is_killed(start: Start) -> None:
    service = start()
    client, connection = RawWebSocket(service.port), idle(service)
    worker = worker_of(service)
    service.process.kill()
    assert client.closing()[0] == 1001
    assert connection.ended
    wait_until(lambda: not Path(f"/proc/{worker}").exists(), 5)
    assert not accepts(service.port)
    assert service.process.count("on_stop ran") == 1


def worker_of(service: Service) -> int:
    """The worker's process id."""
    master = service.process.pid
    return int(Path(f"/proc/{master}/task/{master}/children").read_text().split()[-1])


def worker_signal(worker: int, number: signal.Signals) -> None:
    import os

    os.kill(worker, number)
