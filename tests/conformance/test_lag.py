"""The server knows how many messages of a service are unread, at every moment: autoscalers and people read it with
`XINFO GROUPS`. And no key of ours grows for ever."""

from __future__ import annotations

import random
from collections.abc import Iterator

import gevent
import pytest
import redis
from daebus_runtime.envelope import Request
from daebus_runtime.transport import DONE, Delivery, Limits, State, Subscription, home, topology
from daebus_runtime.transport.durable import pulse
from daebus_runtime.transport.durable.redis import RedisDurable

from tests.support import durable
from tests.support.redis_server import RedisServer, server_binary, wheel_binary
from tests.support.waiting import wait_until

SERVICE = "ledger"
SERVERS = [path for path in (server_binary(), wheel_binary()) if path]


class Replica:
    """A replica that takes as many messages as the test allows, and ends them when the test says so."""

    def __init__(self, url: str) -> None:
        self.transport = RedisDurable(topology.of(url), home.current(), Limits(1 << 20, 5.0))
        self.transport.open()
        wait_until(lambda: self.transport.state is State.UP)
        self.held: list[Delivery] = []
        self.most = 0
        self.subscription: Subscription = self.transport.consume(
            SERVICE, self._take, lambda: self.most - len(self.held)
        )
        wait_until(lambda: self.subscription.confirmed)

    def _take(self, delivery: Delivery) -> None:
        delivery.begin()
        self.held.append(delivery)

    def room(self, more: int) -> None:
        """Let it read that many."""
        self.most = len(self.held) + more
        for incoming in self.transport._incoming:
            incoming.want()

    def end(self, some: list[Delivery]) -> None:
        for delivery in some:
            self.held.remove(delivery)
            delivery.settle(DONE)

    def leave(self) -> None:
        """As after SIGTERM."""
        self.subscription.retire()
        self.subscription.cancel()
        self.transport.flush(2)
        self.transport.close()

    def die(self) -> None:
        """As after kill -9: nothing is said any more."""
        for incoming in self.transport._incoming:
            assert incoming._pulse is not None
            incoming._pulse.stop()
        self.transport.bus.forsake()


@pytest.fixture(scope="module", params=SERVERS, ids=lambda path: path.rpartition("/")[2])
def server(request: pytest.FixtureRequest) -> Iterator[RedisServer]:
    with RedisServer(binary=request.param) as server:
        yield server


@pytest.fixture
def client(server: RedisServer) -> Iterator[redis.Redis]:
    client = server.client()
    client.flushall()
    yield client
    client.close()


class Ledger:
    """Some replicas and one sender, and everything that may happen to their messages."""

    def __init__(self, server: RedisServer, client: redis.Redis, seed: int) -> None:
        self.random, self.url, self.client = random.Random(seed), server.url, client
        self.sender = RedisDurable(topology.of(server.url), home.current(), Limits(1 << 20, 5.0))
        self.replicas = [Replica(server.url) for _ in range(3)]
        self.sent = 0

    def step(self) -> str:
        chance = self.random
        replica = chance.choice(self.replicas)
        what = chance.choices(["send", "read", "end", "leave", "die"], [4, 5, 6, 0.5, 0.3])[0]
        if what == "send":
            count = chance.randint(1, 20)  # one batch, so their ids differ by a number of one or two digits only
            gevent.joinall([gevent.spawn(self._send) for _ in range(count)], raise_error=True)
        elif what == "read":
            replica.room(chance.randint(1, 10))
        elif what == "end":
            replica.end(chance.sample(replica.held, chance.randint(0, len(replica.held))))
        else:
            self.replicas.remove(replica)
            replica.leave() if what == "leave" else replica.die()
            self.replicas.append(Replica(self.url))
        gevent.sleep(chance.choice([0, 0, 0.001, 0.01]))
        return what

    def _send(self) -> None:
        self.sent += 1
        self.sender.send(Request(SERVICE, "note", self.sent, raw={"action": "note", "payload": self.sent}))

    def end_all(self) -> None:
        def empty() -> bool:
            for replica in self.replicas:
                replica.room(100)
                replica.end(list(replica.held))
            about = durable.group(self.client, SERVICE)
            return not about["lag"] and not about["pending"]

        wait_until(empty, 20, lambda: str(durable.group(self.client, SERVICE)))

    def close(self) -> None:
        for replica in self.replicas:
            replica.leave()
        self.sender.close()


@pytest.mark.parametrize("seed", range(3))
def test_the_lag_is_true_whatever_happens_to_the_messages(
    server: RedisServer, client: redis.Redis, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pulse, "DEAD_SECONDS", 0.8)
    ledger = Ledger(server, client, seed)
    try:
        done: list[str] = []
        for _ in range(150):
            done.append(ledger.step())
            assert not durable.untrue_lags(client), done
            assert not durable.unbounded(client), done
        ledger.end_all()
        durable.check(client)
        assert client.xlen(durable.requests_of(SERVICE)) <= done.count("leave") + done.count("die") + 3
        assert int(client.hget(f"daebus:{{{SERVICE}}}:meta", "bytes") or 0) == 0
    finally:
        ledger.close()
