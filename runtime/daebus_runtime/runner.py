"""The order in which a service starts and stops, and why. A `Runner` is one running service; launch.py creates it.

Start (Runner.start)                                    why at this point
  1 watchdog                                            it can then observe the rest of the start
  2 management port                                     probes get an answer from the first moment: "not ready"
  3 bus: start to connect                               nothing waits for it: a service starts without Redis
  4 listeners, requests                                 subscribed now, confirmed once the bus is connected
  5 threads, scheduled tasks                            they may use the bus; a publish waits for it
  6 on_start hooks                                      once the server has confirmed every subscription
  7 ready                                               last

Stop (begin_drain, then finish)                         why at this point
  1 readiness off                                       so that no more work is sent here
  2 end subscriptions, pause tasks, tell threads        no new work; messages already received are handled
  3 HTTP and WebSockets (worker.py)                     idle connections end, requests finish, sockets are sent 1001
  4 messages, task runs, threads finish                 within DAEBUS_DRAIN_SECONDS; they may still use the bus
  5 on_stop hooks                                       the last code of the author, while the bus is still connected
  6 bus, management port                                last: replies are sent, and /readyz is right until the end

With HTTP or WebSockets, gunicorn's master supervises one worker, which has the Runner. Otherwise the started process
has it, without a fork.
"""

from __future__ import annotations

import dataclasses
import os
import signal
import time
from collections.abc import Callable
from types import CodeType
from typing import TYPE_CHECKING

import gevent
from gevent.event import Event

from . import context
from .application import Application
from .clients import Clients
from .clock import Clock
from .cutoff import Cutoff
from .dispatch.blocking import BlockingPool
from .dispatch.watchdog import Watchdog, code_of
from .first_lines import announce
from .hooks import run_start_hooks, run_stop_hooks
from .logs import runtime_logger
from .registry import Action, Declared, Listener, Task, Thread
from .running import Running
from .servers.consumer import Consumer
from .servers.management import Management
from .servers.scheduler import Scheduler
from .servers.threads import Threads
from .settings import Settings, authority, redact
from .transport import State, Transport, keeping, shared, topology
from .transport.embedded import Bus
from .transport.keeper import Keeper

if TYPE_CHECKING:
    import redis

HOOK_POLL_SECONDS = 0.02
STOP_HOOK_SECONDS = 5.0
FLUSH_SECONDS = 1.0
END_SECONDS = STOP_HOOK_SECONDS + FLUSH_SECONDS + 1.0
"""How long the shutdown may take after the drain."""


@dataclasses.dataclass(frozen=True)
class Prepared:
    """What is decided before anything starts, in the started process (with HTTP that is gunicorn's master)."""

    settings: Settings
    bus: Bus | None
    """None if the service does not need one and none was found."""

    def release(self) -> None:
        """End the bus that was started for this service, if one was."""
        if self.bus is not None and self.bus.server is not None:
            self.bus.server.stop()


def uses_bus(app: Application) -> bool:
    """Whether the service receives messages. Then it cannot be ready without a bus."""
    return bool(app.registry.all(Action) or app.registry.all(Listener))


