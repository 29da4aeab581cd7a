"""No connection is kept beyond its time limit, neither on the service's port nor on the management port."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.servers.conftest import Service, started
from tests.servers.raw import RawConnection, ask
from tests.support.bystanders import Bystanders
from tests.support.ports import free_port
from tests.support.process import ServiceProcess
from tests.support.redis_server import RedisServer
from tests.support.waiting import wait_until

pytestmark = pytest.mark.alone

TABLE = {"new": 0.8, "idle": 1.5, "header": 0.8, "body": 0.8, "answer": 0.8, "linger": 0.8}
SWEEP = 0.2
SPARE = 2.0  # seconds that a busy machine may add

PROGRAM = f"""
    import math
    from daebus_runtime import Daebus, DaebusHttp
    from daebus_runtime.servers.http import clock, server

    server.SWEEP_SECONDS = {SWEEP}
    timed = {{phase for phase, seconds in clock.SECONDS.items() if seconds < math.inf}}
    assert timed == set({TABLE}), timed
    clock.SECONDS.update({TABLE})
    app = Daebus("timed")
    app.attach(DaebusHttp())
    runs = []

    @app.route("/run", methods=["POST"])
    def run(req):
        runs.append(req.payload)
        return len(req.body)

    @app.route("/runs")
    def get_runs(req):
        return len(runs)

    @app.route("/big")
    def big(req):
        return "x" * 20_000_000

    @app.route("/ping")
    def ping(req):
        return {{}}

    app.run()
"""
JSON = "Content-Type: application/json"
FORM = "Content-Type: application/x-www-form-urlencoded"
MULTIPART = "Content-Type: multipart/form-data; boundary=X"
CHUNKED = "Transfer-Encoding: chunked"
HALF_BODIES = {
    "no byte": ([JSON, "Content-Length: 10"], b""),
    "half of it": ([JSON, "Content-Length: 10"], b"[1,2"),
    "half of a large one": ([JSON, "Content-Length: 5000000"], b"[" * 100_000),
    "half a form": ([FORM, "Content-Length: 10"], b"a=1"),
    "half a multipart": (
        [MULTIPART, "Content-Length: 500"],
        b'--X\r\nContent-Disposition: form-data; name="a"\r\n\r\n',
    ),
    "no chunk": ([JSON, CHUNKED], b""),
    "half a size": ([JSON, CHUNKED], b"5"),
    "half an extension": ([JSON, CHUNKED], b"5;a"),
    "half a chunk": ([JSON, CHUNKED], b"5\r\n12"),
    "no end of a chunk": ([JSON, CHUNKED], b"5\r\n12345"),
    "no last chunk": ([JSON, CHUNKED], b"5\r\n12345\r\n"),
    "no end of the trailers": ([JSON, CHUNKED], b"5\r\n12345\r\n0\r\nA: b\r\n"),
    "the leave to send, unused": ([JSON, "Content-Length: 10", "Expect: 100-continue"], b""),
}


def half_a_body(kind: str) -> Callable[[RawConnection], None]:
    fields, body = HALF_BODIES[kind]
    return lambda connection: connection.request("POST", "/run", *fields, body=body)


HALVES: dict[str, Callable[[RawConnection], None]] = {
    **{f"body: {kind}": half_a_body(kind) for kind in HALF_BODIES},
    "half a request line": lambda connection: connection.send("GET /ru"),
    "half a header": lambda connection: connection.send("GET /runs HTTP/1.1\r\nHost: x\r\n"),
}
SILENT: dict[str, Callable[[RawConnection], object]] = {
    "silence": lambda connection: None,
    "after a request": lambda connection: connection.ask("GET", "/runs"),
    "half a body that nobody reads": lambda connection: connection.request(
        "POST", "/x", "Content-Length: 9", body=b"1"
    ),
    "no reading": lambda connection: connection.request("GET", "/big"),
    "no reading, pipelined": lambda connection: connection.send(b"GET /big HTTP/1.1\r\nHost: x\r\n\r\n" * 3),
    "sending after the end": lambda connection: connection.request("POST", "/x", "Content-Length: 999999", body=b"1"),
}


def runs(service: Service) -> int:
    return int(ask(service.port, "GET", "/runs").json)


def connections(process: ServiceProcess) -> int:
    """How many sockets a service's processes have open, including closed connections that still have bytes to send."""
    group = [Path("/proc", str(pid), "fd") for pid in (process.pid, *children(process.pid))]
    links = []
    for folder in group:
        for entry in folder.iterdir():
            with contextlib.suppress(OSError):
                links.append(str(entry.readlink()))
    return sum(link.startswith("socket:") for link in links)


