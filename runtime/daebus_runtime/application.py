"""The application as its author declares it: handlers, components, settings. Knows nothing of how it is started.

`Daebus` (app.py) adds `run`. While the service runs, the runner is its `Control`.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from . import logs, settings
from .aside import import_aside
from .blueprint import Blueprint
from .clients import Clients
from .context.broadcasts import broadcast
from .context.proxies import request, response
from .dispatch.blocking import BlockingPool
from .errors import ConfigurationError, RegistrationError
from .metrics import Metrics
from .registry import Declarations, Declared, Route
from .running import Running
from .settings import UNSET, Settings, given
from .transport import Transport, home

if TYPE_CHECKING:
    from redis import Redis

WSGI = Callable[[dict[str, Any], Any], Iterable[bytes]]


class Component(Protocol):
    """What `attach` takes: DaebusHttp, DaebusWebSocket."""

    kind: str

    def bind(self, app: Application) -> None: ...


C = TypeVar("C", bound=Component)
F = TypeVar("F", bound=Callable[..., Any])


class Control(Protocol):
    """What an application can ask of its running service."""

    @property
    def running(self) -> Running: ...

    @property
    def service(self) -> str: ...

    @property
    def transport(self) -> Transport: ...

    @property
    def clients(self) -> Clients | None: ...

    def request_stop(self) -> None: ...

    def is_running(self) -> bool: ...

    def start_thread(self, name: str) -> bool: ...

    def stop_thread(self, name: str, timeout: float) -> bool: ...

    def reschedule(self, name: str, interval: float | None, cron: str | None) -> None: ...


class Application(Declarations):
    """See `Daebus`."""

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
        self.request, self.response = request, response
        self.broadcast = broadcast
        self.http: Any = None
        self.websocket: Any = None
        self.blueprints: list[Blueprint] = []
        self.make_wsgi: Callable[[Running], WSGI] | None = None
        """Creates the WSGI application that answers HTTP; set by the components."""
        self._named: Any = UNSET
        self._control: Control | None = None
        self._wsgi: WSGI | None = None

    # --- composition ----------------------------------------------------------------------------------------------
    def attach(self, component: C) -> C:
        """Add HTTP or WebSocket support; returns the component. May come before or after the declarations."""
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
        """RegistrationError once the service runs, because `what` would change what it serves."""
        if self.registry.frozen:
            raise RegistrationError(f"{what} comes too late: the service runs already; call it before app.run()")

    def register_blueprint(self: A, blueprint: Blueprint) -> A:
        """Add everything that the blueprint declares, now and until the service starts; returns the application."""
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

    def workflow(self, workflow_name: str) -> Callable[[F], F]:
        """Accepts the function and never calls it, like the original Daebus. Instead, write an action that sends
        intermediate replies (`response.send(…, final=False)`)."""
        logs.runtime_logger.warning("workflow %r is never run; write an action instead", workflow_name)
        return lambda function: function

    # --- what it is and has ---------------------------------------------------------------------------------------
    @property
    def service(self) -> str | None:
        """The service's name: `DAEBUS_SERVICE`, else `run(service=)`, else `Daebus(name)` up to its first dot."""
        if self._control is not None:
            return self._control.service
        if text := os.environ.get("DAEBUS_SERVICE"):
            return str(settings.parse("service", text, "DAEBUS_SERVICE"))
        if given(self._named) and self._named is not None:
            return str(settings.parse("service", self._named, "argument service"))
        own = self.name.partition(".")[0]
        return None if own == "__main__" else settings.parse("service", own, "Daebus(name)")

    def call_it(self, service: Any) -> None:
        """Set the service's name, or UNSET. Called by `run` and by tests."""
        self._named = service

    @property
    def transport(self) -> Transport:
        """The bus of the service. ConfigurationError if the service does not run."""
        return self._running("there is no bus to use").transport

    @property
    def cache(self) -> Any:
        """The same as `daebus.cache`."""
        return import_aside(f"{__package__}.context.cache").cache  # with redis-py's clients, which few services use

    @property
    def redis(self) -> Redis:
        """A redis-py client for the service's bus, one per OS thread. ConfigurationError if it does not run."""
        clients = self._running("there is no Redis client to use").clients
        if clients is None:
            raise ConfigurationError("the service runs without a bus: there is no Redis client to use")
        return clients.here()

    def load_settings(self, arguments: Mapping[str, Any] | None = None) -> settings.Loaded:
        """The settings of this service from the environment, the arguments of `run` and the attached components."""
        merged = dict(arguments or {})
        if not given(named := merged.get("service", UNSET)) or named is None:
            merged["service"] = self.service or UNSET
        for component in (self.http, self.websocket):
            if component is not None:
                merged.update(component.arguments)
        loaded = settings.load(merged)
        if loaded.settings.service is None:
            raise ConfigurationError(
                "the service has no name: write app.run(service='my_service') or Daebus('my_service'), "
                "or set DAEBUS_SERVICE"
            )
        return loaded

    def running(
        self,
        loaded: Settings | None = None,
        blocking: BlockingPool | None = None,
        draining: Callable[[], bool] = bool,
    ) -> Running:
        """What servers need to know; before the start, with the current settings."""
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

    # --- while it runs --------------------------------------------------------------------------------------------
    def attend(self, control: Control | None) -> None:
        """Called by the runner when the service starts, and with None when it has ended. In between, nothing may be
        declared."""
        if self._control is not None and self._control.clients is not None:
            self._control.clients.close()
        self._control = control
        self.registry.frozen = control is not None
        self._wsgi = self._put_to_work(control.running) if control is not None else None

    def stop(self) -> None:
        """Drain and stop, as on SIGTERM; returns at once. Does nothing if the service does not run."""
        if self._control is not None:
            self._control.request_stop()

    def is_running(self) -> bool:
        """Whether the service has started and is not stopping."""
        return self._control is not None and self._control.is_running()

    @property
    def routes(self) -> dict[str, list[str]]:
        """The methods of each HTTP path, in alphabetical order: {"/plants/<name>": ["GET", "PUT"]}."""
        methods: dict[str, set[str]] = {}
        for route in self.registry.all(Route):
            methods.setdefault(route.path, set()).update(route.methods)
        return {path: sorted(methods[path]) for path in sorted(methods)}

    def start_thread(self, name: str) -> bool:
        """Start a declared thread; returns whether it runs. False, with a warning, for an unknown name."""
        started: bool = home.current().call(self._running().start_thread, name)
        return started

    def stop_thread(self, name: str, timeout: float = 5.0) -> bool:
        """Ask a thread to end; returns whether it did within `timeout` seconds. False for an unknown name."""
        stopped: bool = home.current().call(self._running().stop_thread, name, timeout)
        return stopped

    def reschedule(self, name: str, interval: float | None = None, cron: str | None = None) -> None:
        """Change when a task runs, from now on. KeyError for an unknown name."""
        home.current().call(self._running().reschedule, name, interval, cron)

    def _running(self, lacking: str = "") -> Control:
        if self._control is None:
            raise ConfigurationError("the service does not run yet" + (lacking and f": {lacking}"))
        return self._control

    def _put_to_work(self, running: Running) -> WSGI | None:
        if self.websocket is not None:
            self.websocket.start(running)
        return self.make_wsgi(running) if self.make_wsgi is not None else None

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        """WSGI. Needs DaebusHttp or DaebusWebSocket to be attached."""
        wsgi = self._wsgi
        if wsgi is None:
            if self.make_wsgi is None:
                raise ConfigurationError(
                    "the application serves no HTTP: app.attach(DaebusHttp()) or a DaebusWebSocket"
                )
            wsgi = self._put_to_work(self.running())  # not started: use the current declarations and settings
            assert wsgi is not None
        return wsgi(environ, start_response)

    def __repr__(self) -> str:
        return f"<Daebus {self.name!r}>"


A = TypeVar("A", bound=Application)
