"""What starts and what stops, in which order, and why. `run` is what `app.run()` does; a `Runner` is one running
service.

Start (Runner.start)                                    why then
  1 watchdog                                            it should see what the rest of the start does
  2 management port                                     probes may ask from the first moment; the answer is "not ready"
  3 bus: begin to connect                               nothing waits for it: a service starts without Redis
  4 listeners, requests                                 asked for now, confirmed when the bus is there
  5 threads, scheduled tasks                            they may use the bus; a publish waits for it
  6 on_start hooks                                      once the bus has confirmed every subscription
  7 ready                                               and not before

Stop (begin_drain, then finish)                         why then
  1 readiness off                                       so that nobody sends more
  2 subscriptions given up, tasks paused, threads told  no new work; what was received is kept
  3 HTTP and WebSockets (worker.py)                     idle ones end, requests in flight finish, 1001 to sockets
  4 messages, task runs, threads finish                 within DAEBUS_DRAIN_SECONDS; they may still use the bus
  5 on_stop hooks                                       the last of the author's code, with the bus still there
  6 bus, management port                                last: replies have left, /readyz told the truth until now

With HTTP or WebSockets, gunicorn's master watches over one worker, and the worker holds the Runner; without, the
process that was started does, and there is no fork.
"""

from __future__ import annotations

import dataclasses
import os
import platform
import signal
import sys
import time
from types import CodeType
from typing import TYPE_CHECKING

import gevent
import redis
from gevent.event import Event

from . import __version__, context, logs
from .clock import Clock
from .dispatch.blocking import BlockingPool
from .dispatch.guard import FAULTS
from .dispatch.watchdog import Watchdog, code_of
from .errors import ConfigurationError
from .logs import direct_logger, runtime_logger
from .registry import Action, Declared, Hook, Listener, Task, Thread
from .running import Running
from .servers.consumer import Consumer
from .servers.management import Management
from .servers.scheduler import Scheduler
from .servers.threads import Threads
from .settings import Settings, redact, unknown_variables
from .transport import State, Transport, shared, topology
from .transport.embedded import Bus, resolve

if TYPE_CHECKING:
    from .app import Daebus

HOOK_POLL_SECONDS = 0.02
STOP_HOOK_SECONDS = 5.0
FLUSH_SECONDS = 1.0


@dataclasses.dataclass(frozen=True)
class Prepared:
    """What is settled before anything starts, in the process that was started (with HTTP: gunicorn's master)."""

    settings: Settings
    bus: Bus | None
    """None when the service does not need one and none was found."""


def uses_bus(app: Daebus) -> bool:
    """Whether the service receives messages, and so cannot be ready without a bus."""
    return bool(app.registry.all(Action) or app.registry.all(Listener))


def prepare(app: Daebus) -> Prepared:
    """Settle settings and bus. ConfigurationError for everything that would make a half-working service.

    Done once: what a master has prepared is used by its worker. An embedded bus started here dies with this process.
    """
    if app.prepared is None:
        loaded = app.load_settings()
        logs.configure(loaded.settings.log_format, "debug" if loaded.settings.debug else loaded.settings.log_level)
        for line in (*loaded.overridden, *unknown_variables()):
            runtime_logger.warning("%s", line)
        _check_components(app, loaded.settings)
        bus = _find_bus(app, loaded.settings)
        app.prepared = Prepared(loaded.settings, bus)
    return app.prepared


def _check_components(app: Daebus, settings: Settings) -> None:
    from .servers.http.application import check

    check(app.running(settings))


def _find_bus(app: Daebus, settings: Settings) -> Bus | None:
    try:
        bus = resolve(settings)
    except ConfigurationError:
        if uses_bus(app) or settings.redis_url or settings.embedded == "always":
            raise
        return None
    topology.check(bus.url)
    return bus


