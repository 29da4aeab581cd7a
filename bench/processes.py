"""Starts, pins and stops the measured processes, all on loopback. Each is stopped by its pid."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import redis

from tests.support.closing import Closing
from tests.support.orphans import die_with_parent, kill_group
from tests.support.ports import accepts, free_port
from tests.support.redis_server import server_binary
from tests.support.waiting import wait_until

PROGRAMS = Path(__file__).parent / "programs"
REPOSITORY = Path(__file__).parent.parent
SERVER_CORE, LOAD_CORE = 0, 1


class Trouble(Exception):
    """A measurement is impossible; the text says why."""


def pinned(command: Sequence[str], core: int | None) -> list[str]:
    """The command pinned to one core, if the machine has two and `taskset` exists."""
    if core is None or (os.cpu_count() or 1) < 2 or not shutil.which("taskset"):
        return list(command)
    return ["taskset", "--cpu-list", str(core), *command]


def measure(command: Sequence[str], *, seconds: float, core: int | None = None) -> tuple[str, int]:
    """Runs a load program to its end; its output and exit code."""
    try:
        done = subprocess.run(
            die_with_parent(pinned(command, core)),
            cwd=REPOSITORY,
            capture_output=True,
            text=True,
            timeout=seconds + 60,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise Trouble(f"{command[0]} did not end") from None
    if not done.stdout.strip():
        raise Trouble(f"{' '.join(command)} printed nothing: {done.stderr.strip()[-500:]}")
    return done.stdout, done.returncode


def figures(command: Sequence[str], *, seconds: float, core: int | None = None) -> dict[str, Any]:
    """Runs a load program that prints its figures as a line of JSON. Any error that it counts raises Trouble."""
    output, code = measure(command, seconds=seconds, core=core)
    line = output.strip().splitlines()[-1]
    found, end = json.JSONDecoder().raw_decode(line)
    if code or found["errors"]:
        what = f"{found['errors']} errors {line[end:]}" if found["errors"] else "no reply at all"
        raise Trouble(f"{' '.join(command[-6:])}: {what}")
    return dict(found)


class Running(Closing):
    """All processes of one run. A server's output goes to a file, shown when the server fails to start.

    `grace`: seconds that they get to end cleanly.
    """

    def __init__(self, grace: float = 8.0) -> None:
        self._grace = grace
        self._started: list[tuple[str, subprocess.Popen[bytes]]] = []
        self.folder = Path(tempfile.mkdtemp(prefix="bench-"))
        self.redis_port = 0

    def start(
        self,
        name: str,
        command: Sequence[str],
        ready: Callable[[], object],
        *,
        env: dict[str, str] | None = None,
        core: int | None = None,
        patience: float = 20.0,
    ) -> subprocess.Popen[bytes]:
        """Starts a server without `DAEBUS_*` variables; returns once `ready()` is true, within `patience` seconds."""
        log = self.folder / f"{name}.log"
        kept = {key: value for key, value in os.environ.items() if not key.startswith("DAEBUS_")}
        with log.open("wb") as output:
            process = subprocess.Popen(
                die_with_parent(pinned(command, core)),
                cwd=REPOSITORY,
                env=kept | (env or {}),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._started.append((name, process))

        def is_ready() -> bool:
            if process.poll() is not None:
                raise Trouble(f"{name} ended at once:\n{log.read_text(errors='replace')[-2000:]}")
            return bool(ready())

        try:
            wait_until(is_ready, patience)
        except AssertionError:
            raise Trouble(f"{name} is not ready:\n{log.read_text(errors='replace')[-2000:]}") from None
        return process

    def group(self, name: str) -> int:
        """The process group of a server that was started under this name."""
        return next(process.pid for started, process in self._started if started == name)

    def start_redis(self) -> None:
        """A private server without persistence."""
        self.redis_port = free_port()
        command = [server_binary(), "--port", str(self.redis_port), "--bind", "127.0.0.1", "--save", ""]
        self.start("redis", [*command, "--dir", str(self.folder)], lambda: accepts(self.redis_port))

    @property
    def redis_url(self) -> str:
        return f"redis://127.0.0.1:{self.redis_port}/0"

    def client(self) -> redis.Redis:
        return redis.Redis(port=self.redis_port, decode_responses=True)

    def subscribed(self, channel: str) -> bool:
        """Whether somebody is subscribed to the channel."""
        with self.client() as client:
            return bool(client.pubsub_numsub(channel)[0][1])

    def close(self) -> None:
        for _, process in reversed(self._started):
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + self._grace
        for name, process in reversed(self._started):
            try:
                process.wait(timeout=max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                print(f"bench: {name} had to be killed", file=sys.stderr)
            kill_group(process.pid)
            process.wait(timeout=5)
        shutil.rmtree(self.folder, ignore_errors=True)
