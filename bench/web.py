"""HTTP: a small JSON answer from ours and from gunicorn's gevent_pywsgi worker with bare Falcon, loaded by wrk."""

from __future__ import annotations

import re
import shutil
import sys
import urllib.request
from typing import Any

from tests.support.ports import accepts, free_port

from .cells import Cell, Section
from .processes import LOAD_CORE, PROGRAMS, SERVER_CORE, Running, Trouble, measure

OURS = "ours, app.route"
FALCON = "gunicorn gevent_pywsgi + bare Falcon"
CONNECTIONS = (1, 64, 512)
NOTE = "Server on one core, wrk (one thread) on the other; both answer the same body."
UNITS = {"us": 1.0, "ms": 1e3, "s": 1e6}


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


def start_gunicorn(running: Running, name: str, worker: str, app: str) -> int:
    """One gunicorn worker of the given class; returns its port."""
    port = free_port()
    options = ["--workers", "1", "--worker-connections", "10000", "--no-control-socket", "--log-level", "warning"]
    command = [sys.executable, "-m", "gunicorn", "-k", worker, "--bind", f"127.0.0.1:{port}", *options, app]
    running.start(name, command, lambda: accepts(port), core=SERVER_CORE)
    return port


def section(running: Running, ours: int, seconds: float) -> Section:
    """Starts Falcon, compares the answers and lists what to measure. `ours` is our server's port."""
    table = Section("HTTP, JSON", OURS, NOTE)
    if not shutil.which("wrk"):
        table.trouble = "not measured: wrk is not on the PATH"
        return table
    falcon = start_gunicorn(running, "falcon", "gevent_pywsgi", "bench.programs.http_falcon:app")
    ports = {OURS: ours, FALCON: falcon}
    answers = {system: _get(port) for system, port in ports.items()}
    if len(set(answers.values())) != 1:
        raise Trouble(f"the answers differ: {answers}")
    for connections in CONNECTIONS:
        for system, port in ports.items():
            load = f"{connections} connection{'s' if connections > 1 else ''}"
            table.cells.append(Cell(load, system, _measurement(port, connections, seconds)))
    return table


def _get(port: int) -> bytes:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/hello", timeout=5) as answer:
        body: bytes = answer.read()
    return body


def _measurement(port: int, connections: int, seconds: float) -> Any:
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds:g}s", "--latency", f"http://127.0.0.1:{port}/hello"]
    return lambda: read_wrk(measure(command, seconds=seconds, core=LOAD_CORE)[0])


def read_wrk(output: str) -> dict[str, Any]:
    """The figures in wrk's output. Any error that it counted raises Trouble."""
    if wrong := re.search(r"Non-2xx.*|Socket errors: (?!connect 0, read 0, write 0, timeout 0).*", output):
        raise Trouble(f"wrk: {wrong[0]}")
    rate = re.search(r"Requests/sec:\s+([\d.]+)", output)
    quantiles = {name: re.search(rf"{name}%\s+([\d.]+)(us|ms|s)", output) for name in ("50", "99")}
    if not rate or not quantiles["50"] or not quantiles["99"]:
        raise Trouble(f"wrk said something else:\n{output}")
    return {
        "rate": round(float(rate[1])),
        "errors": 0,
        **{f"p{name}": round(float(found[1]) * UNITS[found[2]]) for name, found in quantiles.items() if found},
    }