class Runner:
    """One running service, in the process that does its work. Made and started on the main thread's loop."""

    def __init__(self, app: Daebus, transport: Transport | None = None, clock: Clock | None = None) -> None:
        prepared = prepare(app) if transport is None else None
        self.app = app
        self.settings = prepared.settings if prepared else app.load_settings().settings
        self.bus = prepared.bus if prepared else None
        self.service = self.settings.service or app.name
        self.metrics = app.metrics
        self.transport = transport or self._open_bus()
        self.blocking = BlockingPool(app.max_workers)
        self.consumer = Consumer(app, self.service, self.transport, self.settings, self.blocking, self.metrics)
        self.threads = Threads(app)
        self.scheduler = Scheduler(app, self.blocking, self.metrics, clock)
        self.management: Management | None = None
        self.draining = False
        self.running: Running = app.running(self.settings, self.blocking, lambda: self.draining)
        self.stopped = Event()
        self._hooked = self._started = False
        self._names: dict[CodeType, str] = {}
        self._watchdog = Watchdog(self._names, self.settings.block_seconds, self.metrics)
        self._master = 0

    # --- start ----------------------------------------------------------------------------------------------------
    def start(self, timers: bool = True) -> None:
        """See the module's text. `timers=False` leaves scheduled tasks to a test's clock.

        ConfigurationError when the management port is taken.
        """
        app, settings = self.app, self.settings
        self._watchdog.start()
        if settings.management_port is not None:
            self.management = Management(
                settings.management_host, settings.management_port, self.metrics, self.not_ready
            )
            self.management.start()
        app.runner = self
        app.use_bus(self.transport, self._client if self.bus else None)
        app.serve(self.running)
        context.running(app, True)
        self._measure()
        self.transport.watch(self._bus_changed)
        if uses_bus(app):
            self.transport.open()
        for item in app.registry.all(Declared):
            self.take(item)
        self.threads.start_all()
        if timers:
            self.scheduler.start()
        self._started = True
        gevent.spawn(self._run_start_hooks)

    def _open_bus(self) -> Transport:
        url = self.bus.url if self.bus else "redis://localhost:6379"
        shared.set_default(url)
        return shared.make(url, self.settings, self.metrics)

    def _client(self) -> redis.Redis:
        assert self.bus is not None
        return topology.of(self.bus.url).client()

    def _measure(self) -> None:
        self.metrics.gauge("daebus_bus_up", "1 while the bus is connected.", lambda: self.transport.state is State.UP)
        self.metrics.gauge("daebus_ready", "1 while the service is ready.", lambda: not self.not_ready())

    def take(self, item: Declared) -> None:
        """Put one declaration to work."""
        code = code_of(item.function)
        if code is not None:
            self._names[code] = item.title
        if isinstance(item, Action):
            self.consumer.add_action(item)
        elif isinstance(item, Listener):
            self.consumer.add_listener(item)
        elif isinstance(item, Task):
            self.scheduler.add(item)
        elif isinstance(item, Thread):
            self.threads.add(item)

    def _run_start_hooks(self) -> None:
        while not self.consumer.confirmed and not self.draining:
            gevent.sleep(HOOK_POLL_SECONDS)
        if not self.draining:
            self._run_hooks("on_start")
            self._hooked = True

    def _run_hooks(self, kind: str) -> None:
        for hook in self.app.registry.all(Hook):
            if hook.kind == kind:
                try:
                    context.call_in_context(context.Context(self.app), hook.function)
                except FAULTS:
                    runtime_logger.exception("a hook failed: %s at %s", kind, hook.where)

    # --- state ----------------------------------------------------------------------------------------------------
    def not_ready(self) -> list[str]:
        """Why the service is not ready; empty when it is."""
        reasons = []
        if self.draining:
            reasons.append("draining: the service is stopping")
        if self.consumer.wanted and not (self.transport.state is State.UP and self.consumer.confirmed):
            reasons.append(self._bus_trouble())
        if not self._hooked and not reasons:
            reasons.append("starting: on_start hooks have not finished")
        return reasons

    def _bus_trouble(self) -> str:
        if self.transport.state is not State.UP:
            return f"bus: not connected ({self.transport.reason or 'no answer yet'})"
        return f"bus: {self.consumer.refused or 'connected, but subscriptions are not confirmed yet'}"

    def is_running(self) -> bool:
        return self._started and not self.draining

    def _bus_changed(self, state: State, reason: str) -> None:
        where = redact(self.bus.url) if self.bus else "memory"
        if state is State.UP:
            runtime_logger.info("the bus at %s is connected", where)
        elif state is State.DOWN:
            runtime_logger.warning("the bus at %s is away (%s); trying again until it is back", where, reason)

    def announce(self, addresses: dict[str, str]) -> None:
        """The block of first lines: what runs, and where it can be reached."""
        bus = "none" if self.bus is None else f"{redact(self.bus.url)} ({self.bus.source})"
        if self.bus is not None and self.bus.server is not None:
            bus += ", private: other machines cannot reach it"
        about = {"bus": bus, **addresses}
        if self.management is not None:
            about["management"] = f"http://{self.settings.management_host}:{self.management.port}"
        lines = "".join(f"\n  {name:<11} {value}" for name, value in about.items())
        versions = f"daebus {__version__}, Python {platform.python_version()}"
        if logs.is_json():
            direct_logger.info("service %s started (%s)", self.service, versions, extra=about)
        else:
            direct_logger.info("service %s started (%s)%s", self.service, versions, lines)

    # --- stop -----------------------------------------------------------------------------------------------------
    def request_stop(self) -> None:
        """Begin the end, from any handler or thread; returns at once."""
        if self._master:
            os.kill(self._master, signal.SIGTERM)
        else:
            self.stopped.set()

    def served_by(self, master: int) -> None:
        """Told by the worker: the process that must be asked to stop."""
        self._master = master

    def begin_drain(self) -> None:
        """Readiness off, no new work. Does not wait."""
        if self.draining:
            return
        self.draining = True
        runtime_logger.info("draining: %d messages in flight", self.consumer.busy)
        self.consumer.retire()
        self.scheduler.pause()
        self.threads.tell_all()

    def finish(self, deadline: float) -> None:
        """Wait for work in flight until `deadline` (time.monotonic), then let go of everything. Blocks."""
        self.begin_drain()
        self.consumer.drain(deadline)
        self.scheduler.drain(deadline)
        self.threads.drain(max(deadline, time.monotonic() + 0.1))
        with gevent.Timeout(STOP_HOOK_SECONDS, False):  # type: ignore[arg-type]
            self._run_hooks("on_stop")
        self.scheduler.stop()
        self.transport.flush(FLUSH_SECONDS)  # the last replies must have left
        self.transport.close()
        if self.management is not None:
            self.management.stop()
        self._watchdog.stop()
        context.running(self.app, False)
        self.app.runner = None
        self.app.serve(None)
        runtime_logger.info("service %s stopped", self.service)


