"""The command `doctor`, which finds out what is wrong. If a check fails, the others still run. It changes nothing."""

from __future__ import annotations

import dataclasses
import os
import platform
import time
from collections.abc import Generator, Iterator, Sequence
from typing import TYPE_CHECKING

import click

from .. import __version__, codec, health, settings
from ..errors import BusError, ConfigurationError
from ..services import ServiceInfo, list_services
from ..settings import PREFIX, Settings
from ..transport import embedded, shared
from ..transport.compatible import Compatible
from . import bus, output, ports, services
from . import target as targets
from .output import FAULT, Failure
from .table import span

if TYPE_CHECKING:
    from ..app import Daebus

OLDEST = (6, 2)
SHOWN = 20  # names of others in one line
OLD_SECONDS = 30.0  # from this age on an unread message is worth a line
STYLE = {"ok": "green", "warn": "yellow", "fail": "red"}


@dataclasses.dataclass(frozen=True)
class Finding:
    """One line of the report. `level`: ok, warn (worth knowing) or fail (does not work)."""

    level: str
    about: str
    text: str
    cure: str = ""


def ok(about: str, text: str) -> Finding:
    return Finding("ok", about, text)


def warn(about: str, text: str, cure: str = "") -> Finding:
    return Finding("warn", about, text, cure)


def fail(about: str, text: str, cure: str) -> Finding:
    return Finding("fail", about, text, cure)


@click.command()
@click.argument("target", required=False)
@click.option("--service", "services", multiple=True, metavar="NAME", help="A service that should answer; repeatable.")
@bus.bus_option
@click.pass_context
def doctor(ctx: click.Context, target: str | None, services: Sequence[str], redis_url: str | None) -> None:
    """Find out what is wrong, and how to repair it.

    Looks at the settings, the application, the bus, which services it knows and what they lack, and the ports. The
    application is TARGET, as in `daebus run`, or the one that pyproject.toml in this folder names. --service names
    others that should answer. Each line is ok, warn or fail; the exit code is 1 when one says fail. Nothing is changed.

    \b
    Examples:
      daebus doctor        # in the repository of a service
      daebus doctor my_service.py --service other_service
    """
    failed = False
    for finding in Examination(target, services, redis_url).findings():
        failed = failed or finding.level == "fail"
        output.tell(f" {finding.about:<11} {finding.text}", click.style(f"{finding.level:<5}", fg=STYLE[finding.level]))
        if finding.cure:
            output.tell(f"{'':<18}cure: {finding.cure}")
    ctx.exit(FAULT if failed else 0)


