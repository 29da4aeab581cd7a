"""One HTTP client that floods the service, or never reads, does not delay the others."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator

import pytest

from tests.servers.conftest import Service
from tests.servers.raw import RawConnection, ask, secured
from tests.support.bystanders import Bystanders
from tests.support.waiting import wait_until

pytestmark = pytest.mark.alone

PROGRAM = """
    import time
    from daebus_runtime import Daebus, DaebusHttp

    app = Daebus("flooded")
    app.attach(DaebusHttp())
    turns = []  # CPU seconds of each, which another program's load does not change

    @app.thread("clock")
    def clock(running):
        while running():
            begun = time.thread_time()
            time.sleep(0.0001)
            turns.append(time.thread_time() - begun)

    @app.route("/turns")
    def cost(req):
        seen = sorted(turns)
        turns.clear()
        return {"turns": len(seen), "p95": seen[len(seen) * 95 // 100], "worst": seen[-1]}

    @app.route("/ping", methods=["GET", "POST"])
    def ping(req):
        return {}

    @app.route("/big")
    def big(req):
        return "x" * 500_000

    app.run()
"""
ENVIRONMENT = {"DAEBUS_HTTP_BODY_LIMIT": "50000"}
GET = b"GET /ping HTTP/1.1\r\nHost: x\r\n\r\n"
CHUNKED = b"Host: x\r\nTransfer-Encoding: chunked\r\n\r\n"
FLOODS = {
    "pipelined requests": GET * 100,
    "many short header lines": (GET[:-2] + b"".join(b"A%d:\r\n" % n for n in range(90)) + b"\r\n") * 20,
    "tiny chunks": (b"POST /ping HTTP/1.1\r\n" + CHUNKED + b"1\r\nx\r\n" * 20_000 + b"0\r\n\r\n"),
    "a body that nobody wants": b"POST /nowhere HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n"
    + b"x" * 1_000_000,
    "unwanted chunks": b"POST /nowhere HTTP/1.1\r\n" + CHUNKED + b"1\r\nx\r\n" * 100_000,
    "too many bytes of header": b"GET /ping HTTP/1.1\r\nHost: x\r\n" + (b"A: " + b"x" * 8000 + b"\r\n") * 9,
    "large answers": b"GET /big HTTP/1.1\r\nHost: x\r\n\r\n",
}


@contextlib.contextmanager
def flooding(port: int, *floods: bytes) -> Iterator[list[int]]:
    """Starts a client for each flood, which sends it again and again and reads. Yields the answer counts."""
    over = threading.Event()
    answers = [0] * len(floods)

    def send(connection: socket.socket, flood: bytes) -> None:
        with contextlib.suppress(OSError):
            while not over.is_set():
                connection.sendall(flood)

    def client(number: int) -> None:
        while not over.is_set():
            with (
                contextlib.suppress(OSError),
                secured(socket.create_connection(("127.0.0.1", port), timeout=5), port) as connection,
            ):
                sender = threading.Thread(target=send, args=(connection, floods[number]))
                sender.start()
                with contextlib.suppress(OSError):
                    while not over.is_set() and (data := connection.recv(1_000_000)):
                        answers[number] += data.count(b"HTTP/1.1 ")
                    connection.shutdown(socket.SHUT_RDWR)
                sender.join()

    clients = [threading.Thread(target=client, args=(number,)) for number in range(len(floods))]
    for one in clients:
        one.start()
    try:
        yield answers
    finally:
        over.set()
        for one in clients:
            one.join()


@pytest.mark.parametrize(
    ("floods", "answers"), [(list(FLOODS)[:1], 200), (list(FLOODS)[1:], 1)], ids=["pipelined", "everything at once"]
)
def test_a_flooding_client_does_not_delay_the_others(service: Service, floods: list[str], answers: int) -> None:
    with Bystanders(http_port=service.port) as others, flooding(service.port, *(FLOODS[one] for one in floods)) as seen:
        ask(service.port, "GET", "/turns")
        wait_until(lambda: min(seen) >= answers, 20, lambda: f"each client is served too: {seen}")
        turns = ask(service.port, "GET", "/turns").json
        others.assert_unharmed(1.0, floor=0.2)
    assert turns["p95"] < 0.010, turns
    assert "is held" not in service.process.output


def test_clients_that_never_read_do_not_delay_the_others(service: Service) -> None:
    with Bystanders(http_port=service.port) as others, contextlib.ExitStack() as stack:
        for _ in range(50):
            connection = stack.enter_context(RawConnection(service.port))
            connection.request("GET", "/big")
        others.assert_unharmed(1.0, floor=0.2)
