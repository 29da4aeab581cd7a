"""The application: what an author declares handlers on, and runs. Importing this module makes the standard library
cooperative.

It gathers declarations and components and answers questions about the service; starting and stopping is runner.py's.
"""

from __future__ import annotations

from .patching import patch

patch()

import dataclasses
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from gevent import monkey
from redis import Redis

from . import context, logs, settings
from .blueprint import Blueprint
from .dispatch.blocking import BlockingPool
from .errors import ConfigurationError, RegistrationError
from .metrics import Metrics
from .registry import Declarations, Declared, Registry, Route
from .running import Running
from .settings import UNSET, Settings, given
from .transport import Transport, home

if TYPE_CHECKING:
    from .runner import Prepared, Runner

_ident = monkey.get_original("_thread", "get_ident")


WSGI = Callable[[dict[str, Any], Any], Iterable[bytes]]


class Component(Protocol):
    """What `attach` takes: DaebusHttp, DaebusWebSocket."""

    kind: str

    def bind(self, app: Daebus) -> None: ...


C = TypeVar("C", bound=Component)


class Daebus(Declarations):
    """A service.

    name: the service's name, or `__name__`: what stands before its first dot is used unless `run(service=)` or
    `DAEBUS_SERVICE` say otherwise. max_workers: how many `blocking=True` handlers run at the same time, each in an OS
    thread; other handlers are greenlets, `DAEBUS_CONCURRENCY` of them.

    The object is also a WSGI application: `gunicorn -c python:daebus_runtime.gunicorn my_service.app:app`.
    """

    def __init__(self, name: str, max_workers: int = 10) -> None:
        super().__init__()
        if not isinstance(name, str) or not name:
            raise ConfigurationError(f"Daebus(name): a name is a text such as 'my_service' or __name__, not {name!r}")
        if isinstance(max_workers, bool) or not isinstance(max_workers, int) or max_workers < 1:
            raise ConfigurationError(f"Daebus(max_workers): a number of threads from 1, not {max_workers!r}")
        self.name = name
        self.max_workers = max_workers
        self.metrics = Metrics()
        self.logger = logs.logger
        self.request = context.request
        self.response = context.response
        self.cache = context.cache
        self.broadcast = context.broadcast
        self.http: Any = None
        self.websocket: Any = None
        self.blueprints: list[Blueprint] = []
        self.runner: Runner | None = None
        self.prepared: Prepared | None = None
        self.arguments: dict[str, Any] = {}
        self._transport: Transport | None = None
        self._clients: dict[int, Redis] = {}
        self._client: Callable[[], Redis] | None = None
        self.make_wsgi: Callable[[Running], WSGI] | None = None
        """Makes what answers HTTP; brought along by the components."""
        self._wsgi: WSGI | None = None

    # --- composition ----------------------------------------------------------------------------------------------
    def attach(self, component: C) -> C:
        """Add HTTP or WebSocket support; returns the component. The order of attaching and declaring does not
        matter."""
        kind = getattr(component, "kind", None)
        if kind not in ("http", "websocket"):
            raise RegistrationError(f"attach takes a DaebusHttp or a DaebusWebSocket, not {component!r}")
        if getattr(self, kind) is not None:
            raise RegistrationError(f"a {type(component).__name__} is attached already; a service has one")
        self.check_open("attach")
        component.bind(self)
        setattr(self, kind, component)
        return component

    def check_open(self, what: str) -> None:
        """RegistrationError once the service runs: `what` would change what it serves."""
        if self.registry.frozen:
            raise RegistrationError(f"{what} comes too late: the service runs already; call it before app.run()")

    def register_blueprint(self, blueprint: Blueprint) -> Daebus:
        """Take over everything that the blueprint declares, now and until the service starts; returns the
        application."""
        if not isinstance(blueprint, Blueprint):
            raise RegistrationError(f"register_blueprint takes a Blueprint, not {blueprint!r}")
        if blueprint in self.blueprints:
            raise RegistrationError(f"blueprint {blueprint.name!r} is registered already")
        self.check_open("register_blueprint")
        prefix = blueprint.url_prefix

        def place(item: Declared) -> Declared:
            if isinstance(item, Route) and prefix:
                return dataclasses.replace(item, path=prefix + item.path if item.path != "/" else prefix)
            return item

        blueprint.registry.part_of(self.registry, place)
        self.blueprints.append(blueprint)
        return self

    # --- what it is and has ---------------------------------------------------------------------------------------
    @property
    def service(self) -> str | None:
        """The service's name: `DAEBUS_SERVICE`, else `run(service=)`, else `Daebus(name)` up to its first dot."""
        if self.runner is not None:
            return self.runner.service
        loaded = settings.load({"service": self.arguments.get("service", UNSET)}).settings.service
        if loaded:
            return loaded
        own = self.name.partition(".")[0]
        return None if own == "__main__" else settings.parse("service", own, "Daebus(name)")

    @property
    def transport(self) -> Transport:
        """The bus the service runs on. ConfigurationError when it does not run."""
        if self._transport is None:
            raise ConfigurationError("the service does not run yet: there is no bus to use")
        return self._transport

    @property
    def redis(self) -> Redis:
        """redis-py's client for the service's bus, one for each OS thread (gevent's sockets belong to one)."""
        thread = _ident()
        client = self._clients.get(thread)
        if client is None:
            if self._client is None:
                raise ConfigurationError("the service does not run yet: there is no Redis client to use")
            client = self._clients[thread] = self._client()
        return client

    def use_bus(self, transport: Transport | None, client: Callable[[], Redis] | None) -> None:
        """Told by the runner (or a test): the bus, and how to make a client for it."""
        for old in self._clients.values():
            old.connection_pool.disconnect()
        self._transport, self._client = transport, client
        self._clients = {}

    # --- running --------------------------------------------------------------------------------------------------
    def run(
        self,
        service: str = UNSET,
        debug: bool = UNSET,
        redis_host: str = UNSET,
        redis_port: int = UNSET,
        redis_url: str = UNSET,
    ) -> None:
        """Serve until SIGINT or SIGTERM, then drain and return.

        `DAEBUS_*` variables win over these arguments. `debug` shows errors' texts to clients, logs more, and starts the
        service again when a file changes. A setting that cannot be used, a taken port and a refused password end the
        process with an error text and exit code 1.
        """
        from .runner import run

        if not given(redis_url) and (given(redis_host) or given(redis_port)):
            host = redis_host if given(redis_host) else "localhost"
            redis_url = settings.redis_url_of(host, redis_port if given(redis_port) else settings.DEFAULT_REDIS_PORT)
        self.arguments = {"service": service, "debug": debug, "redis_url": redis_url}
        run(self)

    def stop(self) -> None:
        """Drain and end, as on SIGTERM; returns at once. Does nothing when the service does not run."""
        if self.runner is not None:
            self.runner.request_stop()

    def is_running(self) -> bool:
        """Whether the service is up and not stopping."""
        return self.runner is not None and self.runner.is_running()

    def start_thread(self, name: str) -> bool:
        """Start a declared thread; whether it runs now. False, with a warning, for a name that is not declared."""
        started: bool = home.current().call(self._running().threads.start, name)
        return started

    def stop_thread(self, name: str, timeout: float = 5.0) -> bool:
        """Tell a thread to end and wait for it; whether it did within `timeout` seconds. False for an unknown name."""
        stopped: bool = home.current().call(self._running().threads.stop, name, timeout)
        return stopped

    def reschedule(self, name: str, interval: float | None = None, cron: str | None = None) -> None:
        """Change when a task runs, from now on. KeyError for a name that is not declared."""
        home.current().call(self._running().scheduler.reschedule, name, interval, cron)

    def _running(self) -> Runner:
        if self.runner is None:
            raise ConfigurationError("the service does not run yet")
        return self.runner

    def running(
        self,
        loaded: Settings | None = None,
        blocking: BlockingPool | None = None,
        draining: Callable[[], bool] = bool,
    ) -> Running:
        """What servers are told; before the start, with the settings of this moment."""
        return Running(
            service=self,
            registry=self.registry,
            settings=loaded or self.load_settings().settings,
            metrics=self.metrics,
            blocking=blocking or BlockingPool(self.max_workers),
            http=self.http,
            websocket=self.websocket,
            draining=draining,
        )

    def serve(self, running: Running | None) -> None:
        """Told by the runner: what to serve from now on, or that it is over. Meanwhile nothing more may be declared."""
        self.registry.frozen = running is not None
        self._wsgi = self._put_to_work(running) if running is not None else None

    def _put_to_work(self, running: Running) -> WSGI | None:
        if self.websocket is not None:
            self.websocket.start(running)
        return self.make_wsgi(running) if self.make_wsgi is not None else None

    def load_settings(self) -> settings.Loaded:
        """The settings of this service, from the environment, `run`'s arguments and the attached components."""
        arguments = dict(self.arguments)
        if not arguments.get("service"):
            arguments["service"] = self.service or UNSET
        for component in (self.http, self.websocket):
            if component is not None:
                arguments.update(component.arguments)
        loaded = settings.load(arguments)
        if loaded.settings.service is None:
            raise ConfigurationError(
                "the service has no name: write app.run(service='my_service') or Daebus('my_service'), "
                "or set DAEBUS_SERVICE"
            )
        return loaded

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        """WSGI. Needs DaebusHttp or DaebusWebSocket to be attached."""
        if self.make_wsgi is None:
            raise ConfigurationError("the application serves no HTTP: app.attach(DaebusHttp()) or a DaebusWebSocket")
        wsgi = self._wsgi or self._put_to_work(self.running())
        assert wsgi is not None
        return wsgi(environ, start_response)

    def __repr__(self) -> str:
        return f"<Daebus {self.name!r}>"


__all__ = ["Daebus", "Registry", "Settings"]
