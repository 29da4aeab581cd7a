"""Messages that wait for a connection: each expires at its own deadline, in any order, and one whose sender got
an error is never sent later. What is already being sent fails with its connection."""

from __future__ import annotations

import contextlib
import gc
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import gevent
import pytest
from daebus_runtime import DaebusCaller, RemoteError
from daebus_runtime.envelope import Request
from daebus_runtime.errors import BusUnavailable
from daebus_runtime.metrics import Metrics
from daebus_runtime.transport import Limits, State, home, topology
from daebus_runtime.transport.redis import RedisTransport
from gevent import socket as sockets
from gevent.server import StreamServer

from tests.support.bystanders import Bystanders
from tests.support.ports import free_port as find_free_port
from tests.support.redis_server import RedisServer
from tests.support.waiting import wait_until
from tests.support.wire import wait_for_subscriber

Make = Callable[..., RedisTransport]


@pytest.fixture
def member() -> Iterator[Make]:
    made: list[RedisTransport] = []

    def make(port: int, send_seconds: float = 0.3, metrics: Metrics | None = None) -> RedisTransport:
        url = f"redis://127.0.0.1:{port}/0"
        made.append(RedisTransport(topology.of(url), home.current(), Limits(1 << 26, send_seconds), metrics))
        return made[-1]

    yield make
    for one in made:
        one.close()


def ask(transport: RedisTransport, timeout: float, payload: Any = None) -> Any:
    return transport.request(Request("garden", "do", payload), timeout)


def heard_by(client: Any, channel: str) -> Any:
    pubsub = client.pubsub(ignore_subscribe_messages=True)
    pubsub.subscribe(channel)
    pubsub.get_message(timeout=1)
    return pubsub


def all_messages(pubsub: Any) -> list[str]:
    return [message["data"] for message in iter(lambda: pubsub.get_message(timeout=0.2), None)]


def test_a_short_deadline_behind_a_long_one_is_kept_and_nothing_is_sent_after_it(
    redis_server: RedisServer, member: Make
) -> None:
    transport = member(redis_server.port)
    transport.open()
    wait_until(lambda: transport.state is State.UP)
    redis_server.kill()
    wait_until(lambda: transport.state is State.DOWN)
    link = transport.bus.commands  # type: ignore[attr-defined]
    long_one: list[Any] = []
    link.post(b"*1\r\n$4\r\nPING\r\n", long_one.append, 60.0)
    begun = time.monotonic()
    with pytest.raises(BusUnavailable):
        transport.publish("news", b'"late"')
    assert 0.29 < time.monotonic() - begun < 0.6
    redis_server.start()
    client = redis_server.client()
    news = heard_by(client, "news")
    wait_until(lambda: long_one == [b"PONG"] or long_one == ["PONG"], 5, lambda: str(long_one))
    wait_until(lambda: transport.state is State.UP)
    transport.publish("news", b'"next"')
    assert all_messages(news) == ['"next"']
    client.close()


def test_a_call_that_failed_while_the_bus_was_away_is_not_sent_later(redis_server: RedisServer, member: Make) -> None:
    transport = member(redis_server.port, 5.0)
    transport.open()
    wait_until(lambda: transport.state is State.UP)
    inbox = transport.bus.inbox
    with pytest.raises(TimeoutError):
        ask(transport, 0.2)  # creates the inbox
    assert transport.bus.is_confirmed(inbox.name)
    transport.bus.commands.stream.end("for this test")  # type: ignore[attr-defined]
    redis_server.kill()
    killed = gevent.spawn(ask, transport, 30.0, "killed")
    with pytest.raises(BusUnavailable):
        ask(transport, 0.2, "in time no more")
    killed.kill()
    kept = gevent.spawn(ask, transport, 5.0, "kept")
    redis_server.start()
    client = redis_server.client()
    garden = heard_by(client, "garden")
    transport.bus.channels.subscribe("marker", print)
    wait_until(lambda: transport.state is State.UP)
    gevent.sleep(0)
    said = "".join(all_messages(garden))
    assert "killed" not in said
    assert "no more" not in said
    kept.kill()
    client.close()


def test_replies_that_expire_while_the_bus_is_away_are_counted_and_logged_once(
    free_port: int, member: Make, caplog: pytest.LogCaptureFixture
) -> None:
    metrics = Metrics()
    transport = member(free_port, 0.1, metrics)
    transport.open()
    for _ in range(50):
        transport.post("caller:somebody", b"{}")
    wait_until(lambda: metrics.dropped.get("bus_away") == 50)
    assert sum("its time was over" in record.getMessage() for record in caplog.records) == 1


