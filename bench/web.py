"""HTTP beside its peers, loaded by wrk: a small JSON answer, a body in, a large answer out, and answers beside a crowd
of clients that hold connections."""

from __future__ import annotations

import contextlib
import http.client
import re
import resource
import shutil
import socket
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.ports import accepts, free_port

from .cells import Cell, Section
from .meters import Cpu
from .processes import LOAD_CORE, PROGRAMS, REPOSITORY, SERVER_CORE, Running, Trouble, measure

OURS = "ours, app.route"
PYWSGI = "gunicorn gevent_pywsgi + bare Falcon"
GEVENT = "gunicorn gevent + bare Falcon"
GTHREAD = "gunicorn gthread + bare Falcon"
FLASK = "gunicorn gevent_pywsgi + Flask"
BARE = "bare handler + bare Falcon"
UVICORN = "uvicorn (uvloop, httptools) + Falcon ASGI"
CONNECTIONS = (1, 64, 512)
CROWD = 1000
NOTE = "Server on one core, wrk (one thread) on the other; all answer the same body. The peers log and count nothing."
UNITS = {"us": 1.0, "ms": 1e3, "s": 1e6}
POST = 'wrk.method = "POST"\nwrk.body = string.rep("x", 10240)\nwrk.headers["Content-Type"] = "text/plain"\n'
FALCON = "bench.programs.http_falcon:app"


@dataclass(frozen=True)
class Server:
    """A running server: its port, and its process group."""

    port: int
    group: int


Servers = dict[str, Server]


def start_ours(running: Running) -> int:
    """Our server for HTTP and WebSocket; returns its port."""
    port = free_port()
    running.start(
        "ours-http",
        [sys.executable, str(PROGRAMS / "http_ours.py"), str(port)],
        lambda: accepts(port),
        env={"DAEBUS_REDIS_URL": running.redis_url},
        core=SERVER_CORE,
    )
    return port


def start_gunicorn(running: Running, name: str, worker: str, app: str, *more: str, python: str = sys.executable) -> int:
    """One gunicorn worker of the given class; returns its port."""
    port = free_port()
    options = [
        "--workers",
        "1",
        "--worker-connections",
        "10000",
        "--no-control-socket",
        "--log-level",
        "warning",
        *more,
    ]
    command = [python, "-m", "gunicorn", "-k", worker, "--bind", f"127.0.0.1:{port}", *options, app]
    running.start(name, command, lambda: accepts(port), core=SERVER_CORE)
    return port


def _start_uvicorn(running: Running, python: str) -> int:
    port = free_port()
    options = ["--loop", "uvloop", "--http", "httptools", "--no-access-log", "--log-level", "warning"]
    command = [python, "-m", "uvicorn", "--port", str(port), *options, "bench.programs.http_asgi:app"]
    running.start("uvicorn", command, lambda: accepts(port), core=SERVER_CORE)
    return port


def _start_all(running: Running, ours: int, peers: Path) -> Servers:
    python = str(peers)

    def gunicorn(name: str, worker: str, app: str = FALCON, *more: str) -> Server:
        port = start_gunicorn(running, name, worker, app, *more, python=python)
        return Server(port, running.group(name))

    return {
        OURS: Server(ours, running.group("ours-http")),
        PYWSGI: gunicorn("pywsgi", "gevent_pywsgi"),
        GEVENT: gunicorn("gevent", "gevent"),
        GTHREAD: gunicorn("gthread", "gthread", FALCON, "--threads", "8"),
        FLASK: gunicorn("flask", "gevent_pywsgi", "bench.programs.http_flask:app"),
        BARE: gunicorn("bare-http", "bench.limit.http.Worker"),
        UVICORN: Server(_start_uvicorn(running, python), running.group("uvicorn")),
    }


def peers_python() -> Path:
    """The interpreter of an environment with the peers, which is created on demand."""
    from tests.support.original import locked_python

    try:
        return locked_python("bench-peers", REPOSITORY / "bench" / "peers.txt")
    except RuntimeError as error:
        raise Trouble(str(error)) from None


