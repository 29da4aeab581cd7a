"""A service under mixed load for any time, and its resources: memory, threads, file descriptors, greenlets."""

from __future__ import annotations

import http.client
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import gevent
import redis
import websocket

from tests.faults.instruments import Start
from tests.support import wire
from tests.support.process import ServiceProcess
from tests.support.redis_server import RedisServer
from tests.support.waiting import wait_until

POOL = 4
PAUSES = {"blocking": 0.01, "shout": 0.02, "sensor": 0.1}
"""The actions that are called over the bus, with the seconds that a client waits between two calls."""
EXPECTED = (OSError, AssertionError, http.client.HTTPException, redis.RedisError, websocket.WebSocketException)
"""The exceptions of a failed request; any other is a bug in this test."""

SERVICE = f"""
    import gc
    import os
    import time

    import greenlet
    from daebus import Daebus, DaebusHttp, DaebusWebSocket, broadcast, cache, request, response

    app = Daebus("soak", max_workers={POOL})
    app.attach(DaebusHttp())
    app.attach(DaebusWebSocket())


    @app.action("echo")
    def echo():
        return request.payload


    @app.action("blocking", blocking=True)
    def blocking():
        time.sleep(0.02)
        return request.payload


    @app.action("shout")
    def shout():
        return broadcast.send("shouts", request.payload)


    @app.listen("shouts")
    def hear(message):
        pass


    @app.background("tick", 0.1)
    def tick():
        broadcast.send("ticks", {{"time": time.time()}})


    @app.thread("sensor", auto_start=False, native=True)
    def sensor(running):
        while running():
            cache.set("measured", "now")
            time.sleep(0.01)


    @app.action("sensor")
    def run_sensor():
        return [app.start_thread("sensor"), app.stop_thread("sensor")]


    @app.route("/ping")
    def ping(req):
        return response.send({{"pong": True}})


    @app.socket("echo")
    def echo_back(data, client_id):
        return data


    @app.action("levels")
    def levels():
        gc.collect()
        return {{
            "greenlets": sum(isinstance(one, greenlet.greenlet) and not one.dead for one in gc.get_objects()),
            "threads": len(os.listdir("/proc/self/task")),
            "descriptors": len(os.listdir("/proc/self/fd")),
            "pid": os.getpid(),
        }}


    app.run()
"""

CALLER = """
    import sys
    import time

    from daebus import DaebusCaller

    caller, number = DaebusCaller("soak"), 0
    print("begins", flush=True)
    while True:
        number, begun = number + 1, time.monotonic()
        try:
            text = "" if caller.send_request("echo", {"n": number}, timeout=5) == {"n": number} else "a wrong reply"
        except Exception as error:
            text = f"{type(error).__name__}: {error}"
        if text or number % 100 == 0:
            print(f"asked {begun:.6f} {time.monotonic():.6f} {text}", flush=True)
        time.sleep(0.01)
"""


class Failure(NamedTuple):
    """A failed request: its kind, when it began and ended (`time.monotonic()`), and the error."""

    kind: str
    begun: float
    ended: float
    text: str


class Levels(NamedTuple):
    """The service's resources at rest. Pools keep what peak load needed, so a few more are no leak: see `SLACK`."""

    greenlets: int
    threads: int
    descriptors: int


SLACK = Levels(greenlets=8, threads=1, descriptors=2)


