"""Services that share one embedded bus: when the one that started it ends, another takes it over."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Iterator

import pytest
import redis
from daebus_runtime.transport.embedded import is_embedded

from tests.support.ports import accepts
from tests.support.ports import free_port as find_free_port
from tests.support.process import ServiceProcess
from tests.support.redis_server import RedisServer
from tests.support.waiting import wait_until

pytestmark = pytest.mark.slow  # they start programs of their own

# The port that is free here stands in for 6379, which the machine may use.
PROGRAM = """
from daebus import Daebus, DaebusHttp, request
from daebus_runtime.transport import embedded

embedded.DEFAULT_REDIS_PORT = {port}
app = Daebus("{name}")
{attach}

@app.action("hello")
def hello():
    return "{name}"

@app.listen("news")
def news(payload):
    print("{name} heard", payload["n"], flush=True)

app.run()
"""
WITHIN = 3.0

Starts = Callable[..., ServiceProcess]


@pytest.fixture
def start(start_process: Starts, free_port: int) -> Iterator[Starts]:
    """Starts the service `name` and waits until it serves."""
    started: list[ServiceProcess] = []

    def make(name: str, http: bool = False, port: int = free_port) -> ServiceProcess:
        attach = "app.attach(DaebusHttp(port=0))" if http else ""
        program = PROGRAM.format(port=port, name=name, attach=attach)
        process = start_process(program, env={"DAEBUS_DRAIN_SECONDS": "2"})
        started.append(process)
        wait_until(lambda: listeners(port, name) == 1, 10, lambda: f"{name} on the bus: {process.lines}")
        return process

    yield make
    for process in started:  # asked, not killed: a kill while one starts a server would leave its folder behind
        process.terminate()


def listeners(port: int, channel: str) -> int:
    try:
        with redis.Redis(port=port, socket_timeout=1) as client:
            return int(client.pubsub_numsub(channel)[0][1])
    except redis.RedisError:
        return 0


def publish(port: int, number: int) -> int:
    with redis.Redis(port=port) as client:
        return int(client.publish("news", json.dumps({"n": number})))


@pytest.mark.parametrize(
    ("http", "number"), [(False, signal.SIGKILL), (True, signal.SIGTERM)], ids=["one process killed", "gunicorn asked"]
)
def test_the_next_one_takes_it_over_with_every_subscription(
    start: Starts, free_port: int, http: bool, number: signal.Signals
) -> None:
    # Given two services on the bus that the first one started,
    first, second = start("first", http), start("second", http)
    first.signal(number)
    first.wait()
    # when the first has ended, then the second is back on the same port, and hears both of what it listened to.
    begun = time.monotonic()
    wait_until(
        lambda: listeners(free_port, "second") == listeners(free_port, "news") == 1,
        WITHIN,
        lambda: f"the second on the bus: {second.lines}",
    )
    assert time.monotonic() - begun < WITHIN
    second.wait_line("now it is embedded .* on")
    assert publish(free_port, 1) == 1
    second.wait_line("second heard 1")
    # When the last has ended, nothing is left.
    assert second.terminate() == 0
    wait_until(lambda: not accepts(free_port), 5, f"end of the server on {free_port}")


def test_of_many_one_takes_it_over_and_then_the_next(start: Starts, free_port: int) -> None:
    # Given four services, the owner is killed, and its heir as well:
    left = [start(f"service{n}") for n in range(4)]
    for _ in range(2):
        owner = next(process for process in left if is_owner(process))
        left.remove(owner)
        owner.kill()
        owner.wait()
        wait_until(lambda: listeners(free_port, "news") == len(left), WITHIN, lambda: f"all back: {len(left)}")
    # Then all of the others are on one bus, and one of them has started it.
    assert publish(free_port, 7) == len(left)
    for process in left:
        process.wait_line("heard 7")
    assert sum(is_owner(process) for process in left) == 1


def is_owner(process: ServiceProcess) -> bool:
    return any("(embedded " in line or "now it is embedded" in line for line in process.lines)


def test_its_own_server_killed_is_started_anew(start: Starts, free_port: int) -> None:
    start("only")
    assert is_embedded("127.0.0.1", free_port)
    kill_its_server(free_port, "only")


def kill_its_server(port: int, name: str) -> None:
    """Returns once the service `name` has another one."""
    with redis.Redis(port=port) as client:
        killed = client.info("server")["process_id"]
        os.kill(killed, signal.SIGKILL)
    wait_until(lambda: listeners(port, name) == 1, WITHIN, "the service on a new bus")
    with redis.Redis(port=port) as client:
        assert client.info("server")["process_id"] != killed


def test_a_redis_of_somebody_else_is_left_alone(start: Starts, free_port: int) -> None:
    # Given a service on a Redis that was there before it, and another one on an embedded bus,
    another_port = find_free_port()
    with RedisServer(port=free_port) as server:
        process = start("guest")
        assert not is_embedded("127.0.0.1", free_port)
        start("other", port=another_port)
        # when that Redis is stopped, then its port stays free,
        server.kill()
        process.wait_line("is away")
        # while the other one starts a new server three times, as each of its servers is killed,
        for _ in range(3):
            kill_its_server(another_port, "other")
            assert not accepts(free_port)
        # and the service is back once the Redis is.
        server.start()
        wait_until(lambda: listeners(free_port, "guest") == 1, WITHIN, "the service back on the bus")
        assert process.terminate() == 0
