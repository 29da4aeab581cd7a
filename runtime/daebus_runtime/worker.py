"""The gunicorn worker of a service: starts the Runner, serves until it is told to stop, drains within a bound.

Start: second port (if any) → Runner → accept. What cannot start ends gunicorn with one line and code 1 or more.
Stop, on SIGTERM, SIGINT, SIGQUIT and when the master has died:

    at once       no new connections; connections that wait for a request end; WebSockets get 1001
    within 0.5 s  a client that does not answer the 1001, or is in the middle of a header, is cut
    until DAEBUS_DRAIN_SECONDS (SIGINT, SIGQUIT: QUICK_SECONDS)
                  requests and socket messages in flight finish; then their connections are cut
    then          Runner.finish: messages, tasks, threads, on_stop hooks, the bus

The master's own SIGKILL comes later than all that: its graceful_timeout is longer (master.py).
"""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import sys
import time
from typing import Any

from gevent import get_hub
from gevent.event import Event
from gevent.pool import Pool
from gunicorn.http.wsgi import base_environ
from gunicorn.sock import ssl_context
from gunicorn.workers.ggevent import VERSION, GeventPyWSGIWorker

from . import signals
from .application import Application
from .cutoff import Cutoff
from .errors import ConfigurationError
from .logs import runtime_logger
from .runner import END_SECONDS, Prepared, Runner
from .servers.http.application import WEBSOCKET_ONLY
from .servers.http.connection import HttpConnection
from .servers.http.server import Server
from .servers.ports import open_listener, ports_of

TICK_SECONDS = 1.0
DRAIN_TICK_SECONDS = 0.1
QUICK_SECONDS = 2.0
CUT_SECONDS = 0.5
BOOT_ERROR = 3  # gunicorn's own code for "do not try again"


class Worker(GeventPyWSGIWorker):  # type: ignore[misc]
    """`worker_class` of the configuration in master.py. One for each service."""

    server_class = Server
    wsgi_handler = HttpConnection
    alive: bool
    prepared: Prepared
    """Told by the master before it forks."""

    def run(self) -> None:
        self._quick = False
        self._wake = Event()
        self._watch_signals()
        if not self.alive:
            return  # asked to end while it started
        self.booted = False  # until we serve: the master must not start a worker again that cannot start
        try:
            self._serve(self._application())
        except ConfigurationError as error:
            print(f"daebus: cannot start: {error}", file=sys.stderr, flush=True)  # noqa: T201
            sys.exit(BOOT_ERROR)

    def _application(self) -> Application:
        if not isinstance(self.wsgi, Application):
            raise ConfigurationError(f"gunicorn was given {self.wsgi!r}; this worker serves a Daebus application")
        return self.wsgi

    def _serve(self, app: Application) -> None:
        runner = Runner(app, self.prepared)
        settings = runner.settings
        pool = Pool(settings.connection_limit)
        servers = [self._server(listener, pool) for listener in self.sockets]
        ports = ports_of(runner.running)
        if ports.websocket is not None:
            listener = open_listener(settings.http_host, ports.websocket, "DAEBUS_WEBSOCKET_PORT")
            servers.append(self._server(listener, pool, websocket_only=True))
        own = servers[0 if ports.websocket is None else -1]
        if app.websocket is not None:
            app.websocket.bound_port = _port_of(own)
        runner.served_by(self.ppid)
        runner.start()
        for server in servers:
            server.start()
        runner.announce(self._addresses(app, servers[0], own))
        self.booted = True
        while self.alive:
            self.notify()
            self._wake.wait(TICK_SECONDS)
        self._drain(app, runner, servers, pool)

    def _server(self, listener: Any, pool: Pool, websocket_only: bool = False) -> Server:
        listener.setblocking(1)
        environ = base_environ(self.cfg)
        environ.update({"wsgi.multithread": True, "SERVER_SOFTWARE": VERSION, WEBSOCKET_ONLY: websocket_only})
        tls = {"ssl_context": ssl_context(self.cfg)} if self.cfg.is_ssl else {}
        return Server(
            listener,
            application=self.wsgi,
            spawn=pool,
            log=self.log,
            handler_class=self.wsgi_handler,
            environ=environ,
            **tls,
        )

    def _addresses(self, app: Application, main: Server, websocket: Server) -> dict[str, str]:
        """What the first lines say."""
        addresses = {}
        if app.http is not None:
            addresses["HTTP"] = f"http://{_where(main)}"
        if app.websocket is not None:
            addresses["WebSocket"] = f"ws://{_where(websocket)}"
        return addresses

    # --- the end --------------------------------------------------------------------------------------------------
    def _drain(self, app: Application, runner: Runner, servers: list[Server], pool: Pool) -> None:
        cutoff, seconds = Cutoff(), runner.settings.drain_seconds
        cutoff.arm(seconds + CUT_SECONDS + END_SECONDS)
        deadline = time.monotonic() + seconds
        runner.begin_drain()
        for server in servers:
            server.drain()
        if app.websocket is not None:
            app.websocket.retire()
        while len(pool) and time.monotonic() < deadline:
            if self._quick:  # asked for only now, perhaps
                deadline = min(deadline, time.monotonic() + QUICK_SECONDS)
                self._quick = False
            self.notify()
            pool.join(timeout=DRAIN_TICK_SECONDS)
        if len(pool):
            runtime_logger.warning("%d connections did not end within DAEBUS_DRAIN_SECONDS and are cut", len(pool))
            pool.kill(block=True, timeout=CUT_SECONDS)
        self.notify()
        runner.finish(deadline, cutoff)
        gc.freeze()  # the interpreter's last collection would cost more than all of the above

    def notify(self) -> None:
        """Tell the master that we live; notice when it does not."""
        self.tmp.notify()
        if self.alive and self.ppid != os.getppid():
            runtime_logger.error("gunicorn's master has died; stopping")
            self.alive = False
            self._wake.set()

    # --- signals --------------------------------------------------------------------------------------------------
    def init_signals(self) -> None:
        hangup = signal.getsignal(signal.SIGHUP)
        super().init_signals()
        # A terminal's Ctrl-C comes to the whole process group: drain as well, only not for long.
        for number in (signal.SIGINT, signal.SIGQUIT):
            signals.install(number, self.handle_quit)
        for number in (signal.SIGTERM, signal.SIGHUP):
            signals.install(number, self.handle_exit)
        if hangup is signal.SIG_IGN:
            signal.signal(signal.SIGHUP, hangup)
        for number in (signal.SIGUSR2, signal.SIGTTIN, signal.SIGTTOU):
            signal.signal(number, signal.SIG_IGN)  # for the master, which says so
        signals.unblock()  # the master has blocked them across the fork

    def _watch_signals(self) -> None:
        # Python runs a signal's handler when it gets to; the byte in the pipe makes the loop turn at once.
        watcher = get_hub().loop.io(self.PIPE[0], 1)
        watcher.start(self._signalled)
        self._watcher = watcher

    def _signalled(self) -> None:
        with contextlib.suppress(OSError):
            os.read(self.PIPE[0], 4096)
        if not self.alive:
            self._wake.set()

    def handle_exit(self, sig: int, frame: object) -> None:
        self.alive = False

    def handle_quit(self, sig: int, frame: object) -> None:
        self._quick = True
        self.alive = False


def _port_of(server: Server) -> int | None:
    return server.address[1] if isinstance(server.address, tuple) else None


def _where(server: Server) -> str:
    address = server.address
    if not isinstance(address, tuple):
        return f"unix:{address}"
    return f"[{address[0]}]:{address[1]}" if ":" in address[0] else f"{address[0]}:{address[1]}"