class Examination:
    """One examination. What a check finds out, later ones use: the settings, the application, the bus, who answers."""

    def __init__(self, target: str | None, services: Sequence[str], redis_url: str | None) -> None:
        self.target, self.services, self.redis_url = target, list(dict.fromkeys(services)), redis_url
        self.settings = Settings()
        self.bad: set[str] = set()
        self.app: Daebus | None = None
        self.answering: set[str] = set()

    def findings(self) -> Iterator[Finding]:
        yield self._runtime()
        yield from self._settings()
        yield from self._target()
        yield from self._bus()
        yield from self._ports()
        yield from self._management()

    # --- here -----------------------------------------------------------------------------------------------------
    def _runtime(self) -> Finding:
        fast = "orjson" if codec.ACCELERATED else "the standard library's JSON (daebus-runtime[fast] is quicker)"
        return ok("runtime", f"daebus {__version__}, Python {platform.python_version()}, {fast}")

    def _settings(self) -> Iterator[Finding]:
        good: dict[str, str] = {}
        for field in dataclasses.fields(Settings):
            variable = PREFIX + field.name.upper()
            if not (text := os.environ.get(variable)):
                continue
            try:
                settings.parse(field.name, text, variable)
                good[variable] = text
            except ConfigurationError as error:
                self.bad.add(field.name)
                default = "" if field.default is None else f" (then it is {field.default})"
                yield fail("settings", str(error), f"set {variable} to {field.metadata['form']}, or unset it{default}")
        self.settings = settings.load(environ=good).settings
        for line in settings.unknown_variables():
            yield warn("settings", line, "rename or unset it: nothing reads it")
        if not self.bad:
            yield ok("settings", f"{', '.join(good)} can be used" if good else "no DAEBUS_* variable is set")

    def _target(self) -> Iterator[Finding]:
        try:
            named = "" if self.target else f" ({targets.PROJECT})"
            self.target = self.target or targets.of_this_folder()
            if self.target is None:
                return
            self.app = targets.load(self.target)
            # A bad variable was named already; with it nothing can be loaded.
            if not self.bad:
                self.settings = self.app.load_settings().settings
        except (Failure, click.BadParameter) as error:
            yield fail("target", error.format_message(), "correct it; `daebus run` needs it too")
            return
        except ConfigurationError as error:
            yield fail("target", str(error), "correct it; the service would not start")
            return
        service = self.app.service if "service" not in self.bad else None
        yield ok("target", f"{self.target}{named}: service {service!r}, {_declared(self.app)}")

    # --- the bus --------------------------------------------------------------------------------------------------
    def _bus(self) -> Iterator[Finding]:
        if "redis_url" in self.bad and self.redis_url is None:
            yield warn("bus", "not checked: DAEBUS_REDIS_URL cannot be used")
            return
        try:
            address = bus.named_address(self.redis_url)
        except ConfigurationError as error:
            yield fail("bus", str(error), "correct --redis-url")
            return
        if address is None:
            address = yield from self._unnamed_bus()
            if address is None:
                return
        problem = bus.check(address.url)
        if problem is not None:
            yield fail("bus", f"{problem.cause} ({address.source})", problem.cure)
            return
        try:
            transport = shared.acquire(address.url, self.settings)
            yield self._server(transport, address)
            yield from self._services(transport, address)
        finally:
            shared.close_all()

    def _unnamed_bus(self) -> Generator[Finding, None, bus.Address | None]:
        """What a service would do when no bus is named; the address when one is there already."""
        mode, program = self.settings.embedded, embedded.find_program()
        start = f"a service starts {program} of its own" if program else ""
        if mode == "never":
            yield fail("bus", "none is named, and DAEBUS_EMBEDDED=never forbids starting one", f"{embedded.CURE}")
            return None
        met = embedded.greet("localhost", settings.DEFAULT_REDIS_PORT)
        if met in (embedded.Greeting.REDIS, embedded.Greeting.PASSWORD) and mode == "auto":
            return bus.default_address()
        found = "DAEBUS_EMBEDDED=always" if mode == "always" else "none is named and none answers on localhost:6379"
        if not program:
            yield fail("bus", f"{found}, and there is no server program to start", embedded.INSTALL)
        elif self.services:
            yield fail("bus", f"{found}", f"{embedded.CURE}: there is nothing to look for services on")
        else:
            yield warn("bus", f"{found}: {start}", f"daebus run {self.target}" if self.target else "")
        return None

    def _server(self, transport: Compatible, address: bus.Address) -> Finding:
        try:
            transport.bus.ask("PING")  # connects
            begun = time.monotonic()
            transport.bus.ask("PING")
            took = f"answers in {(time.monotonic() - begun) * 1000:.1f} ms"
            text = transport.bus.ask("INFO", "server").decode("utf-8", "replace")
        except BusError as error:
            return warn("bus", f"{address} is connected, but: {error}", "let this user run PING and INFO")
        about = dict(line.partition(":")[::2] for line in text.splitlines())
        valkey = about.get("valkey_version")
        version = about.get("redis_version", "0.0")
        name = f"Valkey {valkey}" if valkey else f"Redis {version}"
        if tuple(map(int, version.split(".")[:2])) < OLDEST:
            return fail("bus", f"{address} is {name}", "Daebus needs Redis 6.2 or newer, or Valkey")
        return ok("bus", f"{address}: {name}, {took}")

    def _services(self, transport: Compatible, address: bus.Address) -> Iterator[Finding]:
        own = self._own_service()
        for service in dict.fromkeys([*self.services, *([own] if own and self._is_heard() else [])]):
            count = services.replicas(transport, service)
            if count is None:
                yield warn("service", f"{service!r}: unknown, because this user may not ask", "allow it PUBSUB")
            elif count:
                self.answering.add(service)
                yield ok("service", f"{service!r} answers: {count} replica{'s' * (count > 1)}")
            elif service in self.services:
                problem = bus.nobody_answers(transport, address, service)
                yield fail("service", problem.cause, problem.cure)
            else:
                yield warn("service", f"{service!r} does not run", f"daebus run {self.target or 'TARGET'}")
        try:
            known = [service for service in list_services(redis_url=address.url) if service.known]
        except BusError as error:
            known = []
            yield warn("known", f"not checked: {error}")
        yield from _known(known)
        yield from self._others(transport, {service.name for service in known})

    def _others(self, transport: Compatible, known: set[str]) -> Iterator[Finding]:
        """Who else is there. What only this service itself listens on is no news."""
        from ..registry import Listener

        own = (
            {listener.channel for listener in self.app.registry.all(Listener)} if self.answering and self.app else set()
        )
        heard = services.listened_to(transport)
        others = [
            f"{name} ({n})"
            for name, n in heard.items()
            if name not in self.answering | known and (n > 1 or name not in own)
        ]
        if others:
            more = f" and {len(others) - SHOWN} more" if len(others) > SHOWN else ""
            yield ok("others", f"services and events with listeners: {', '.join(others[:SHOWN])}{more}")
        elif not self.answering and not known:
            yield ok("others", "nobody listens on this bus")

    def _own_service(self) -> str | None:
        """The name of the service that this place is about, when there is one."""
        if self.app is None or "service" in self.bad:
            return self.settings.service
        return self.app.service

    def _is_heard(self) -> bool:
        """Whether the service could be seen on the bus: one without actions receives no requests."""
        from ..registry import Action

        return self.app is None or bool(self.app.registry.all(Action))

    # --- ports ----------------------------------------------------------------------------------------------------
    def _ports(self) -> Iterator[Finding]:
        """Those that the application, or without one the environment, asks for; else HTTP's usual one, to be told."""
        wanted = {"http": self.app.http is not None or self.app.websocket is not None} if self.app is not None else {}
        for kind in ("http", "websocket"):
            variable, port = f"DAEBUS_{kind.upper()}_PORT", getattr(self.settings, f"{kind}_port")
            named = bool(os.environ.get(variable))
            if not port or f"{kind}_port" in self.bad or not wanted.get(kind, named or self.app is None):
                continue
            obstacle = ports.obstacle(self.settings.http_host, port)
            if obstacle is None:
                yield ok(kind, f"port {port} is free")
            elif (own := self._own_service()) in self.answering or (own is None and self.answering):
                yield ok(kind, f"{obstacle}; the service runs")
            elif not self._is_heard():
                yield warn(kind, f"{obstacle}: it is this service, or a program that must be ended first")
            else:
                level = fail if named or self.app is not None else warn
                yield level(kind, obstacle, f"end that one, or choose another port, as in {variable}={port + 1}")

    def _management(self) -> Iterator[Finding]:
        port = self.settings.management_port
        if port is None:
            if "management_port" not in self.bad:
                yield ok("management", "off (DAEBUS_MANAGEMENT_PORT=9000 serves /livez, /readyz and /metrics)")
            return
        if not port:
            yield ok("management", "on a free port")
            return
        host = health.EVERYWHERE.get(self.settings.management_host, self.settings.management_host)
        live, _ = health.ask(host, port, "/livez")
        if live:
            ready, text = health.ask(host, port, "/readyz")
            yield (
                ok("management", f"port {port}: {text}")
                if ready
                else fail("management", f"port {port}: the service there is not ready: {text}", "its log says more")
            )
        elif obstacle := ports.obstacle(self.settings.management_host, port):
            yield fail("management", obstacle, f"end that one, or choose another: DAEBUS_MANAGEMENT_PORT={port + 1}")
        else:
            yield ok("management", f"port {port} is free: no service runs on it")


