"""Request and reply: ours over the durable layer, the original, the bare link, at 1, 32 and 256 callers."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from .cells import Cell, Section
from .processes import PROGRAMS, Running, Trouble, figures

OURS = "ours, durable"
ORIGINAL = "original daebus 0.0.31"
BARE = "bare link, pub/sub"
BARE_STREAM = "bare link, stream"
CALLERS = (1, 32, 256)
NOTE = "Caller, service and Redis share the machine; nothing is pinned. Every reply is checked by id and value."


def section(running: Running, original: Path | None, seconds: float) -> Section:
    """Starts the services and lists what to measure. Without `original` its rows are left out."""
    port = str(running.redis_port)
    service, caller = str(PROGRAMS / "rpc_service.py"), str(PROGRAMS / "rpc_caller.py")
    bare = [sys.executable, "-m", "bench.limit"]
    running.start("ours", [sys.executable, service, "bench_ours", port], lambda: running.subscribed("bench_ours"))
    running.start("bare", [*bare, "serve", "pubsub", running.redis_url], lambda: running.subscribed("bare"))
    running.start("stream", [*bare, "serve", "stream", running.redis_url], lambda: _exists(running, "bare:stream"))
    commands: dict[str, list[str]] = {OURS: [sys.executable, caller, "bench_ours", port]}
    if original:
        # -E ignores PYTHONPATH: this checkout on it would bring our alias package, which has the same name.
        peer = [str(original), "-E"]
        command = [*peer, service, "bench_original", port]
        running.start("original", command, lambda: running.subscribed("bench_original"))
        commands[ORIGINAL] = [*peer, caller, "bench_original", port]
    commands[BARE] = [*bare, "call", "pubsub", running.redis_url]
    commands[BARE_STREAM] = [*bare, "call", "stream", running.redis_url]
    table = Section("Request and reply", OURS, NOTE)
    for callers in CALLERS:
        load = f"{callers} caller{'s' if callers > 1 else ''}"
        for system, command in commands.items():
            extra = ["gevent"] if system is OURS else []
            table.cells.append(
                Cell(load, system, _measurement([*command, str(callers), str(seconds), *extra], seconds))
            )
    return table


def _measurement(command: list[str], seconds: float) -> Any:
    return lambda: figures(command, seconds=seconds)


def _exists(running: Running, key: str) -> bool:
    with running.client() as client:
        return bool(client.exists(key))


def peer_python(given: Path | None) -> Path:
    """The interpreter that has the original: the given one, else an environment that is created on demand."""
    from tests.support.original import original_python

    try:
        return given or original_python()
    except RuntimeError as error:
        raise Trouble(str(error)) from None