def children(pid: int) -> list[int]:
    return [int(text) for text in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@pytest.mark.parametrize("kind", HALF_BODIES)
def test_a_body_whose_sender_stops_in_the_middle_is_400_at_once_and_never_executed(service: Service, kind: str) -> None:
    before = runs(service)
    with RawConnection(service.port) as connection:
        half_a_body(kind)(connection)
        connection.end_sending()
        answer = connection.answer()
        if answer.status == 100:
            answer = connection.answer()
        assert answer.status == 400
        assert connection.ended
    assert runs(service) == before


def test_half_of_anything_is_answered_in_time_and_never_executed(service: Service) -> None:
    before = runs(service)
    with Bystanders(http_port=service.port) as others, contextlib.ExitStack() as stack:
        begun = time.monotonic()
        open_ones = {kind: stack.enter_context(RawConnection(service.port)) for kind in HALVES}
        for kind, connection in open_ones.items():
            HALVES[kind](connection)
        for kind, connection in open_ones.items():
            answer = connection.answer()
            assert (answer.status, answer.headers["connection"]) == (408, "close"), kind
            assert connection.ended, kind
        assert 0.7 < time.monotonic() - begun < 2 * (TABLE["body"] + SWEEP) + TABLE["linger"] + SWEEP + SPARE
        others.assert_unharmed(1.0, floor=0.2)
    assert runs(service) == before


def test_a_silent_client_is_cut_off_in_time_in_every_phase(service: Service) -> None:
    quiet = connections(service.process)
    with contextlib.ExitStack() as stack:
        begun = time.monotonic()
        for start in SILENT.values():
            connection = RawConnection(service.port)
            stack.callback(connection.close)
            start(connection)
        wait_until(lambda: connections(service.process) >= quiet + 4, 1, "connections that are held")
        # One limit may follow another: after the time for an unread body comes the linger after the response.
        wait_until(lambda: connections(service.process) <= quiet, 3 * SWEEP + 3 + SPARE, "the end of every connection")
        assert time.monotonic() - begun > 0.7


def test_a_trickling_body_gets_its_time_limit_and_no_more(service: Service) -> None:
    before, begun = runs(service), time.monotonic()
    with RawConnection(service.port, timeout=0.05) as connection:
        connection.request("POST", "/run", JSON, "Content-Length: 100000")
        while True:
            with contextlib.suppress(TimeoutError):
                assert connection.answer().status == 408
                break
            connection.send(b"x")
    assert time.monotonic() - begun < TABLE["body"] + SWEEP + SPARE
    assert runs(service) == before


def test_a_slow_body_above_the_lowest_rate_is_accepted(service: Service) -> None:
    with RawConnection(service.port) as connection:
        connection.request("POST", "/run", "Content-Length: 25000")
        for _ in range(25):
            connection.send(b"x" * 1000)
            time.sleep(0.06)  # not a wait for something: it makes the rate four times the lowest allowed one
        assert connection.answer().json == 25_000


def test_a_slow_reader_above_the_lowest_rate_gets_the_whole_response(service: Service) -> None:
    with RawConnection(service.port) as connection:
        connection.request("GET", "/big")
        begun = time.monotonic()
        size = 0
        while size < 20_000_000 and (data := connection.socket.recv(300_000)):
            size += len(data)
            if time.monotonic() - begun < 1.6:
                time.sleep(0.1)
    assert size >= 20_000_000


# --- the management port

PROBED = f"""
    from daebus_runtime import Daebus
    from daebus_runtime.servers.http import clock, server

    server.SWEEP_SECONDS = {SWEEP}
    clock.SECONDS.update({TABLE})
    app = Daebus("probed")

    @app.action("ping")
    def ping():
        return {{}}

    app.run()
"""


@pytest.fixture(scope="module")
def probed(session_redis: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service without HTTP; its port is the management port."""
    port = free_port()
    environment = {
        "DAEBUS_REDIS_URL": session_redis.url,
        "DAEBUS_MANAGEMENT_PORT": str(port),
        "DAEBUS_MANAGEMENT_HOST": "127.0.0.1",
    }
    with ServiceProcess(PROBED, directory=tmp_path_factory.mktemp("probed"), env=environment) as process:
        yield started(process, port)
        assert process.terminate() == 0, process.output


def test_unfinished_headers_do_not_lock_out_the_probes(probed: Service, session_redis: RedisServer) -> None:
    quiet = connections(probed.process)
    with (
        Bystanders(http_port=probed.port, path="/readyz", redis_url=session_redis.url, service="probed") as others,
        contextlib.ExitStack() as stack,
    ):
        for number in range(300):
            start = ("", "GET /livez HT", "GET /livez HTTP/1.1\r\nHost: x\r\n")[number % 3]
            stack.enter_context(RawConnection(probed.port)).send(start)
            ask(probed.port, "GET", "/livez")
        assert connections(probed.process) < quiet + 150
        others.assert_unharmed(1.0, floor=0.2)
        wait_until(lambda: connections(probed.process) <= quiet + 2, 3 * SWEEP + 2 + SPARE, "the end of the halves")


def test_the_management_port_is_as_strict_as_the_other(probed: Service) -> None:
    for fields, status in (([], 200), (["Host: a b"], 400), (["X : y"], 400), (["Content-Length: 1" + "0" * 9], 200)):
        answer = ask(probed.port, "GET", "/livez", *fields, host=not fields or "Host" not in fields[0])
        assert answer.status == status
    with RawConnection(probed.port) as connection:
        answer = connection.ask("HEAD", "/nowhere")
        assert (answer.status, answer.headers["content-length"]) == (404, "39")
        assert connection.ask("POST", "/livez").headers["allow"] == "GET, HEAD"
        assert connection.ask("GET", "/livez").json == {"live": True}
