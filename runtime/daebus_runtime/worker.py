"""The gunicorn worker of a service: starts the Runner, serves until it must stop, and drains within a time limit.

Start: second port (if any) → Runner → accept. If the start fails, gunicorn ends with one line and an exit code above 0.
Stop, on SIGTERM, SIGINT, SIGQUIT, when the master has died, and after DAEBUS_MAX_REQUESTS:

    at once       no new connections; WebSockets are sent 1001; every HTTP answer has `Connection: close`
    within 0.5 s  clients that do not answer the 1001, that send no request, or half a header, are cut
    until DAEBUS_DRAIN_SECONDS (SIGINT, SIGQUIT: QUICK_SECONDS)
                  current requests and socket messages finish; then their connections are cut
    then          Runner.finish: messages, tasks, threads, on_stop hooks, the bus

The master sends SIGKILL only after all that, because its graceful_timeout is longer (master.py).
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
from gunicorn.workers.ggevent import VERSION, GeventPyWSGIWorker

from . import signals
from .application import Application
from .cutoff import Cutoff
from .errors import ConfigurationError
from .logs import runtime_logger
from .runner import END_SECONDS, Prepared, Runner
from .servers.http.application import WEBSOCKET_ONLY
from .servers.http.front import Front
from .servers.http.served import Served
from .servers.http.server import Server
from .servers.ports import open_listener, ports_of
from .settings import authority

TICK_SECONDS = 1.0
DRAIN_TICK_SECONDS = 0.1
QUICK_SECONDS = 2.0
CUT_SECONDS = 0.5
BOOT_ERROR = 3  # gunicorn's exit code for "do not start again"


class Worker(GeventPyWSGIWorker):  # type: ignore[misc]
    """`worker_class` of the configuration in master.py. Each service has one worker."""

    server_class = Server
    alive: bool
    prepared: Prepared
    """Set by the master before the fork."""

    def run(self) -> None:
        self._quick = self._replaced = False
        self._wake = Event()
        self._watch_signals()
        if not self.alive:
            return  # asked to stop during the start
        self.booted = False  # until it serves: the master must not restart a worker that cannot start
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
        self._front = Front(settings, self.cfg)
        self._served = Served(settings, self.cfg, self.log, self._replace)
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
            self._front.look()
            self._wake.wait(TICK_SECONDS)
        self._drain(app, runner, servers, pool)

    def _server(self, listener: Any, pool: Pool, websocket_only: bool = False) -> Server:
        listener.setblocking(1)
        environ = base_environ(self.cfg)
        environ.update({"wsgi.multithread": True, "SERVER_SOFTWARE": VERSION, WEBSOCKET_ONLY: websocket_only})
        environ["wsgi.url_scheme"] = "https" if self._front.tls is not None else "http"
        return Server(
            listener,
            application=self.wsgi,
            spawn=pool,
            log=self.log,
            handler_class=self._front.connection,
            environ=environ,
            trust=self._front.trust,
            preface=self._front.preface,
            served=self._served.watch,
        )

    def _addresses(self, app: Application, main: Server, websocket: Server) -> dict[str, str]:
        """The addresses for the first log lines."""
        addresses, s = {}, "s" if self._front.tls is not None else ""
        if app.http is not None:
            addresses["HTTP"] = f"http{s}://{_where(main)}"
        if app.websocket is not None:
            addresses["WebSocket"] = f"ws{s}://{_where(websocket)}"
        return addresses

    # --- the end --------------------------------------------------------------------------------------------------
    def _drain(self, app: Application, runner: Runner, servers: list[Server], pool: Pool) -> None:
        cutoff, seconds = Cutoff(), runner.settings.drain_seconds
        cutoff.arm(seconds + CUT_SECONDS + END_SECONDS)
        deadline = time.monotonic() + seconds
        if not self._replaced:
            runner.begin_drain()  # else the bus is served, and the service ready, until the last answer
        for server in servers:
            server.drain()
        if app.websocket is not None:
            app.websocket.retire()
        while len(pool) and time.monotonic() < deadline:
            if self._quick:  # may have been set during the drain
                deadline = min(deadline, time.monotonic() + QUICK_SECONDS)
                self._quick = False
            self.notify()
            pool.join(timeout=DRAIN_TICK_SECONDS)
        if len(pool):
            runtime_logger.warning("%d connections did not end within DAEBUS_DRAIN_SECONDS and are cut", len(pool))
            pool.kill(block=True, timeout=CUT_SECONDS)
        self.notify()
        self._served.flush()
        runner.finish(deadline, cutoff)
        gc.freeze()  # otherwise the last garbage collection would take longer than all of the above

    def _replace(self) -> None:
        """Called after the last of `max_requests`: end like on SIGTERM. The master then starts another worker."""
        if self.alive:
            runtime_logger.info("the worker has served its number of requests, and is replaced")
            self._replaced, self.alive = True, False
            self._wake.set()

    def notify(self) -> None:
        """Send the heartbeat to the master, and notice if the master has died."""
        self.tmp.notify()
        if self.alive and self.ppid != os.getppid():
            runtime_logger.error("gunicorn's master has died; stopping")
            self.alive = False
            self._wake.set()

    # --- signals --------------------------------------------------------------------------------------------------
    def init_signals(self) -> None:
        hangup = signal.getsignal(signal.SIGHUP)
        super().init_signals()
        # A terminal sends Ctrl-C to the whole process group: drain, but only for a short time.
        for number in (signal.SIGINT, signal.SIGQUIT):
            signals.install(number, self.handle_quit)
        for number in (signal.SIGTERM, signal.SIGHUP):
            signals.install(number, self.handle_exit)
        if hangup is signal.SIG_IGN:
            signal.signal(signal.SIGHUP, hangup)
        for number in (signal.SIGUSR2, signal.SIGTTIN, signal.SIGTTOU):
            signal.signal(number, signal.SIG_IGN)  # the master handles these and logs a warning
        signals.unblock()  # the master has blocked them across the fork

    def _watch_signals(self) -> None:
        # Python runs signal handlers between bytecodes; the byte in the pipe wakes the loop, so that this is at once.
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
    return authority(*address[:2])