class Load:
    """All kinds of clients at once, in greenlets; each counts its requests and keeps its failures."""

    def __init__(self, server: RedisServer, http_port: int) -> None:
        self._server, self._port = server, http_port
        self._random = random.Random(9)
        self._on = False
        self._running: list[gevent.Greenlet[..., None]] = []
        self.counts: dict[str, int] = {}
        self.failures: list[Failure] = []

    def start(self) -> None:
        self._on = True
        clients: list[tuple[str, Callable[[str], None]]]
        clients = [*[("blocking", self._bus)] * (2 * POOL), ("shout", self._bus), ("sensor", self._bus)]
        clients += [("http kept", self._http_kept)] * 2 + [("http new", self._http_new)]
        clients += [("websocket", self._websocket)] * 3
        self._running = [gevent.spawn(self._repeat, *client) for client in clients]

    def stop(self) -> None:
        self._on = False
        gevent.joinall(self._running, timeout=30, raise_error=True)
        assert all(one.dead for one in self._running), "a client hangs"

    def _repeat(self, kind: str, use: Callable[[str], None]) -> None:
        while self._on:
            begun = time.monotonic()
            try:
                use(kind)
            except EXPECTED as error:
                self.failures.append(Failure(kind, begun, time.monotonic(), f"{type(error).__name__}: {error}"))
                gevent.sleep(0.1)

    def _count(self, kind: str, pause: float) -> bool:
        """Count a success and pause; then whether to go on."""
        self.counts[kind] = self.counts.get(kind, 0) + 1
        gevent.sleep(pause)
        return self._on

    def _bus(self, action: str) -> None:
        with self._server.client() as client:
            # A request that is sent before the service has subscribed again is lost; its reply would never come.
            wire.wait_for_subscriber(client, "soak")
            for number in range(50):
                (reply,) = wire.request(client, "soak", action, {"n": number}, timeout=5)
                assert reply["status"] == "success", reply
                assert action != "sensor" or reply["payload"] == [True, True], reply
                if not self._count(action, PAUSES[action]):
                    break

    def _http_kept(self, kind: str) -> None:
        self._get(kind, 50)

    def _http_new(self, kind: str) -> None:
        self._get(kind, 1)

    def _get(self, kind: str, count: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=5)
        try:
            for _ in range(count):
                connection.request("GET", "/ping")
                with connection.getresponse() as answer:
                    body = answer.read()
                assert (answer.status, body) == (200, b'{"pong":true}'), (answer.status, body)
                if not self._count(kind, 0.01):
                    break
        finally:
            connection.close()

    def _websocket(self, kind: str) -> None:
        client = wire.WebSocketClient(f"ws://127.0.0.1:{self._port}/ws")
        leave = self._random.choice((client.close, client.drop))
        try:
            for number in range(10):
                assert client.ask("echo", number)["data"] == number
                if not self._count(kind, 0.01):
                    break
        finally:
            leave()


class Outages:
    """The outages of Redis, each until the moment at which all clients must work again."""

    def __init__(self, server: RedisServer, grace: float) -> None:
        self._server, self._grace = server, grace
        self.spans: list[tuple[float, float]] = []

    def one(self, seconds: float) -> None:
        """One outage, by kill -9 and by a clean stop in turn; returns when Redis is back."""
        begun = time.monotonic()
        if len(self.spans) % 2:
            self._server.stop()
        else:
            self._server.kill()
        time.sleep(seconds)
        self._server.start()
        self.spans.append((begun, time.monotonic() + self._grace))

    def excuse(self, failure: Failure) -> bool:
        """Whether an outage explains the failure: the request needs Redis and was under way during the outage."""
        return failure.kind in (*PAUSES, "caller") and any(
            failure.begun < end and failure.ended > begun for begun, end in self.spans
        )


class Callers:
    """Two programs with a real DaebusCaller; one of them is killed and restarted from time to time."""

    def __init__(self, start: Start, env: dict[str, str]) -> None:
        self._start, self._env = start, env
        self._ended: list[ServiceProcess] = []
        self._running = [self._start(CALLER, env=env, name=f"caller{number}.py") for number in range(2)]

    def replace_one(self) -> None:
        self._running[1].kill()
        self._ended.append(self._running[1])
        self._running[1] = self._start(CALLER, env=self._env, name="caller1.py")
        self._running[1].wait_line("begins")

    def stop(self) -> None:
        for one in self._running:
            one.kill()
        self._ended += self._running

    def lines(self) -> list[list[str]]:
        lines = [line for one in self._ended for line in one.lines]
        return [line.split(" ", 3) for line in lines if line.startswith("asked")]

    def count(self) -> int:
        """How many calls succeeded; a line stands for 100."""
        return 100 * sum(not text for *_, text in self.lines())

    def failures(self) -> list[Failure]:
        return [Failure("caller", float(begun), float(ended), text) for _, begun, ended, text in self.lines() if text]


def levels(client: redis.Redis) -> dict[str, Any]:
    """The service's resources, as it reports them itself."""
    (reply,) = wire.request(client, "soak", "levels", timeout=10)
    found: dict[str, Any] = reply["payload"]
    return found


def at_rest(client: redis.Redis, most: Levels | None = None, timeout: float = 30.0) -> Levels:
    """The levels once three questions in a row got the same answer; with `most`, once no level is above it."""
    seen: list[Levels] = []

    def settled() -> bool:
        found = levels(client)
        seen.append(Levels(found["greenlets"], found["threads"], found["descriptors"]))
        if most:
            return all(now <= bound + slack for now, bound, slack in zip(seen[-1], most, SLACK, strict=True))
        return len(seen) > 2 and seen[-1] == seen[-2] == seen[-3]

    wait_until(settled, timeout, lambda: f"the service at rest: {seen[-1]}, at most {most}")
    return seen[-1]


def resident(pid: int) -> float:
    """The resident memory of a process, in MiB."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * 4096 / 2**20
