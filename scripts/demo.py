"""`make demo`: copies the template as a user would, starts the service, and talks to it in four ways.

It uses a temporary folder and free ports, so that two demos can run at the same time, and leaves nothing behind.
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import websocket
from daebus_runtime.testing import embedded_redis

from scripts.installer import configured, finish, translated, works
from scripts.snapshot import source

REPOSITORY = Path(__file__).resolve().parent.parent
SERVICE = "my_service"
READY_WITHIN = 30.0
BEGAN = time.monotonic()


class DemoError(Exception):
    """The demo cannot go on; the text says why."""


def say(text: str) -> None:
    print(f"[{time.monotonic() - BEGAN:5.1f} s] {text}", flush=True)


def show(who: str, heard: str | bytes) -> None:
    text = heard.decode() if isinstance(heard, bytes) else heard
    for line in text.splitlines():
        print(f"          {who:>9} <- {line}", flush=True)


def run(*command: str | Path, at: Path, env: dict[str, str] | None = None) -> str:
    """Runs a command to its end and returns what it printed. Raises DemoError with all of its words."""
    words = [str(word) for word in command]
    process = subprocess.Popen(
        words, cwd=at, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    )
    printed = finish(process, lambda seconds: say(f"still at it, {seconds:.0f} s so far"))
    if process.returncode != 0:
        raise DemoError(f"{shlex.join(words)} ended with {process.returncode}:\n{printed}")
    return printed.strip()


def installer() -> tuple[str, dict[str, str]]:
    """The uv of this environment, and pip's settings translated for it; no uv when one of them has no counterpart."""
    uv = Path(sys.executable).with_name("uv")
    settings = translated(configured(Path(sys.prefix)))
    if settings.options or settings.unknown or not works(uv):
        return "", {}
    return str(uv), settings.environment


def copy_template(scratch: Path) -> Path:
    """Copies the template out of the git repository, with every default, and installs what the service needs."""
    target = scratch / SERVICE
    template = source(REPOSITORY, scratch)
    say(f"copier copy --defaults --vcs-ref HEAD {REPOSITORY.name} {SERVICE}")
    copier = (sys.executable, "-m", "copier", "copy", "--defaults", "--quiet", "--vcs-ref", "HEAD")
    run(*copier, template, target, at=scratch)
    say(f"cd {SERVICE} && make install   (an environment of its own, the runtime from the same commit)")
    uv, settings = installer()
    run("make", "install", f"PYTHON={sys.executable}", f"UV={uv}", at=target, env={**os.environ, **settings})
    return target


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def fetch(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=5) as answer:
        return json.load(answer)


def is_up(process: subprocess.Popen[bytes], url: str) -> bool:
    """Waits until the service answers; False when it has ended instead."""
    deadline = time.monotonic() + READY_WITHIN
    while process.poll() is None:
        try:
            fetch(url)
        except OSError:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.05)
        else:
            return True
    return False


def stop(process: subprocess.Popen[bytes]) -> int:
    """Ends the service as Kubernetes would, with SIGTERM, and kills its whole process group if that does not work."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            return process.wait(15)
        os.killpg(process.pid, signal.SIGKILL)
    return process.wait()


@contextlib.contextmanager
def running(service: Path, env: dict[str, str]) -> Iterator[str]:
    """Runs the service on a free port; yields its HTTP address."""
    log = service / "run.log"
    for _attempt in range(3):  # another program may take the port before the service does
        port = free_port()
        command = [str(service / ".venv" / "bin" / "daebus"), "run", f"{SERVICE}.app:app"]
        settings = {**env, "DAEBUS_HTTP_HOST": "127.0.0.1", "DAEBUS_HTTP_PORT": str(port)}
        with log.open("wb") as output:
            process = subprocess.Popen(
                command, cwd=service, env=settings, stdout=output, stderr=output, start_new_session=True
            )
        try:
            if is_up(process, f"http://127.0.0.1:{port}/plants"):
                say(f"{SERVICE} runs on http://127.0.0.1:{port} and on an embedded bus")
                yield f"http://127.0.0.1:{port}"
                code = stop(process)
                say(f"stopped with SIGTERM, exit code {code}")
                return
        finally:
            stop(process)
    raise DemoError(f"the service did not come up:\n{log.read_text()}")


def talk(service: Path, address: str, env: dict[str, str]) -> None:
    """Uses an action, a broadcast, an HTTP route and a WebSocket."""

    def daebus(*words: str) -> str:
        return run(service / ".venv" / "bin" / "daebus", *words, at=service, env=env)

    page = websocket.create_connection(f"{address.replace('http', 'ws')}/ws", timeout=10)
    try:
        say("WebSocket: a page connects and asks for a look at the garden")
        page.send(json.dumps({"type": "look"}))
        show("page", page.recv())
        for way, words, answer in (
            ("action", ("call", SERVICE, "water", '{"plant": "basil"}'), "answer"),
            ("broadcast", ("send", "weather.rain", '{"percent": 10}'), "answer"),
        ):
            say(f"{way}: {shlex.join(('daebus', *words))}")
            show(answer, daebus(*words))
            show("page", page.recv())
        say("HTTP: GET /plants")
        show("answer", json.dumps(fetch(f"{address}/plants")))
    finally:
        page.close()


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="daebus-demo-") as folder:
        try:
            service = copy_template(Path(folder))
            with embedded_redis() as bus:
                env = {name: value for name, value in os.environ.items() if not name.startswith("DAEBUS_")}
                env["DAEBUS_REDIS_URL"] = bus
                with running(service, env) as address:
                    talk(service, address, env)
        except DemoError as error:
            say(f"failed: {error}")
            return 1
    say("done; nothing is left behind")
    return 0


if __name__ == "__main__":
    sys.exit(main())