class HalfClosing:
    """Speaks just enough RESP3 to be taken for a server. At the first message it closes its sending half and reads no
    more."""

    def __init__(self) -> None:
        self.server = StreamServer(("127.0.0.1", 0), self._serve)
        self.server.start()
        self.published = 0
        self._open: list[Any] = []

    @property
    def port(self) -> int:
        return self.server.server_port or 0

    def _serve(self, client: Any, address: object) -> None:
        self._open.append(client)
        with contextlib.suppress(OSError):  # closed at the end of the test
            self._answer(client)

    def _answer(self, client: Any) -> None:
        while data := client.recv(4096):
            for line in data.split(b"\r\n"):
                if line == b"HELLO":
                    client.sendall(b"%1\r\n$5\r\nproto\r\n:3\r\n")
                elif line in (b"SETNAME", b"SETINFO", b"SCRIPT"):
                    client.sendall(b"+OK\r\n")
                elif line == b"PING":
                    client.sendall(b"+PONG\r\n")
                elif line.startswith(b"caller:") and b"SUBSCRIBE" in data:
                    client.sendall(b">3\r\n$9\r\nsubscribe\r\n$%d\r\n%s\r\n:1\r\n" % (len(line), line))
                elif line in (b"PUBLISH", b"EVALSHA"):
                    self.published += 1
                    client.shutdown(sockets.SHUT_WR)
                    gevent.sleep(60)

    def close(self) -> None:
        self.server.stop(timeout=0)
        for one in self._open:
            one.close()


@pytest.fixture
def half_closing() -> Iterator[HalfClosing]:
    server = HalfClosing()
    yield server
    server.close()


def test_a_large_message_to_a_peer_that_half_closes_leaves_no_greenlet_behind(
    half_closing: HalfClosing, member: Make
) -> None:
    transport = member(half_closing.port)
    for _ in range(3):
        before = half_closing.published
        call = gevent.spawn(ask, transport, 5.0, "x" * 12_000_000)
        wait_until(lambda before=before: half_closing.published > before)  # type: ignore[misc]
        call.join(5)
        assert isinstance(call.exception, BusUnavailable), call.exception
    gc.collect()
    alive = [one for one in gc.get_objects() if isinstance(one, gevent.Greenlet) and not one.dead]
    link = hex(id(transport.bus.commands))[2:]  # type: ignore[attr-defined]
    # The greenlet that opens the next connection may exist.
    assert len([one for one in alive if link in repr(one)]) <= 1, alive


def test_a_program_that_only_calls_is_not_aborted_by_it(half_closing: HalfClosing) -> None:
    """In such a program the socket is the standard library's, so gevent does not know that it is being closed."""
    program = f"""
from daebus import DaebusCaller
caller = DaebusCaller("garden", redis_url="redis://127.0.0.1:{half_closing.port}/0", timeout=1)
for _ in range(4):
    try:
        caller.send_request("do", "x" * 12_000_000)
    except ConnectionError as error:
        print(type(error).__name__)
"""
    done = gevent.spawn(
        subprocess.run, [sys.executable, "-c", program], capture_output=True, text=True, timeout=40, check=False
    ).get()
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
    assert done.stdout.split() == ["BusUnavailable"] * 4


HOLDER = """
    from daebus import Daebus, DaebusCaller, DaebusHttp, request

    app = Daebus("holder")
    app.attach(DaebusHttp(host="127.0.0.1"))
    app.action("ping")(lambda: "pong")
    app.route("/ping")(lambda req: "pong")

    @app.action("pass_on")
    def pass_on():
        away = DaebusCaller("garden", redis_url=request.payload["url"], timeout=request.payload["seconds"])
        return away.send_request("do", "x" * request.payload["size"])

    app.run()
"""


@pytest.mark.alone
def test_messages_that_wait_for_an_absent_or_half_closed_bus_delay_no_other_client(
    start_process: Callable[..., Any], shared_redis: RedisServer, half_closing: HalfClosing, free_port: int
) -> None:
    start_process(HOLDER, env={"DAEBUS_HTTP_PORT": str(free_port), "DAEBUS_REDIS_URL": shared_redis.url})
    wait_for_subscriber(shared_redis.client(), "holder")
    caller = DaebusCaller("holder", redis_url=shared_redis.url, timeout=20)
    nowhere = f"redis://127.0.0.1:{find_free_port()}/0"
    halved = f"redis://127.0.0.1:{half_closing.port}/0"

    def pass_on(url: str, seconds: float, size: int) -> float:
        begun = time.monotonic()
        with pytest.raises(RemoteError) as raised:
            caller.send_request("pass_on", {"url": url, "seconds": seconds, "size": size})
        assert raised.value.code == "handler_error"
        return time.monotonic() - begun

    with Bystanders(http_port=free_port, redis_url=shared_redis.url, service="holder") as others:
        long_one = gevent.spawn(pass_on, nowhere, 15.0, 10)
        wait_until(lambda: bool(long_one))
        assert pass_on(nowhere, 1.0, 10) < 2.0
        for _ in range(3):
            pass_on(halved, 3.0, 6_000_000)
        others.assert_unharmed(1.0)
    assert half_closing.published >= 3
    assert not long_one.ready()
    long_one.kill()
