"""The tools to run one block of a page: in this process under `TestApp`, or as a program on a real bus.

A block that creates no application is a snippet. It is run where a reader would put it: after PRELUDE, which has the
imports and an application.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shlex
import subprocess
import sys
import types
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from daebus_runtime import DaebusCaller, health
from daebus_runtime.testing import TestApp
from redis import Redis

from tests.support.ports import free_port
from tests.support.process import ServiceProcess
from tests.support.redis_server import RedisServer
from tests.support.waiting import wait_until
from tests.support.wire import WebSocketClient

from .pages import REPOSITORY, Block, block

READY_SECONDS = 20.0
PRELUDE = """
import time

from daebus import Blueprint, Daebus, DaebusCaller, DaebusHttp, DaebusWebSocket
from daebus import broadcast, cache, direct_logger, logger, request, response

app = Daebus("docs")
http, websocket = DaebusHttp(), DaebusWebSocket()
app.attach(http)
app.attach(websocket)
"""
CURL = Path(__file__).with_name("curl.py")


class Stage:
    """One block with a folder, a Redis server, and a free port that replaces the block's `localhost:8080`."""

    def __init__(self, here: Block, directory: Path, redis: RedisServer, start: Callable[..., ServiceProcess]) -> None:
        self.block, self.directory, self.redis = here, directory, redis
        self.port, self.management = free_port(), free_port()
        self._start = start
        self._open: list[Redis] = []

    def client(self) -> Redis:
        """A client of the stage's Redis; `close` closes it."""
        self._open.append(self.redis.client())
        return self._open[-1]

    def close(self) -> None:
        for client in self._open:
            client.close()

    # --- in this process -----------------------------------------------------------------------------------------
    def save(self, name: str | None = None) -> Path:
        """Writes the block (or another one of its page) to a file of this name, a snippet after the prelude."""
        text = (self.block if name is None else block(self.block.page, name)).text
        path = self.directory / f"{name or self.block.name}.py"
        path.write_text(text if re.search(r"\bDaebus\(|^from |^import ", text, re.MULTILINE) else PRELUDE + text)
        return path

    def load(self, name: str | None = None) -> Any:
        """Imports the block as a module."""
        path = self.save(name)
        spec = importlib.util.spec_from_file_location(f"page_{path.stem}", path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[module.__name__] = module
        try:
            spec.loader.exec_module(module)
        finally:
            del sys.modules[module.__name__]
        return module

    def service(self, module: types.ModuleType | None = None, **options: Any) -> TestApp:
        """The block's application under TestApp, for a `with` statement."""
        return TestApp((module or self.load()).app, **options)

    # --- as programs ----------------------------------------------------------------------------------------------
    @property
    def env(self) -> dict[str, str]:
        """The variables that make a program use this stage's bus and ports instead of its own."""
        tools = self.directory / "bin"
        if not tools.exists():
            tools.mkdir()
            _script(tools / "daebus", shlex.quote(sys.executable), "-m", "daebus_runtime")
            _script(tools / "curl", shlex.quote(sys.executable), shlex.quote(str(CURL)))
            _script(tools / "python", shlex.quote(sys.executable))
        return {
            "PATH": f"{tools}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(REPOSITORY / "runtime"),
            "DAEBUS_REDIS_URL": self.redis.url,
            "DAEBUS_HTTP_HOST": "127.0.0.1",
            "DAEBUS_HTTP_PORT": str(self.port),
            "DAEBUS_MANAGEMENT_PORT": str(self.management),
            "DAEBUS_LOG_FORMAT": "text",
        }

    def start(self, name: str | None = None, **env: str) -> ServiceProcess:
        """Starts the block as a service in a process of its own; returns when it is ready."""
        return self.program(self.save(name), **env)

    def program(self, program: str | Path | Sequence[str], **env: str) -> ServiceProcess:
        """Starts a service of the driver's own, or a command; returns when it is ready."""
        wanted = {**self.env, **env}
        management = int(wanted["DAEBUS_MANAGEMENT_PORT"])
        if isinstance(program, list):
            program = [str(self.directory / "bin" / program[0]), *program[1:]]
        process = self._start(program, env=wanted)
        wait_until(
            lambda: not process.running or health.ask("127.0.0.1", management, "/readyz")[0],
            READY_SECONDS,
            lambda: f"readiness of {self.block}. It said:\n{process.output}",
        )
        assert process.running, process.output
        return process

    def finish(self, name: str | None = None, **env: str) -> str:
        """Runs the block as a program that must end by itself with code 0; its output."""
        process = self._start(self.save(name), env={**self.env, **env})
        assert process.wait() == 0, process.output
        return process.output

    def pytest(self, *names: str) -> None:
        """Runs the tests in these blocks with a separate pytest, as in a service's repository."""
        files = [str(self.save(name)) for name in names]
        command = [sys.executable, "-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider", *files]
        environment = {**os.environ, "PYTHONPATH": f"{REPOSITORY / 'runtime'}{os.pathsep}{self.directory}"}
        ran = subprocess.run(command, cwd=self.directory, env=environment, capture_output=True, text=True, timeout=60)
        assert ran.returncode == 0, ran.stdout + ran.stderr

    def caller(self, service: str) -> DaebusCaller:
        return DaebusCaller(service, redis_url=self.redis.url)

    def websocket(self, path: str = "/ws", **options: Any) -> WebSocketClient:
        return WebSocketClient(f"ws://127.0.0.1:{self.port}{path}", **options)

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    def session(self, name: str | None = None, **replaced: str) -> None:
        """Runs a console block: each `$ command` must print the lines that follow it, and nothing else.

        Ports are replaced by those of the stage; `replaced` words in the lines stand for what differs from run to run.
        """
        here = self.block if name is None else block(self.block.page, name)
        for command, expected in commands(here.text):
            for shown, real in {
                "localhost:8080": f"127.0.0.1:{self.port}",
                "localhost:9000": f"127.0.0.1:{self.management}",
            }.items():
                command = command.replace(shown, real)
            for shown, real in replaced.items():
                expected = expected.replace(shown, real)
            ran = self.shell(command)
            assert ran.stdout.strip() == expected, f"{here}: $ {command}\n{ran.stdout}"

    def shell(self, command: str) -> subprocess.CompletedProcess[str]:
        """Runs a command line with the stage's bus and ports; `stdout` has its output and its errors."""
        environment = {**os.environ, **self.env}
        return subprocess.run(
            command,
            shell=True,
            cwd=self.directory,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=30,
        )


def commands(text: str) -> list[tuple[str, str]]:
    """The commands of a console block, each with the output that is shown after it."""
    parts = re.split(r"^\$ ", text, flags=re.MULTILINE)
    assert not parts[0].strip(), f"a console block begins with `$ `: {parts[0]!r}"
    pairs = [part.partition("\n") for part in parts[1:]]
    return [(command, shown.strip()) for command, _, shown in pairs]


def _script(path: Path, *words: str) -> None:
    path.write_text(f'#!/bin/sh\nexec {" ".join(words)} "$@"\n')
    path.chmod(0o755)
