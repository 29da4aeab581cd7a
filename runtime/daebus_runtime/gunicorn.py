"""gunicorn, set up for a Daebus service; both ways of serving use what is written here.

    gunicorn -c python:daebus_runtime.gunicorn my_service.app:app      this module is the configuration file
    app.run()                                                          the same settings, gunicorn embedded

One master, one worker: the worker holds subscriptions, tasks and threads, so a second one would run them twice. More
capacity is more replicas. The application is loaded by the master (`preload_app`), which thereby knows its address
and finds mistakes before anything is forked.
"""

from __future__ import annotations

from .patching import patch

patch()

import gc
import logging
import os
import socket
import sys
from typing import TYPE_CHECKING, Any

from gunicorn import glogging, sock
from gunicorn.app.base import BaseApplication
from gunicorn.arbiter import Arbiter

from .errors import ConfigurationError
from .logs import runtime_logger
from .servers.management import open_listener
from .servers.ports import ports_of
from .settings import Settings

if TYPE_CHECKING:
    from .app import Daebus
    from .runner import Prepared

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


# --- the configuration, by gunicorn's names
# -----------------------------------------------------------------------------
bind = DEFAULT_BIND
workers = 1
worker_class = "daebus_runtime.servers.worker.Worker"
worker_connections = 10_000
preload_app = True
logger_class = Logger
control_socket_disable = True  # one path per user: a second gunicorn would silently take it over
worker_tmp_dir = "/dev/shm" if os.path.isdir("/dev/shm") else None  # the heartbeat file; works on a read-only root
timeout = 60
graceful_timeout = 30
keepalive = 75


def on_starting(server: Any) -> None:
    """The master, before it opens a port: settle what the application says, refuse what cannot work."""
    from .app import Daebus
    from .runner import prepare

    app = server.app.wsgi()
    try:
        if not isinstance(app, Daebus):
            raise ConfigurationError(f"gunicorn was given {app!r}; this configuration serves a Daebus application")
        if server.cfg.workers != 1:
            raise ConfigurationError(f"{server.cfg.workers} workers were asked for: {SCALE}")
        prepared = prepare(app)
        if app.http is None and app.websocket is None:
            raise ConfigurationError(
                "the service has no HTTP or WebSocket to serve; run it with app.run() or `daebus run`"
            )
    except ConfigurationError as error:
        print(f"daebus: cannot start: {error}", file=sys.stderr, flush=True)
        raise SystemExit(1) from None
    settings = prepared.settings
    if server.cfg.address == [("0.0.0.0", 8080)]:
        server.cfg.set("bind", f"{settings.http_host}:{ports_of(app.running(settings)).main}")
        server.address = server.cfg.address
    server.cfg.set("graceful_timeout", int(settings.drain_seconds + MARGIN_SECONDS))
    server.cfg.set("worker_connections", settings.connection_limit)


def pre_fork(server: Any, worker: Any) -> None:
    """What exists now is shared with the worker and lives as long: the collector need not look at it again."""
    gc.freeze()


def nworkers_changed(server: Any, new_value: int, old_value: int | None) -> None:
    """SIGTTIN asks for a second worker."""
    if old_value is not None and new_value > 1:
        runtime_logger.warning("%s", SCALE)
        server._num_workers = 1


NAMES = (
    "workers",
    "worker_class",
    "preload_app",
    "logger_class",
    "control_socket_disable",
    "worker_tmp_dir",
    "timeout",
    "keepalive",
    "pre_fork",
    "nworkers_changed",
)


# --- embedded
# -----------------------------------------------------------------------------------------------------------
class _Arbiter(Arbiter):  # type: ignore[misc]
    """The master of an embedded gunicorn. Ctrl-C drains, as SIGTERM does; the port is open already."""

    def __init__(self, application: _Application, listener: socket.socket) -> None:
        super().__init__(application)
        kind = sock.TCP6Socket if listener.family == socket.AF_INET6 else sock.TCPSocket
        address = listener.getsockname()
        self.LISTENERS = [kind(address, self.cfg, self.log, fd=listener.detach())]

    def handle_int(self) -> None:
        raise StopIteration

    handle_quit = handle_int


class _Application(BaseApplication):  # type: ignore[misc]
    def __init__(self, app: Daebus, settings: Settings) -> None:
        self._app, self._settings = app, settings
        super().__init__()

    def load_config(self) -> None:
        for name in NAMES:
            self.cfg.set(name, globals()[name])
        self.cfg.set("graceful_timeout", int(self._settings.drain_seconds + MARGIN_SECONDS))
        self.cfg.set("worker_connections", self._settings.connection_limit)

    def load(self) -> Any:
        return self._app


def serve(app: Daebus, prepared: Prepared) -> None:
    """`app.run()` with HTTP or WebSockets: returns when the service has ended in order, else SystemExit with a code."""
    settings = prepared.settings
    ports = ports_of(app.running(settings))
    listener = open_listener(settings.http_host, ports.main, ports.main_setting)
    try:
        _Arbiter(_Application(app, settings), listener).run()
    except SystemExit as end:
        if end.code not in (0, None):
            raise
    finally:
        if prepared.bus is not None and prepared.bus.server is not None:
            prepared.bus.server.stop()
        app.prepared = None
