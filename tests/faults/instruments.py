"""Programs that go through an outage and print what they notice, and the tools that observe them."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import gevent
import redis

from tests.support import wire
from tests.support.ports import accepts
from tests.support.process import ServiceProcess
from tests.support.redis_server import RedisServer
from tests.support.waiting import wait_until

Start = Callable[..., ServiceProcess]

GARDEN = """
    import os
    import time
    from daebus import Daebus, broadcast, request

    app = Daebus("garden")
    number = 0


    @app.action("echo")
    def echo():
        return request.payload


    @app.action("slow")
    def slow():
        print("slow began", flush=True)
        time.sleep(request.payload["seconds"])
        return "slow done"


    @app.action("held")
    def held():
        print("held began", flush=True)
        while not os.path.exists("release"):
            time.sleep(0.02)
        return "held done"


    @app.action("shout")
    def shout():
        return broadcast.send("shouts", {"text": "hello"})


    @app.listen("garden.*")
    def note(message):
        print(f"note {time.time():.6f} ok", flush=True)


    @app.background("tick", 0.05)
    def tick():
        global number
        number += 1
        broadcast.send("ticks", {"number": number})


    @app.on_start()
    def started():
        print("on_start has run", flush=True)


    app.run()
"""

IDLE = """
    from daebus import Daebus
    app = Daebus("idle")
    @app.action("echo")
    def echo():
        return "here"
    app.run()
"""

SHED = """
    import time
    from daebus import Daebus, DaebusCaller

    app = Daebus("shed")
    garden = DaebusCaller("garden")


    @app.listen("ticks")
    def tick(message):
        print(f"tick {time.time():.6f} ok", flush=True)


    @app.thread("asking")
    def ask(running):
        while running():
            try:
                text = "ok" if garden.send_request("echo", {"a": 1}, timeout=1) == {"a": 1} else "WRONG"
            except Exception as error:
                text = type(error).__name__
            print(f"ask {time.time():.6f} {text}", flush=True)
            time.sleep(0.02)


    app.run()
"""

CALLER = """
    import time
    from daebus import DaebusCaller

    caller = DaebusCaller("garden")
    number = 0
    while True:
        number += 1
        try:
            text = "ok" if caller.send_request("echo", {"n": number}, timeout=1) == {"n": number} else "WRONG"
        except Exception as error:
            text = type(error).__name__
        print(f"call {time.time():.6f} {text}", flush=True)
        time.sleep(0.02)
"""


def after(process: ServiceProcess, word: str, moment: float, outcome: str = "ok") -> list[float]:
    """The times after `moment` (time.time()) at which the process printed that `word` had this outcome."""
    times = []
    for line in process.lines:
        kind, _, rest = line.partition(" ")
        if kind == word and rest.endswith(f" {outcome}") and float(rest.split()[0]) > moment:
            times.append(float(rest.split()[0]))
    return times


def wait_after(process: ServiceProcess, word: str, moment: float, timeout: float = 10.0) -> float:
    """Waits until `word` succeeds after `moment`; the first time at which it did."""
    text = f"{word!r} to go well in:\n"
    wait_until(lambda: after(process, word, moment), timeout, lambda: text + "\n".join(process.lines[-20:]))
    return min(after(process, word, moment))


def start_and_time(server: RedisServer) -> float:
    """Start a server; the time (time.time()) at which it first accepted a connection."""
    port = server.port

    def watch() -> float:
        while not accepts(port):
            gevent.sleep(0.001)
        return time.time()

    watcher = gevent.spawn(watch)
    server.start()
    return float(watcher.get(timeout=5))


def first_answer(client: redis.Redis, service: str, timeout: float = 15.0) -> float:
    """The time (time.time()) of the service's first answer; asks every 20 ms on a separate connection."""
    inbox = "caller:first-answer"
    with wire.Listener(client, inbox) as replies:
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            wire.publish(client, service, {"action": "echo", "payload": 1, "reply_to": inbox, "request_id": "x"})
            replies.poll(0.02)
            if replies.received:
                return time.time()
    raise AssertionError(f"{service!r} did not answer within {timeout:g} s")


def best_of(rounds: int, measure: Callable[[], Mapping[str, float]], limit: float, *, all_rounds: bool) -> str:
    """Repeat the measurement, at most `rounds` times, until all figures of a round are within `limit` seconds.

    Fails when every round was too slow: other work on the machine may disturb one round, but seldom three. Returns the
    medians as text.
    """
    seen: list[Mapping[str, float]] = []
    while len(seen) < rounds:
        seen.append(measure())
        if not all_rounds and max(seen[-1].values()) <= limit:
            break
    best = min(max(figures.values()) for figures in seen)
    assert best <= limit, f"at best {best:.3f} s, {limit:g} s allowed: {seen}"
    medians = {name: statistics.median(figures[name] for figures in seen) for name in seen[0]}
    return ", ".join(f"{name} {seconds * 1000:.0f} ms" for name, seconds in medians.items()) + f" ({len(seen)} rounds)"


def open_connections(client: redis.Redis) -> list[str]:
    """The names of the connections that Daebus programs have open."""
    return sorted(about["name"] for about in client.client_list() if about["name"].startswith("daebus"))


class Management:
    """A client of a service's management port that asks as an orchestrator does."""

    def __init__(self, port: int) -> None:
        self.port = port

    def get(self, path: str, timeout: float = 2.0) -> tuple[int, str]:
        """Status and body; (0, why) without an answer."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=timeout) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()
        except OSError as error:
            return 0, str(error)

    def wait_ready(self, timeout: float = 15.0) -> None:
        wait_until(lambda: self.get("/readyz")[0] == 200, timeout, lambda: f"readiness: {self.get('/readyz')}")

    def wait_not_ready(self, reason: str, timeout: float = 5.0) -> None:
        def told() -> bool:
            status, body = self.get("/readyz")
            return status == 503 and reason in body

        wait_until(told, timeout, lambda: f"{reason!r} in {self.get('/readyz')}")

    def metric(self, name: str) -> float:
        """The value of the first sample of that metric."""
        lines = [line for line in self.get("/metrics")[1].splitlines() if line.startswith(name)]
        return float(lines[0].split()[-1])

    def health(self, *arguments: str) -> tuple[int, str]:
        """Exit code and text of the health command."""
        command = [sys.executable, "-m", "daebus_runtime.health", *arguments]
        environment = {**os.environ, "DAEBUS_MANAGEMENT_PORT": str(self.port)}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        return done.returncode, done.stdout + done.stderr


def settings(url: str | None = None, *, management: int | None = None, **more: Any) -> dict[str, str]:
    """The environment of a program under test."""
    env = {"DAEBUS_EMBEDDED": "never", "DAEBUS_MANAGEMENT_HOST": "127.0.0.1"}
    if url is not None:
        env["DAEBUS_REDIS_URL"] = url
    if management is not None:
        env["DAEBUS_MANAGEMENT_PORT"] = str(management)
    return env | {f"DAEBUS_{name.upper()}": str(value) for name, value in more.items()}


def lines_with(process: ServiceProcess, *words: str) -> list[str]:
    """The lines printed so far that contain all of these words."""
    return [line for line in process.lines if all(word in line for word in words)]


def wait_for_subscribers(client: redis.Redis, channels: Iterable[str], timeout: float = 5.0) -> None:
    """Waits until each channel has exactly one subscriber: no subscription is missing, none is doubled."""
    for channel in channels:
        wire.wait_for_subscriber(client, channel, 1, timeout)
