"""A thousand clients that send half a header, a thousand that do not read, bodies that trickle or announce 8 GiB: the
others are answered, nothing is held beyond its time limit, and hardly any memory is used."""

from __future__ import annotations

import contextlib
import resource
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.servers.conftest import Service
from tests.servers.raw import RawConnection, ask
from tests.support.bystanders import Bystanders
from tests.support.waiting import wait_until

pytestmark = pytest.mark.alone

CROWD = 1000
SECONDS, SWEEP, SPARE = 2.0, 0.2, 4.0
PROGRAM = f"""
    from daebus_runtime import Daebus, DaebusHttp
    from daebus_runtime.servers.http import clock, server

    server.SWEEP_SECONDS = {SWEEP}
    clock.SECONDS.update(new={SECONDS}, header={SECONDS}, body={SECONDS}, answer={SECONDS}, idle={SECONDS})
    app = Daebus("crowded")
    app.attach(DaebusHttp())
    data = b"x" * 8_000_000

    @app.route("/big")
    def big(req):
        return data, 200, {{"Content-Type": "image/x"}}

    @app.route("/ping", methods=["GET", "POST"])
    def ping(req):
        return {{}}

    app.run()
"""
ENVIRONMENT = {"DAEBUS_HTTP_BODY_LIMIT": "10000000"}
HALF_HEADER = b"GET /ping HTTP/1.1\r\nHost: x\r\n"
UNREAD = b"GET /big HTTP/1.1\r\nHost: x\r\n\r\n"
POST = b"POST /ping HTTP/1.1\r\nHost: x\r\n"
HALF_BODY = POST + b"Content-Length: 5000\r\n\r\n"
GIB8 = 8 << 30


@pytest.fixture(autouse=True)
def enough_descriptors() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 8192), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def worker(service: Service) -> int:
    pid = service.process.pid
    return int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])


def sockets(service: Service) -> int:
    """How many sockets the worker has open."""
    count = 0
    for entry in Path(f"/proc/{worker(service)}/fd").iterdir():
        with contextlib.suppress(OSError):
            count += str(entry.readlink()).startswith("socket:")
    return count


def resident(service: Service) -> int:
    """Bytes of memory of the worker."""
    return int(Path(f"/proc/{worker(service)}/statm").read_text().split()[1]) * resource.getpagesize()


@contextlib.contextmanager
def crowd(service: Service, request: bytes) -> Iterator[list[socket.socket]]:
    """CROWD clients that send this and then neither send nor read."""
    with contextlib.ExitStack() as stack:
        clients = []
        for _ in range(CROWD):
            client = stack.enter_context(socket.socket())
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.connect(("127.0.0.1", service.port))
            client.sendall(request)
            clients.append(client)
        yield clients


@pytest.mark.parametrize("request_", [HALF_HEADER, UNREAD], ids=["half-open connections", "slow readers"])
def test_a_thousand_of_them_leave_the_service_answering_and_are_not_held(service: Service, request_: bytes) -> None:
    quiet = sockets(service)
    with Bystanders(http_port=service.port) as others:
        with crowd(service, request_):
            wait_until(lambda: sockets(service) > quiet + CROWD // 2, SECONDS, "a crowd that is served")
            limit = SECONDS + 1.0 + 2 * SWEEP + SPARE  # 1.0: after a 408 the server waits for the client to close
            wait_until(lambda: sockets(service) <= quiet + 2, limit, lambda: f"{sockets(service)} sockets to end")
        others.assert_unharmed(1.0, floor=0.2)


def test_bodies_that_trickle_leave_the_service_answering(service: Service) -> None:
    quiet = sockets(service)
    with Bystanders(http_port=service.port) as others:
        with crowd(service, HALF_BODY) as clients:
            begun = time.monotonic()
            while sockets(service) > quiet + 2:
                for client in clients:
                    with contextlib.suppress(OSError):
                        client.send(b"x")
                assert time.monotonic() - begun < SECONDS + 1.0 + 2 * SWEEP + SPARE
        others.assert_unharmed(1.0, floor=0.4)


ANNOUNCED: dict[str, Callable[[RawConnection], None]] = {
    "length": lambda client: client.send(POST + b"Content-Length: %d\r\n\r\n" % GIB8 + b"x" * 100_000),
    "chunk": lambda client: client.send(POST + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n" % GIB8 + b"x" * 100_000),
}


@pytest.mark.parametrize("kind", ANNOUNCED)
def test_eight_gibibytes_that_are_announced_cost_less_than_one_mebibyte(service: Service, kind: str) -> None:
    def announce() -> None:
        with RawConnection(service.port) as client:
            ANNOUNCED[kind](client)
            assert client.answer().status == 413

    announce()
    before = resident(service)
    for _ in range(20):
        announce()
    assert resident(service) - before < 1 << 20
    assert ask(service.port, "GET", "/ping").status == 200
