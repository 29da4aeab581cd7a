"""gunicorn's master of a Daebus service, the same for `app.run()` and for gunicorn's command line (gunicorn.py).

There is one master and one worker: the worker holds subscriptions, tasks and threads, so a second worker would run them
twice. For more capacity, run more replicas. The master loads the application (`preload_app`), so that it knows the
address to open and finds mistakes before the fork.
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

MARGIN_SECONDS = END_SECONDS + 1.0  # the master kills the worker this long after DAEBUS_DRAIN_SECONDS
DEFAULT_BIND = "0.0.0.0:8080"
SCALE = "a Daebus service has one worker, which holds its subscriptions and tasks; scale by replicas"


class _MonotonicTime:
    """Replaces the module `time` in gunicorn's arbiter, which measures a drain with `time.time()`. If the wall clock
    were set meanwhile, the arbiter would kill the worker at once, or wait for hours."""

    time = staticmethod(time.monotonic)

    def __getattr__(self, name: str) -> Any:
        return getattr(time, name)


arbiter.time = _MonotonicTime()


class Logger(glogging.Logger):  # type: ignore[misc]
    """gunicorn's log records in the format of Daebus. There is an access log only if gunicorn has a file for it."""

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
    "control_socket_disable": True,  # its path is per user, so a second gunicorn would take it over silently
    # For the heartbeat file; also works with a read-only root file system.
    "worker_tmp_dir": "/dev/shm" if os.path.isdir("/dev/shm") else None,
    "forwarded_allow_ips": "",  # gunicorn trusts loopback; here nobody is trusted who was not named
    "timeout": 60,
    "keepalive": 75,
}


def configure(cfg: Any, prepared: Prepared) -> None:
    """Pass the service's settings to gunicorn, and what the master has prepared to the worker."""
    cfg.set("graceful_timeout", int(prepared.settings.drain_seconds + MARGIN_SECONDS))
    cfg.set("worker_connections", prepared.settings.connection_limit)
    cfg.set("pre_fork", _handing_over(prepared))


def _handing_over(prepared: Prepared) -> Callable[[Any, Any], None]:
    def pre_fork(server: Any, worker: Any) -> None:
        worker.prepared = prepared
        shared.close_all()  # connections from before the start: the master needs none
        gc.freeze()  # existing objects live as long as the worker, so the garbage collector can skip them

    return pre_fork


class Master(arbiter.Arbiter):  # type: ignore[misc]
    """gunicorn's arbiter with the signal handling of signals.py, installed before the port opens."""

    asks = 0
    opens: tuple[str, Ports] | None = None
    """The host and the ports of the service; None if gunicorn was given another address, which it opens itself."""

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
        # Until the worker has its own handlers it has the master's, which would lose a signal.
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
        raise StopIteration  # drain, as gunicorn does on SIGTERM

    handle_int = handle_quit = handle_hup = handle_term

    def handle_ttin(self) -> None:
        runtime_logger.warning("SIGTTIN asks for another worker: %s", SCALE)

    def handle_usr2(self) -> None:
        runtime_logger.warning(
            "SIGUSR2 asks for a second master, which would open every port and subscription twice; "
            "restart the service instead"
        )

    def handle_ttou(self) -> None:
        """Ignored: one worker is the minimum."""

    handle_winch = handle_ttou


def refuse(error: ConfigurationError) -> NoReturn:
    """Print why the service cannot start, and end the process."""
    print(f"daebus: cannot start: {error}", file=sys.stderr, flush=True)
    raise SystemExit(1) from None


def adopt(server: Any, app: Application, prepared: Prepared) -> None:
    """For gunicorn's command line, before the port opens. An address given there overrides the service's settings."""
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
    """`app.run()` with HTTP or WebSockets: returns after a graceful stop, else raises SystemExit with an exit code."""
    server = Master(_Embedded(app, prepared))
    server.opens = (prepared.settings.http_host, ports_of(app.running(prepared.settings)))
    with signals.kept(Master.SIGNALS):
        try:
            server.run()
        except SystemExit as end:
            if end.code not in (0, None):
                raise
