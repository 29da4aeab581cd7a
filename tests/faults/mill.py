"""A service for the faults of the durable layer, and what its tests share."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import redis
from daebus_runtime import DaebusCaller

from tests.faults.instruments import Management, Start, settings
from tests.support.ports import free_port
from tests.support.redis_server import RedisServer
from tests.support.waiting import wait_until

PROGRAM = """
    import os, time
    from daebus import Daebus, cache, request

    app = Daebus("mill")
    log = os.open("runs", os.O_WRONLY | os.O_APPEND | os.O_CREAT)


    def note(word):
        os.write(log, f"{word} {request.action} {request.payload} {request.attempt} {os.getpid()}\\n".encode())


    @app.action("echo")
    def echo():
        return request.payload


    @app.action("count")
    def count():
        note("began")
        pipe = cache.pipeline()
        pipe.hincrby("counts", request.payload, 1)
        request.commit(pipe)
        return request.payload


    @app.action("wait")
    def wait():
        note("began")
        while not os.path.exists("release"):
            time.sleep(0.02)
        pipe = cache.pipeline()
        pipe.hincrby("counts", request.payload, 1)
        request.commit(pipe)
        note("ended")
        return os.getpid()


    @app.action("hold")
    def hold():
        note("began")
        until = time.monotonic() + request.payload
        while time.monotonic() < until:
            pass
        return request.attempt


    @app.action("die")
    def die():
        note("began")
        os._exit(9)


    app.run()
"""


START_SECONDS = 40.0
"""How long a start may take where much else runs."""


class Mill:
    """A replica of the service on a bus, with its management port."""

    def __init__(self, start: Start, url: str, directory: Path, **options: Any) -> None:
        env = options.pop("env", {})
        self.management = Management(free_port())
        environment = {**settings(url, management=self.management.port, **options), **env}
        self.process = start(PROGRAM, env=environment, name="mill.py")
        self._runs = directory / "runs"

    def ready(self) -> Mill:
        """Waits until it serves."""
        self.management.wait_ready(START_SECONDS)
        return self

    def runs(self, *words: object) -> list[str]:
        """The notes of all replicas that begin with these words, for example `began wait 1`."""
        text = " ".join(str(word) for word in words) + " "
        lines = self._runs.read_text().splitlines() if self._runs.exists() else []
        return [line for line in lines if line.startswith(text)]

    def wait_run(self, *words: object, timeout: float = 10.0) -> list[str]:
        """Waits for such a note."""
        return wait_until(lambda: self.runs(*words), timeout, lambda: f"{words}; it said:\n{self.process.output}")

    def said(self, pattern: str) -> int:
        """How many of its lines match."""
        return self.process.count(pattern)


def caller(server: RedisServer | str) -> DaebusCaller:
    """A caller of the service."""
    return DaebusCaller("mill", redis_url=server if isinstance(server, str) else server.url)


def answers(mill: DaebusCaller, timeout: float = 15.0) -> float:
    """Waits until a call is answered; the seconds that it took."""
    begun = time.monotonic()

    def asked() -> bool:
        try:
            return bool(mill.send_request("echo", {"a": 1}, timeout=2) == {"a": 1})
        except Exception:
            return False

    wait_until(asked, timeout, "an answer of the service")
    return time.monotonic() - begun


def replicas(client: redis.Redis) -> set[str]:
    """The names of the replicas that are alive on the server."""
    return {str(name) for name in client.hkeys("daebus:{mill}:beats")}