# --- known services ---------------------------------------------------------------------------------------------------


def _known(found: Sequence[ServiceInfo]) -> Iterator[Finding]:
    """Each service that the bus knows. Those with something wrong come first, and all of them are named."""
    troubled = [(service, trouble) for service in found if (trouble := _trouble(service))]
    for _, trouble in troubled:
        yield trouble
    fine = [service for service in found if service not in [one for one, _ in troubled]]
    for service in fine[:SHOWN]:
        yield ok("known", f"{service.name!r}: {_counted(service)}")
    if len(fine) > SHOWN:
        yield ok("known", f"and {len(fine) - SHOWN} more (`daebus ps` shows all)")


def _trouble(service: ServiceInfo) -> Finding | None:
    name, unread = service.name, service.lag or 0
    waits = f"{unread} messages wait" if service.lag is not None else "it is unknown how many messages wait"
    since = f", the oldest for {span(service.oldest_unread)}" if unread else ""
    if service.problem:
        return warn("known", f"{name!r} cannot be read: {service.problem}", "see who else writes its keys")
    if not service.replica_count:
        text = f"{name!r} has no replica; {waits}{since}"
        return warn("known", text, "start it; if it is gone for good, it is forgotten after 90 days")
    if service.silent:
        text = f"{name!r}: {len(service.silent)} of {_counted(service)} without a sign of life: {_names(service)}"
        return warn("known", text, "see whether they run and reach the bus; others take their messages after 9 s")
    if unread and (service.oldest_unread is None or service.oldest_unread > OLD_SECONDS):
        text = f"{name!r}: {_counted(service)} cannot keep up; {waits}{since}"
        return warn("known", text, "run more replicas, or see in its log what its handlers wait for")
    return None


def _counted(service: ServiceInfo) -> str:
    return f"{service.replica_count} replica{'s' * (service.replica_count != 1)}"


def _names(service: ServiceInfo) -> str:
    return ", ".join(f"{replica.name} ({span(replica.silent)})" for replica in service.silent[:SHOWN])


def _declared(app: Daebus) -> str:
    """What an application declares, counted."""
    from ..registry import Action, Listener, Route, Socket, Task, Thread

    kinds = {"action": Action, "listener": Listener, "route": Route, "socket": Socket, "task": Task, "thread": Thread}
    counted = {name: len(app.registry.all(kind)) for name, kind in kinds.items()}
    return ", ".join(f"{n} {name}{'s' * (n > 1)}" for name, n in counted.items() if n) or "nothing declared"