class Runner:
    """One running service, in the process that does its work. Created and started on the main thread's loop.

    Tests pass in their own transport, clock and function that creates Redis clients.
    """

    def __init__(
        self,
        app: Application,
        prepared: Prepared,
        transport: Transport | None = None,
        make_client: Callable[[], redis.Redis] | None = None,
        clock: Clock | None = None,
    ) -> None:
        self.app, self.settings, self.bus = app, prepared.settings, prepared.bus
        self.service = self.settings.service or app.name
        self.metrics = app.metrics
        self.transport = transport or self._open_bus()
        make_client = make_client or (topology.of(self.bus.url).client if self.bus is not None else None)
        self.keeper = Keeper(self.bus) if self.bus is not None else None
        self.clients = Clients(make_client) if make_client is not None else None
        self.blocking = BlockingPool(app.max_workers)
        self.consumer = Consumer(app, self.service, self.transport, self.settings, self.blocking, self.metrics)
        self.threads = Threads(app, self.clients.release if self.clients is not None else None)
        self.scheduler = Scheduler(app, self.blocking, self.metrics, clock)
        self.management: Management | None = None
        self.draining = False
        self.running: Running = app.running(self.settings, self.blocking, lambda: self.draining)
        self.stopped = Event()
        self._told_keeping = False
        self._hooked = self._started = False
        self._names: dict[CodeType, str] = {}
        self._watchdog = Watchdog(self._names, self.settings.block_seconds, self.metrics)
        self._master = 0

    # --- start ----------------------------------------------------------------------------------------------------
    def start(self, timers: bool = True) -> None:
        """See the module's docstring. With `timers=False` a test's clock runs the scheduled tasks.

        ConfigurationError if the management port is taken.
        """
        app, settings = self.app, self.settings
        self._watchdog.start()
        if settings.management_port is not None:
            self.management = Management(
                settings.management_host, settings.management_port, self.metrics, self.not_ready
            )
            self.management.start()
        app.attend(self)
        context.running(app, True)
        self._measure()
        self.transport.watch(self._bus_changed)
        if self.keeper is not None:
            self.keeper.start()
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

    def _measure(self) -> None:
        self.metrics.gauge("daebus_bus_up", "1 while the bus is connected.", lambda: self.transport.state is State.UP)
        self.metrics.gauge("daebus_ready", "1 while the service is ready.", lambda: not self.not_ready())

    def take(self, item: Declared) -> None:
        """Start to serve one declaration."""
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
            run_start_hooks(self.app, self.app.registry)
            self._hooked = True

    # --- state ----------------------------------------------------------------------------------------------------
    def not_ready(self) -> list[str]:
        """Why the service is not ready; empty if it is."""
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
        if self.keeper is not None:
            self.keeper.changed(state, reason)
        where = redact(self.bus.url) if self.bus else "memory"
        if state is State.UP:
            runtime_logger.info("the bus at %s is connected", where)
            if not self._told_keeping:
                self._told_keeping = True
                durable = any(listener.durable for listener in self.app.registry.all(Listener))
                gevent.spawn(keeping.tell, self.transport.keeping, durable)
        elif state is State.DOWN:
            runtime_logger.warning("the bus at %s is away (%s); trying again until it is back", where, reason)

    def announce(self, addresses: dict[str, str]) -> None:
        """Log the first lines: what runs, and its addresses."""
        if self.management is not None:
            where = f"http://{authority(self.settings.management_host, self.management.port)}"
            addresses = {**addresses, "management": where}
        announce(self.service, self.bus, addresses)

    # --- what the application passes on ---------------------------------------------------------------------------
    def start_thread(self, name: str) -> bool:
        return self.threads.start(name)

    def stop_thread(self, name: str, timeout: float) -> bool:
        return self.threads.stop(name, timeout)

    def reschedule(self, name: str, interval: float | None, cron: str | None) -> None:
        self.scheduler.reschedule(name, interval, cron)

    # --- stop -----------------------------------------------------------------------------------------------------
    def request_stop(self) -> None:
        """Start to stop the service; from any handler or thread. Returns at once."""
        if self._master:
            os.kill(self._master, signal.SIGTERM)
        else:
            self.stopped.set()

    def served_by(self, master: int) -> None:
        """Called by the worker: sets the process that must be asked to stop."""
        self._master = master

    def begin_drain(self) -> None:
        """Turn readiness off and accept no new work. Does not wait."""
        if self.draining:
            return
        self.draining = True
        runtime_logger.info("draining: %d messages in flight", self.consumer.busy)
        self.consumer.retire()
        self.scheduler.pause()
        self.threads.tell_all()
        if self.keeper is not None:
            self.keeper.retire()

    def finish(self, deadline: float, cutoff: Cutoff | None = None) -> None:
        """Wait for the current work until `deadline` (time.monotonic), then close everything. Blocks.

        cutoff: ends the process if the rest takes longer than END_SECONDS.
        """
        self.begin_drain()
        self.consumer.drain(deadline)
        self.scheduler.drain(deadline)
        self.threads.drain(max(deadline, time.monotonic() + 0.1))
        if cutoff is not None:
            cutoff.arm(END_SECONDS)
        run_stop_hooks(self.app, self.app.registry, STOP_HOOK_SECONDS)
        self.scheduler.stop()
        self.transport.flush(FLUSH_SECONDS)  # the last replies must have been sent
        self.transport.close()
        if self.keeper is not None:
            self.keeper.stop()
        if self.management is not None:
            self.management.stop()
        self._watchdog.stop()
        context.running(self.app, False)
        self.app.attend(None)
        if cutoff is not None:
            cutoff.call_off()
        runtime_logger.info("service %s stopped", self.service)
