"""The `daebus` command, run as a script or a person at a terminal runs it, and a service that it can talk to."""

from __future__ import annotations

import contextlib
import os
import pty
import select
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from tests.support.process import ServiceProcess
from tests.support.redis_server import RedisServer

COMMAND = [sys.executable, "-m", "daebus_runtime"]
GARDEN = """
    from daebus import Daebus, broadcast, request, response
    import time

    app = Daebus("garden")

    @app.action("water")
    def water():
        response.progress({"plant": "moss"}, 50)
        return {"watered": request.payload.get("plant", "all"), "größe": 2}

    @app.action("break")
    def break_down():
        response.error("the hose is broken")

    @app.action("sleep")
    def sleep():
        time.sleep(30)

    @app.listen("weather")
    def weather(data):
        broadcast.send("garden.mood", {"wet": data["rain"]})

    if __name__ == "__main__":
        app.run()
"""
Run = Callable[..., subprocess.CompletedProcess[str]]


def environment(changes: Mapping[str, str] | None = None) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("DAEBUS_") and name != "NO_COLOR"}
    return {**kept, **(changes or {})}


@pytest.fixture
def daebus(tmp_path: Path) -> Run:
    """`daebus(*arguments, env=…, input=…)` runs the command in the test's folder; it must print no traceback."""

    def run(
        *arguments: str, env: Mapping[str, str] | None = None, input: str | None = None, directory: Path = tmp_path
    ) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [*COMMAND, *arguments],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            env=environment(env),
            input=input,
            cwd=directory,
        )
        assert "Traceback" not in done.stderr, done.stderr
        return done

    return run


@pytest.fixture
def on_a_terminal(tmp_path: Path) -> Callable[..., str]:
    """`on_a_terminal(*arguments, env=…)` returns what a person sees: standard output and error together."""

    def run(*arguments: str, env: Mapping[str, str] | None = None) -> str:
        ours, theirs = pty.openpty()
        surroundings = {**environment(env), "TERM": "xterm"}
        process = subprocess.Popen(
            [*COMMAND, *arguments], stdin=theirs, stdout=theirs, stderr=theirs, env=surroundings, cwd=tmp_path
        )
        os.close(theirs)
        seen, deadline = b"", time.monotonic() + 60
        with contextlib.suppress(OSError):
            while time.monotonic() < deadline and select.select([ours], [], [], deadline - time.monotonic())[0]:
                data = os.read(ours, 65536)
                if not data:
                    break
                seen += data
        os.close(ours)
        process.wait(timeout=30)
        return seen.decode()

    return run


class Garden:
    """A running service `garden`, and its Redis."""

    def __init__(self, server: RedisServer, process: ServiceProcess) -> None:
        self.server, self.process = server, process
        self.env = {"DAEBUS_REDIS_URL": server.url}


@pytest.fixture(scope="session")
def garden(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Garden]:
    """One for all tests: do not stop it."""
    directory = tmp_path_factory.mktemp("garden")
    with (
        RedisServer() as server,
        ServiceProcess(GARDEN, directory=directory, env={"DAEBUS_REDIS_URL": server.url}, name="garden.py") as process,
    ):
        process.wait_line("is connected")
        with server.client() as client:
            deadline = time.monotonic() + 15
            while client.pubsub_numsub("garden")[0][1] == 0:
                assert time.monotonic() < deadline, process.output
                time.sleep(0.01)
        yield Garden(server, process)
        process.terminate()
