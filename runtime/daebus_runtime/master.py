"""gunicorn's master of a Daebus service, the same below `app.run()` and on gunicorn's command line (gunicorn.py).

One master, one worker: the worker holds subscriptions, tasks and threads, so a second one would run them twice. More
capacity is more replicas. The application is loaded by the master (`preload_app`), which thereby knows its address
and finds mistakes before anything is forked.
"""

from __future__ import annotations

import gc
import logging
import os
import socket
from collections.abc import Callable
from typing import Any

from gunicorn import glogging, sock
from gunicorn.app.base import BaseApplication
from gunicorn.arbiter import Arbiter

from .application import Application
from .logs import runtime_logger
from .runner import Prepared
from .servers.management import open_listener
from .servers.ports import ports_of

MARGIN_SECONDS = 5.0  # the worker's own deadline is DAEBUS_DRAIN_SECONDS; the master kills only after that and this
DEFAULT_BIND = "0.0.0.0:8080"
SCALE = "a Daebus service has one worker, which holds its subscriptions and tasks; scale by replicas"


class Logger(glogging.Logger):  # type: ignore[misc]
    """gunicorn's own records, in the form of ours; an access log only where gunicorn was told of a file for it."""

    def setup(self, cfg: Any) -> None:
        super().setup(cfg)
        self.error_log.handlers = []
        self.error_log.propagate = True
        self.error_log.setLevel(logging.WARNING)


def nworkers_changed(server: Any, new_value: int, old_value: int | None) -> None:
    """SIGTTIN asks for a second worker."""
    if old_value is not None and new_value > 1:
        runtime_logger.warning("%s", SCALE)
        server._num_workers = 1


SETTINGS: dict[str, Any] = {
    "workers": 1,
    "worker_class": "daebus_runtime.worker.Worker",
    "preload_app": True,
    "logger_class": Logger,
    "control_socket_disable": True,  # one path per user: a second gunicorn would silently take it over
    # The heartbeat file; this works on a read-only root.
    "worker_tmp_dir": "/dev/shm" if os.path.isdir("/dev/shm") else None,
    "timeout": 60,
    "keepalive": 75,
    "nworkers_changed": nworkers_changed,
}


def configure(cfg: Any, prepared: Prepared) -> None:
    """Tell gunicorn what the service's settings say, and its worker what the master has prepared."""
    cfg.set("graceful_timeout", int(prepared.settings.drain_seconds + MARGIN_SECONDS))
    cfg.set("worker_connections", prepared.settings.connection_limit)
    cfg.set("pre_fork", _handing_over(prepared))


def _handing_over(prepared: Prepared) -> Callable[[Any, Any], None]:
    def pre_fork(server: Any, worker: Any) -> None:
        worker.prepared = prepared
        gc.freeze()  # what exists now is shared with the worker and lives as long: the collector can pass it over

    return pre_fork


def adopt(server: Any, app: Application, prepared: Prepared) -> None:
    """On gunicorn's command line, before the port opens."""
    settings = prepared.settings
    if server.cfg.address == [("0.0.0.0", 8080)]:
        server.cfg.set("bind", f"{settings.http_host}:{ports_of(app.running(settings)).main}")
        server.address = server.cfg.address
    configure(server.cfg, prepared)


# --- embedded
# -----------------------------------------------------------------------------------------------------------
class _Arbiter(Arbiter):  # type: ignore[misc]
    """The master of an embedded gunicorn. Ctrl-C drains, as SIGTERM does; the port is open already."""

    def __init__(self, application: _Embedded, listener: socket.socket) -> None:
        super().__init__(application)
        kind = sock.TCP6Socket if listener.family == socket.AF_INET6 else sock.TCPSocket
        address = listener.getsockname()
        self.LISTENERS = [kind(address, self.cfg, self.log, fd=listener.detach())]

    def handle_int(self) -> None:
        raise StopIteration

    handle_quit = handle_int


class _Embedded(BaseApplication):  # type: ignore[misc]
    def __init__(self, app: Application, prepared: Prepared) -> None:
        self._app, self._prepared = app, prepared
        super().__init__()

    def load_config(self) -> None:
        for name, value in SETTINGS.items():
            self.cfg.set(name, value)
        configure(self.cfg, self._prepared)

    def load(self) -> Any:
        return self._app


def serve(app: Application, prepared: Prepared) -> None:
    """`app.run()` with HTTP or WebSockets: returns when the service has ended in order, else SystemExit with a code."""
    settings = prepared.settings
    ports = ports_of(app.running(settings))
    listener = open_listener(settings.http_host, ports.main, ports.main_setting)
    try:
        _Arbiter(_Embedded(app, prepared), listener).run()
    except SystemExit as end:
        if end.code not in (0, None):
            raise