def run(app: Daebus) -> None:
    """`app.run()`: serve until SIGINT or SIGTERM. Ends the process with code 1 when it cannot start."""
    from . import reload

    try:
        if app.load_settings().settings.debug and not reload.is_child():
            reload.supervise()
            return
        prepared = prepare(app)
        if app.http is not None or app.websocket is not None:
            from .gunicorn import serve

            serve(app, prepared)
        else:
            _serve_alone(app)
    except ConfigurationError as error:
        print(f"daebus: cannot start: {error}", file=sys.stderr, flush=True)
        raise SystemExit(1) from None


def _serve_alone(app: Daebus) -> None:
    runner = Runner(app)
    asked = 0

    def stop() -> None:
        nonlocal asked
        asked += 1
        if asked > 1:
            os._exit(130)  # asked twice: whoever did does not want to wait for the drain
        runner.stopped.set()

    signals = [gevent.signal_handler(number, stop) for number in (signal.SIGTERM, signal.SIGINT)]
    runner.start()
    runner.announce({})
    try:
        runner.stopped.wait()
        runner.finish(time.monotonic() + runner.settings.drain_seconds)
    finally:
        for handler in signals:
            handler.cancel()
        if app.prepared is not None and app.prepared.bus is not None and app.prepared.bus.server is not None:
            app.prepared.bus.server.stop()
        app.prepared = None
