"""gunicorn's master of a Daebus service, the same below `app.run()` and on gunicorn's command line (gunicorn.py).

One master, one worker: the worker holds subscriptions, tasks and threads, so a second one would run them twice. More
capacity is more replicas. The application is loaded by the master (`preload_app`), which thereby knows its address
and finds mistakes before anything is forked.
"""

from __future__ import annotations

import gc
import logging
import os
import signal
import sys
import time
from collections.abc import Callable
from types import FrameType
from typing import Any, NoReturn

from gunicorn import arbiter, glogging, sock
from gunicorn.app.base import BaseApplication

from . import signals
from .application import Application
from .errors import ConfigurationError
from .logs import runtime_logger
from .runner import END_SECONDS, Prepared
from .servers.ports import Ports, open_listener, ports_of
from .transport import shared

MARGIN_SECONDS = END_SECONDS + 1.0  # the worker needs DAEBUS_DRAIN_SECONDS and this; only then the master kills it
DEFAULT_BIND = "0.0.0.0:8080"
SCALE = "a Daebus service has one worker, which holds its subscriptions and tasks; scale by replicas"


class _MonotonicTime:
    """The module `time` as gunicorn's arbiter sees it. It counts the seconds of a drain by `time.time()`; were the wall
    clock set meanwhile, it would kill the worker at once, or wait for hours."""

    time = staticmethod(time.monotonic)

    def __getattr__(self, name: str) -> Any:
        return getattr(time, name)


arbiter.time = _MonotonicTime()


class Logger(glogging.Logger):  # type: ignore[misc]
    """gunicorn's own records, in the form of ours; an access log only where gunicorn was told of a file for it."""

    def setup(self, cfg: Any) -> None:
        super().setup(cfg)
        self.error_log.handlers = []
        self.error_log.propagate = True
        self.error_log.setLevel(logging.WARNING)


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
}


def configure(cfg: Any, prepared: Prepared) -> None:
    """Tell gunicorn what the service's settings say, and its worker what the master has prepared."""
    cfg.set("graceful_timeout", int(prepared.settings.drain_seconds + MARGIN_SECONDS))
    cfg.set("worker_connections", prepared.settings.connection_limit)
    cfg.set("pre_fork", _handing_over(prepared))


def _handing_over(prepared: Prepared) -> Callable[[Any, Any], None]:
    def pre_fork(server: Any, worker: Any) -> None:
        worker.prepared = prepared
        shared.close_all()  # what the program asked of the bus before it served: the master needs no connection
        gc.freeze()  # what exists now is shared with the worker and lives as long: the collector can pass it over

    return pre_fork


class Master(arbiter.Arbiter):  # type: ignore[misc]
    """gunicorn's arbiter with the signals of signals.py, which it heeds before its port opens."""

    asks = 0
    opens: tuple[str, Ports] | None = None
    """The host and the ports of the service; None when gunicorn was told another address and opens that."""

    def start(self) -> None:
        try:
            super().start()
        except ConfigurationError as error:
            refuse(error)

    def init_signals(self) -> None:
        hangup = signal.getsignal(signal.SIGHUP)
        super().init_signals()
        if hangup is signal.SIG_IGN:
            signal.signal(signal.SIGHUP, hangup)
        if signals.asked_early():
            self.SIG_QUEUE.put_nowait(signal.SIGTERM)
        if self.opens is not None:
            host, ports = self.opens
            listener = open_listener(host, ports.main, ports.main_setting)
            kind = sock.TCP6Socket if listener.family == sock.TCP6Socket.FAMILY else sock.TCPSocket
            self.LISTENERS = [kind(listener.getsockname(), self.cfg, self.log, fd=listener.detach())]

    def spawn_worker(self) -> Any:
        # A signal that comes before the worker has handlers of its own would be the master's there, and lost.
        with signals.blocked():
            return super().spawn_worker()

    def signal(self, sig: int, frame: FrameType | None) -> None:
        self.asks += sig in signals.COUNTED
        if self.asks > 1:
            for worker in list(self.WORKERS):
                os.kill(worker, signal.SIGKILL)
            os._exit(signals.IMPATIENT)
        super().signal(sig, frame)

    def handle_term(self) -> None:
        raise StopIteration  # drains, as gunicorn does on SIGTERM

    handle_int = handle_quit = handle_hup = handle_term

    def handle_ttin(self) -> None:
        runtime_logger.warning("SIGTTIN asks for another worker: %s", SCALE)

    def handle_usr2(self) -> None:
        runtime_logger.warning(
            "SIGUSR2 asks for a second master, which would hold everything twice; start anew instead"
        )

    def handle_ttou(self) -> None:
        """One worker is the least."""

    handle_winch = handle_ttou


def refuse(error: ConfigurationError) -> NoReturn:
    """Say why the service cannot start, and end the process."""
    print(f"daebus: cannot start: {error}", file=sys.stderr, flush=True)
    raise SystemExit(1) from None


def adopt(server: Any, app: Application, prepared: Prepared) -> None:
    """On gunicorn's command line, before the port opens. Its own address wins over the service's settings."""
    server.__class__ = Master  # the command line has no setting for it
    if server.cfg.address == [("0.0.0.0", 8080)] and "LISTEN_PID" not in os.environ:
        server.opens = (prepared.settings.http_host, ports_of(app.running(prepared.settings)))
    configure(server.cfg, prepared)


# --- embedded
# -----------------------------------------------------------------------------------------------------------
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
    server = Master(_Embedded(app, prepared))
    server.opens = (prepared.settings.http_host, ports_of(app.running(prepared.settings)))
    with signals.kept(Master.SIGNALS):
        try:
            server.run()
        except SystemExit as end:
            if end.code not in (0, None):
                raise
