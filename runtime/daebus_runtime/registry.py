"""What the author of a service declares: handlers, tasks, threads and hooks. Stores declarations, runs nothing.

`Declarations` provides the decorators, the same for the application and for blueprints. `Registry` stores what they
declare and refuses at once what cannot work; for a duplicate the error names both places.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Iterable
from typing import Any, ClassVar, TypeVar

from . import keys
from .errors import ConfigurationError, RegistrationError
from .schedule import make_times
from .settings import UNSET, given, parse

F = TypeVar("F", bound=Callable[..., Any])
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
SOCKET_HOOKS = ("connect", "disconnect", "register")


@dataclasses.dataclass(frozen=True)
class Declared:
    """Anything declared with a function. `where` is `file:line` of that function."""

    kind: ClassVar[str]
    """Its kind, in one word."""
    unique: ClassVar[str | None] = None
    """The field that must be unique within its kind; None if several may be equal."""
    function: Callable[..., Any]

    @property
    def where(self) -> str:
        code = getattr(inspect.unwrap(self.function), "__code__", None)
        return f"{code.co_filename}:{code.co_firstlineno}" if code else repr(self.function)

    @property
    def keys(self) -> list[tuple[str, ...]]:
        """Keys that no other declaration may have."""
        return [(self.kind, getattr(self, self.unique))] if self.unique is not None else []

    @property
    def title(self) -> str:
        """Its name in error texts and logs."""
        return f"{self.kind} {getattr(self, self.unique)!r}" if self.unique is not None else self.kind


@dataclasses.dataclass(frozen=True)
class Action(Declared):
    kind = "action"
    unique = "name"
    name: str
    blocking: bool = False
    redeliver: bool = True


@dataclasses.dataclass(frozen=True)
class Listener(Declared):
    kind = "listener"
    channel: str
    blocking: bool = False
    durable: bool = False
    redeliver: bool = True

    @property
    def title(self) -> str:
        return f"{'durable ' if self.durable else ''}listener on {self.channel!r}"


@dataclasses.dataclass(frozen=True)
class Route(Declared):
    kind = "route"
    path: str
    methods: tuple[str, ...]
    blocking: bool = False
    timeout: float | None = None

    @property
    def keys(self) -> list[tuple[str, ...]]:
        return [(self.kind, self.path, method) for method in self.methods]

    @property
    def title(self) -> str:
        return f"route {' '.join(self.methods)} {self.path}"


@dataclasses.dataclass(frozen=True)
class Socket(Declared):
    kind = "socket"
    unique = "type"
    type: str
    blocking: bool = False


@dataclasses.dataclass(frozen=True)
class SocketHook(Declared):
    kind = "socket hook"
    event: str
    blocking: bool = False

    @property
    def title(self) -> str:
        return f"socket_{self.event}"


@dataclasses.dataclass(frozen=True)
class Task(Declared):
    """A scheduled task: `interval` in seconds, or `cron` in the five-field form; `jitter` in seconds."""

    kind = "task"
    unique = "name"
    name: str
    interval: float | None = None
    cron: str | None = None
    timezone: str | None = None
    jitter: float | None = None
    blocking: bool = False


@dataclasses.dataclass(frozen=True)
class Thread(Declared):
    kind = "thread"
    unique = "name"
    name: str
    auto_start: bool = True
    native: bool = False


@dataclasses.dataclass(frozen=True)
class Hook(Declared):
    kind = "hook"
    event: str

    @property
    def title(self) -> str:
        return self.event


D = TypeVar("D", bound=Declared)


class Registry:
    """Declarations in their order. A registry that is `part_of` another passes on its own, past and future."""

    def __init__(self) -> None:
        self.frozen = False
        """Whether it accepts no more: a running service serves what was declared before its start."""
        self._items: list[Declared] = []
        self._unique: dict[tuple[Any, ...], Declared] = {}
        self._wholes: list[tuple[Registry, Callable[[Declared], Declared]]] = []

    def add(self, item: Declared) -> None:
        """Store a declaration. RegistrationError, and nothing is stored, for a duplicate, for a function that could
        never be called, and while the service runs."""
        _check_function(item)
        self._check(item)
        self._keep(item)

    def all(self, kind: type[D]) -> list[D]:
        """The declarations of one kind."""
        return [item for item in self._items if isinstance(item, kind)]

    def part_of(self, whole: Registry, place: Callable[[Declared], Declared] = lambda item: item) -> None:
        """Add everything that is declared here, now and later, to `whole` too, converted by `place`.

        RegistrationError, and nothing changes, if `whole` refuses one of the existing declarations.
        """
        placed = [place(item) for item in self._items]
        for item in placed:
            whole._check(item)
        self._wholes.append((whole, place))
        for item in placed:
            whole._keep(item)

    def _check(self, item: Declared) -> None:
        for key in item.keys:
            other = self._unique.get(key)
            if other is not None:
                raise RegistrationError(f"{item.title} is declared twice: at {other.where} and at {item.where}")
        for whole, place in self._wholes:
            whole._check(place(item))
        if self.frozen:
            raise RegistrationError(
                f"{item.title} at {item.where} is declared while the service runs: declare everything before "
                "app.run(), when the program's modules are imported"
            )

    def _keep(self, item: Declared) -> None:
        for key in item.keys:
            self._unique[key] = item
        self._items.append(item)
        for whole, place in self._wholes:
            whole._keep(place(item))


def _check_function(item: Declared) -> None:
    function = item.function
    if not callable(function):
        raise RegistrationError(f"{item.title}: a handler is a function, not {function!r}")
    # A wrapped function is not checked: it may be async if the wrapper runs it. An object is called through its class.
    called = (function, type(function).__call__)
    if any(inspect.iscoroutinefunction(each) or inspect.isasyncgenfunction(each) for each in called):
        raise RegistrationError(
            f"{item.title} at {item.where} is an async function, which Daebus would never await; write a plain `def` "
            "(waiting for the network does not block others here)"
        )


def _check_name(kind: str, name: object) -> str:
    if not isinstance(name, str) or not name.strip() or len(name) > 256:
        raise RegistrationError(f"the name of {kind} is a text of 1 to 256 characters, not {name!r}")
    if keys.SURROGATE.search(name):
        raise RegistrationError(f"the name of {kind} cannot be sent: {name!r} has a lone surrogate")
    return name


def _check_path(path: object) -> str:
    if not isinstance(path, str) or not path.startswith("/"):
        raise RegistrationError(f"a route's path starts with '/': {path!r}")
    return path


def _check_methods(methods: Iterable[str] | None) -> tuple[str, ...]:
    words = ("GET",) if methods is None else (methods,) if isinstance(methods, str) else tuple(methods)
    upper = tuple(dict.fromkeys(str(word).upper() for word in words))
    unknown = [word for word in upper if word not in METHODS]
    if unknown or not upper:
        raise RegistrationError(f"a route's methods are some of {', '.join(METHODS)}, not {words!r}")
    return upper


def _check_timeout(timeout: object) -> float:
    try:
        seconds: float = parse("request_seconds", timeout, "timeout")
    except ConfigurationError as error:
        raise RegistrationError(f"a route's {error}") from None
    return seconds


class Declarations:
    """The decorators. Each returns the function unchanged, and raises RegistrationError if it cannot work."""

    def __init__(self) -> None:
        self.registry = Registry()

    def _declare(self, make: Callable[[Callable[..., Any]], Declared]) -> Callable[[F], F]:
        def decorate(function: F) -> F:
            self.registry.add(make(function))
            return function

        return decorate

    def action(self, action_name: str, *, blocking: bool = False, redeliver: bool = True) -> Callable[[F], F]:
        """Answer requests for an action; the handler takes no argument and reads `request`.

        It replies with `response.*` or with its return value. `blocking=True` runs it in an OS thread. With
        `redeliver=False` a request whose replica died is not run again: its caller gets the error `worker_died`.
        """
        name = _check_name("an action", action_name)
        return self._declare(lambda function: Action(function, name, blocking, redeliver))

    def listen(
        self, channel: str, *, blocking: bool = False, durable: bool = False, redeliver: bool = True
    ) -> Callable[[F], F]:
        """Receive broadcasts: the handler gets each JSON object. `channel` may be a pattern, as in "sensors.*".

        A plain listener gets what is sent while it listens, in every replica. `durable=True` receives what was sent
        with `durable=True`: each event is stored for the service and handled in one of its replicas, also if it was
        sent while none ran. A pattern cannot be durable. With `redeliver=False` an event whose replica died is not
        handled again, but logged.
        """
        try:
            keys.check_channel(channel)
        except ValueError as error:
            raise RegistrationError(str(error)) from None
        if durable and keys.is_pattern(channel):
            raise RegistrationError(
                f"a durable listener names one channel, not the pattern {channel!r}: the sender stores an event for "
                "the services that are registered for its channel, and does not know patterns"
            )
        if not (redeliver or durable):
            raise RegistrationError("redeliver= is for durable listeners: a plain one never gets a message again")
        return self._declare(lambda function: Listener(function, channel, blocking, durable, redeliver))

    def route(
        self, path: str, methods: Iterable[str] | None = None, *, blocking: bool = False, timeout: float | None = None
    ) -> Callable[[F], F]:
        """Answer HTTP requests: the handler gets `(request, **parameters)`; `<name>` in the path is a parameter. The
        default method is GET. `timeout`: seconds for the handler instead of `DAEBUS_REQUEST_SECONDS`; 0 is no limit."""
        path, verbs = _check_path(path), _check_methods(methods)
        seconds = None if timeout is None else _check_timeout(timeout)
        return self._declare(lambda function: Route(function, path, verbs, blocking, seconds))

    def socket(self, type: str = UNSET, *, blocking: bool = False, message_type: str = UNSET) -> Callable[[F], F]:
        """Answer WebSocket messages of a type: the handler gets `(data, client_id)`; its result is sent back.
        `message_type` is the same as `type`; "connect", "disconnect" and "register" are the hooks below."""
        name = _check_name("a message type", type if given(type) else message_type)
        if name in SOCKET_HOOKS:
            return self._declare(lambda function: SocketHook(function, name, blocking))
        return self._declare(lambda function: Socket(function, name, blocking))

    def socket_connect(self, *, blocking: bool = False) -> Callable[[F], F]:
        """Run before a WebSocket is accepted: `(data, client_id)`; returning False refuses it with 403."""
        return self.socket("connect", blocking=blocking)

    def socket_disconnect(self, *, blocking: bool = False) -> Callable[[F], F]:
        """Run after a WebSocket is closed: `(data, client_id)`."""
        return self.socket("disconnect", blocking=blocking)

    def socket_register(self, *, blocking: bool = False) -> Callable[[F], F]:
        """Run once a WebSocket is open, so that messages can be sent to it: `(data, client_id)`."""
        return self.socket("register", blocking=blocking)

    def background(
        self,
        name: str,
        interval: float | None = None,
        *,
        cron: str | None = None,
        timezone: str | None = None,
        jitter: float | None = None,
        blocking: bool = False,
    ) -> Callable[[F], F]:
        """Run every `interval` seconds (first after one interval), or by `cron` ("*/5 * * * *", in `timezone`).

        `jitter` (seconds) spreads the runs. Runs never overlap; an exception is logged and the task goes on.
        """
        _check_name("a task", name)
        make_times(name, interval, cron, timezone, jitter)  # refuse errors now, not at the first run
        return self._declare(lambda function: Task(function, name, interval, cron, timezone, jitter, blocking))

    def thread(self, name: str, auto_start: bool = True, *, native: bool = False) -> Callable[[F], F]:
        """Run as long as the service does: `func(running)` or `func()`; `running()` is False once it should end.

        Restarted with backoff after an exception. `native=True` runs it in an OS thread.
        """
        _check_name("a thread", name)
        return self._declare(lambda function: Thread(function, name, auto_start, native))

    def on_start(self) -> Callable[[F], F]:
        """Run when everything has started, in the order of declaration."""
        return self._declare(lambda function: Hook(function, "on_start"))

    def on_stop(self) -> Callable[[F], F]:
        """Run when the service has drained, before the bus is closed, in the order of declaration."""
        return self._declare(lambda function: Hook(function, "on_stop"))
