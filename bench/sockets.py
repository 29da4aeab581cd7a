"""WebSocket: echoes through the JSON protocol, on ours and on stock gevent-websocket with a handwritten protocol."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

from .cells import Cell, Section
from .processes import LOAD_CORE, Running, Trouble, figures
from .web import start_gunicorn

OURS = "ours, app.socket"
STOCK = "stock gevent-websocket"
LOADS = ((1, 32), (64, 32), (64, 65536))
NOTE = "Server on one core, wsload.c on the other, one outstanding message per connection, every reply checked."
WORKER = "geventwebsocket.gunicorn.workers.GeventWebSocketWorker"
SOURCE = Path(__file__).parent / "wsload.c"


def section(running: Running, ours: int, seconds: float) -> Section:
    """Builds the client, starts the stock server and lists what to measure. `ours` is our server's port."""
    table = Section("WebSocket echo", OURS, NOTE)
    compiler = shutil.which("cc")
    if not compiler:
        table.trouble = "not measured: no C compiler (cc) on the PATH"
        return table
    client = running.folder / "wsload"
    built = subprocess.run(
        [compiler, "-O2", "-o", str(client), str(SOURCE)], capture_output=True, text=True, check=False
    )
    if built.returncode:
        raise Trouble(f"wsload.c does not compile: {built.stderr}")
    stock = start_gunicorn(running, "stock-websocket", WORKER, "bench.programs.websocket_stock:app")
    for connections, size in LOADS:
        words = f"{size // 1024} KiB" if size >= 1024 else f"{size} B"
        load = f"{connections} connection{'s' if connections > 1 else ''}, {words} of text"
        for system, port in ((OURS, ours), (STOCK, stock)):
            command = [str(client), str(port), "/ws", str(connections), str(size), str(seconds)]
            table.cells.append(Cell(load, system, _measurement(command, seconds)))
    return table


def _measurement(command: list[str], seconds: float) -> Any:
    return lambda: figures(command, seconds=seconds, core=LOAD_CORE)