def sections(running: Running, ours: int, seconds: float) -> list[Section]:
    """Starts the peers, compares the answers and lists what to measure. `ours` is our server's port."""
    table = Section("HTTP, JSON", OURS, NOTE)
    if not shutil.which("wrk"):
        table.trouble = "not measured: wrk is not on the PATH"
        return [table]
    servers = _start_all(running, ours, peers_python())
    _compare(servers)
    for connections in CONNECTIONS:
        for system, server in servers.items():
            load = f"{connections} connection{'s' if connections > 1 else ''}"
            table.cells.append(Cell(load, system, _measurement(server, connections, seconds)))
    some = {system: servers[system] for system in (OURS, PYWSGI, UVICORN)}
    return [table, _bodies(running, some, seconds), _crowds(servers[OURS], seconds)]


def _bodies(running: Running, servers: Servers, seconds: float) -> Section:
    table = Section("HTTP, bodies", OURS, "64 connections.")
    script = running.folder / "post.lua"
    script.write_text(POST)
    for system, server in servers.items():
        run = _measurement(server, 64, seconds, "/size", "--script", str(script))
        table.cells.append(Cell("10 KiB in", system, run))
    for system, server in servers.items():
        table.cells.append(Cell("1 MiB out", system, _measurement(server, 64, seconds, "/large")))
    return table


def _compare(servers: Servers) -> None:
    answers = {system: _get(server.port) for system, server in servers.items()}
    if len(set(answers.values())) != 1:
        raise Trouble(f"the answers differ: {answers}")


def _get(port: int) -> bytes:
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    with contextlib.closing(client):
        client.request("GET", "/hello")
        return client.getresponse().read()


def _measurement(
    server: Server, connections: int, seconds: float, path: str = "/hello", *more: str
) -> Callable[[], Any]:
    # wrk knows only whole seconds.
    options = ["-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s", "--latency", *more]
    command = ["wrk", *options, f"http://127.0.0.1:{server.port}{path}"]

    def run() -> dict[str, Any]:
        cpu = Cpu(server.group)
        cpu.start()
        output = measure(command, seconds=seconds, core=LOAD_CORE)[0]
        return read_wrk(output, cpu.stop())

    return run


def read_wrk(output: str, cpu: float) -> dict[str, Any]:
    """The figures in wrk's output. Any error that it counted raises Trouble. cpu: microseconds of the server."""
    if wrong := re.search(r"Non-2xx.*|Socket errors: (?!connect 0, read 0, write 0, timeout 0).*", output):
        raise Trouble(f"wrk: {wrong[0]}")
    count = re.search(r"(\d+) requests in", output)
    rate = re.search(r"Requests/sec:\s+([\d.]+)", output)
    quantiles = {name: re.search(rf"{name}%\s+([\d.]+)(us|ms|s)", output) for name in ("50", "99")}
    if not rate or not count or not quantiles["50"] or not quantiles["99"]:
        raise Trouble(f"wrk said something else:\n{output}")
    return {
        "rate": round(float(rate[1])),
        "errors": 0,
        "cpu": cpu / max(1, int(count[1])),
        **{f"p{name}": round(float(found[1]) * UNITS[found[2]]) for name, found in quantiles.items() if found},
    }


# --- crowds
CROWDS = {
    "quiet": b"",
    f"beside {CROWD} half-open connections": b"GET /hello HTTP/1.1\r\nHost: x\r\n",
    f"beside {CROWD} slow readers": b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n",
}
CROWD_NOTE = f"16 connections, alone and beside {CROWD} clients that send this and then neither send nor read."


def _crowds(ours: Server, seconds: float) -> Section:
    table = Section("HTTP, beside a crowd", "quiet", CROWD_NOTE)
    quiet = _measurement(ours, 16, seconds)

    def beside(request: bytes) -> Callable[[], Any]:
        def run() -> Any:
            with _crowd(ours.port, request):
                return quiet()

        return run

    for name, request in CROWDS.items():
        table.cells.append(Cell("16 connections", name, beside(request) if request else quiet))
    return table


@contextlib.contextmanager
def _crowd(port: int, request: bytes) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 4096)), hard))
    with contextlib.ExitStack() as stack:
        for _ in range(CROWD):
            client = stack.enter_context(socket.socket())
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.connect(("127.0.0.1", port))
            client.sendall(request)
        _get(port)  # now all of them are served
        yield
