"""Tools for testing a service. `TestApp` runs it in this process: on a bus in memory, without Redis and without a
port, or on a real bus.

    with TestApp(app) as service:
        assert service.call("add", {"a": 1, "b": 2}) == {"sum": 3}
        service.broadcast("sensors.door", {"open": True})
        assert service.http("GET", "/doors").json == [{"open": True}]

The same code runs as in production: messages are encoded and decoded, handlers run on worker greenlets, HTTP goes
through the whole WSGI application. Only the network is missing. `TestApp(app, redis_url=…)` uses a real bus instead.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import math
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import falcon.testing
import gevent
from gevent.event import Event
from gevent.queue import Empty, Queue

from . import clock, codec, settings
from .app import Daebus
from .caller import DaebusCaller
from .errors import ConfigurationError
from .runner import Prepared, Runner
from .servers.http.application import check
from .servers.websocket.endpoint import Handshake, Refusal
from .servers.websocket.frames import Frame
from .transport import Limits, home, shared, topology
from .transport.compatible import Compatible
from .transport.durable.memory import MemoryDurable, MemoryStore
from .transport.embedded import resolve
from .transport.memory import MemoryBroker

DRAIN_SECONDS = 2.0
ROUNDING_SECONDS = 1e-6  # rounding errors: ten times 0.1 s must be a second
MARKER = "daebus-test:"


@dataclasses.dataclass(frozen=True)
class HttpResult:
    """An HTTP answer: status code, headers (lower-case names) and the body, as bytes, text or JSON."""

    status: int
    headers: Mapping[str, str]
    content: bytes

    @property
    def text(self) -> str:
        """The body as text. UnicodeDecodeError if it is not UTF-8."""
        return self.content.decode()

    @property
    def json(self) -> Any:
        """The body as a JSON value; None if it is not JSON."""
        try:
            return codec.loads(self.content)
        except ValueError:
            return None


class Clock(clock.Clock):
    """The time of scheduled tasks: it moves only when the test moves it. Runs start at their planned time, without
    jitter."""

    def __init__(self, test: TestApp) -> None:
        self._test = test
        self._passed, self._set = 0.0, time.time()
        super().__init__()

    @property
    def now(self) -> datetime.datetime:
        """The wall clock, in UTC. Setting it is a step of the clock: no time passes and no task runs."""
        return datetime.datetime.fromtimestamp(self.wall(), datetime.UTC)

    @now.setter
    def now(self, when: datetime.datetime) -> None:
        self._set = when.timestamp() - self._passed

    def wall(self) -> float:
        return self._set + self._passed

    def monotonic(self) -> float:
        return self._passed

    def jitter(self, most: float) -> float:
        return 0.0

    def advance(self, seconds: float) -> int:
        """Move forward and run each task at each of its planned times, in order; returns the number of runs. ValueError
        for a negative or infinite number."""
        if not 0 <= seconds < math.inf:
            raise ValueError(f"a clock moves on by a number of seconds from 0, not {seconds!r}")
        scheduler, runs, end = self._test.runner.scheduler, 0, self._passed + seconds
        while (due := scheduler.next_due()) <= end + ROUNDING_SECONDS:
            self._passed = max(self._passed, due)
            run = scheduler.begin_next()
            if run is not None:
                run.join()
                runs += 1
        self._passed = max(self._passed, end)
        self._test.settle()
        return runs


class _ServiceEnd:
    """The service's end of a WebSocket in memory (servers/websocket/endpoint.py, `Socket`)."""

    def __init__(self) -> None:
        self.from_client: Queue[str | None] = Queue()
        self.to_client: Queue[str] = Queue()
        self.closed: tuple[int, str] | None = None
        self._home = home.current()

    def receive(self) -> str | None:
        message = None if self.closed else self.from_client.get()
        if message is None and self.closed is None:
            self.closed = (1000, "")
        return message

    def send(self, message: str | bytes | Frame) -> None:
        if self.closed is not None:
            raise OSError("the WebSocket is closed")
        data = message.payload if isinstance(message, Frame) else message
        text = data if isinstance(data, str) else data.decode()
        self._home.run(self.to_client.put_nowait, text)

    def close(self, code: int = 1000, message: str = "") -> None:
        if self.closed is None:
            self.closed = (code, message)
            self._home.run(self.from_client.put_nowait, None)


class TestSocket:
    """The client's end of a WebSocket in memory; created by `TestApp.websocket`."""

    __test__ = False

    def __init__(self, end: _ServiceEnd) -> None:
        self._end = end
        self._left: list[dict[str, Any]] = []

    @property
    def closed(self) -> tuple[int, str] | None:
        """Close code and reason once the service has closed the connection."""
        return self._end.closed

    def send(self, type: str, data: Any = settings.UNSET, **fields: Any) -> None:
        """Send a message of the JSON protocol; `fields` are added beside type and data."""
        message = {"type": type, **({"data": data} if settings.given(data) else {}), **fields}
        self.send_text(codec.dumps(message).decode())

    def send_text(self, text: str) -> None:
        """Send a text unchanged."""
        self._end.from_client.put(text)

    def receive(self, timeout: float = 5.0) -> dict[str, Any]:
        """The next frame from the service. TimeoutError after `timeout` seconds."""
        return self._left.pop(0) if self._left else self._next(timeout)

    def request(self, type: str, data: Any = settings.UNSET, timeout: float = 5.0) -> dict[str, Any]:
        """Send a message and return its reply, the frame with the same `id`. `receive` returns other frames later."""
        number = uuid.uuid4().hex
        self.send(type, data, id=number)
        deadline = time.monotonic() + timeout
        while (frame := self._next(max(0.0, deadline - time.monotonic()))).get("id") != number:
            self._left.append(frame)
        return {key: value for key, value in frame.items() if key != "id"}

    def close(self) -> None:
        """Close the connection."""
        self._end.from_client.put(None)

    def _next(self, timeout: float) -> dict[str, Any]:
        try:
            frame: dict[str, Any] = codec.loads(self._end.to_client.get(timeout=timeout))
        except Empty:
            raise TimeoutError(f"no WebSocket frame within {timeout:g} s") from None
        return frame


class TestApp:
    """A running service under test; use it with `with`. Meanwhile every `DaebusCaller` in the process uses its bus.

    app: the application. redis_url: a real bus instead of memory. service: the service's name, if the app has none.
    """

    __test__ = False  # pytest: not a test class, despite its name

    def __init__(self, app: Daebus, redis_url: str | None = None, service: str | None = None) -> None:
        self.app = app
        self.sent: list[tuple[str, dict[str, Any]]] = []
        """Messages that were sent to services: (service, message)."""
        self.broadcasts: list[tuple[str, dict[str, Any]]] = []
        """Messages that were broadcast: (channel, payload)."""
        self._redis_url = redis_url
        self._arguments: dict[str, Any] = {}
        if service is not None:
            self._arguments["service"] = service
            app.call_it(service)
        self._ends = contextlib.ExitStack()
        self._cache: Any = None

    def __enter__(self) -> TestApp:
        loaded = self.app.load_settings(self._arguments).settings
        check(self.app.running(loaded))
        self.clock = Clock(self)
        transport = self._make_transport(loaded)
        self._ends.enter_context(shared.override(transport))
        self.runner = Runner(self.app, Prepared(loaded, None), transport, self._client, self.clock)
        self.runner.start(timers=False)
        self._ends.callback(self._stop)
        self._until(lambda: not self.runner.not_ready(), "the service did not become ready")
        return self

    def __exit__(self, *exc: object) -> None:
        self._ends.close()

    # --- talking to the service -----------------------------------------------------------------------------------
    def call(
        self, action: str, payload: Any = None, timeout: float = 5.0, on_progress: Callable[[Any], Any] | None = None
    ) -> Any:
        """Call an action; returns the reply's payload. Raises the same errors as `DaebusCaller.send_request`."""
        service = self.runner.service
        return DaebusCaller(service).send_request(action, {} if payload is None else payload, timeout, on_progress)

    def broadcast(self, channel: str, payload: dict[str, Any], *, durable: bool = False) -> int:
        """Broadcast a message and wait until its listeners here have run; returns the number of receivers, or, if it is
        durable, of the services that it is stored for."""
        receivers = DaebusCaller(self.runner.service).send_message(channel, payload, durable=durable)
        self.settle()
        return receivers

    def http(
        self,
        method: str,
        path: str,
        json: Any = settings.UNSET,
        headers: Mapping[str, str] | None = None,
        query: Mapping[str, Any] | None = None,
        body: bytes | str | None = None,
    ) -> HttpResult:
        """Send an HTTP request through the whole application. `json` is encoded as the body."""
        if settings.given(json):
            body, headers = codec.dumps(json), {"content-type": "application/json", **(headers or {})}
        client = falcon.testing.TestClient(self.app)
        result = self.run(client.simulate_request, method, path, headers=headers, params=query, body=body)
        lower = {name.lower(): value for name, value in result.headers.items()}
        return HttpResult(result.status_code, lower, result.content)

    @contextlib.contextmanager
    def websocket(self, path: str = "/ws", headers: Mapping[str, str] | None = None) -> Iterator[TestSocket]:
        """Connect a WebSocket client. ConnectionRefusedError if the service refuses the connection."""
        if self.app.websocket is None:
            raise ConfigurationError("the application has no DaebusWebSocket attached")
        outcome = self.run(self.app.websocket.accept, Handshake.of(_environ(path, headers or {})))
        if isinstance(outcome, Refusal):
            raise ConnectionRefusedError(f"{outcome.status}: {outcome.content}")
        end = _ServiceEnd()
        client = TestSocket(end)
        served = gevent.spawn(outcome.serve, end)
        try:
            yield client
        finally:
            client.close()
            served.join(DRAIN_SECONDS)

    # --- waiting --------------------------------------------------------------------------------------------------
    def settle(self, timeout: float = 5.0) -> None:
        """Wait until the service has handled everything it has received. TimeoutError after `timeout` seconds."""
        # Send a message to ourselves. A bus delivers in order to each receiver, so all earlier messages have arrived
        # when it arrives.
        arrived = Event()
        marker = self.runner.transport.subscribe(MARKER + str(uuid.uuid4()), lambda channel, data: arrived.set())
        self._until(lambda: marker.confirmed, "the bus did not confirm a subscription", timeout)
        self.runner.transport.publish(marker.name, b"{}")  # type: ignore[attr-defined]
        if not arrived.wait(timeout):
            raise TimeoutError(f"the bus did not deliver a message within {timeout:g} s")
        marker.cancel()
        self._until(lambda: not self.runner.consumer.busy, "the service is still busy", timeout)

    def run(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Run a function in a greenlet, like a handler; returns or raises what the function does."""
        return gevent.spawn(function, *args, **kwargs).get()

    # --- inside ---------------------------------------------------------------------------------------------------
    def _make_transport(self, loaded: settings.Settings) -> Compatible:
        transport: Compatible
        if self._redis_url is not None:
            transport = shared.make(self._redis_url, loaded, self.app.metrics)
        else:
            store = MemoryStore(self.clock.wall, lambda command: self._client().execute_command(*command))
            transport = MemoryDurable(MemoryBroker(), store, home.current(), Limits.of(loaded), self.app.metrics)
        transport.observe(self._record)
        return transport

    def _record(self, channel: str, data: bytes) -> None:
        try:
            message = codec.loads(data)
        except ValueError:
            return
        if not isinstance(message, dict) or channel.startswith(("caller:", MARKER)):
            return
        (self.sent if "action" in message else self.broadcasts).append((channel, message))

    def _client(self) -> Any:
        if self._redis_url is not None:
            return topology.of(self._redis_url).client()
        if self._cache is None:
            try:
                import fakeredis
            except ImportError:
                raise ConfigurationError(
                    "`cache` in a test without Redis needs fakeredis: pip install 'daebus-runtime[dev]'"
                ) from None
            self._cache = fakeredis.FakeRedis(decode_responses=True)
        return self._cache

    def _stop(self) -> None:
        self.run(self.runner.finish, time.monotonic() + DRAIN_SECONDS)

    def _until(self, condition: Callable[[], bool], text: str, timeout: float = 5.0) -> None:
        deadline = time.monotonic() + timeout
        while not condition():
            if time.monotonic() > deadline:
                raise TimeoutError(f"{text} within {timeout:g} s: {self.runner.not_ready()}")
            gevent.sleep(0.002)


def _environ(path: str, headers: Mapping[str, str]) -> dict[str, Any]:
    path, _, query = path.partition("?")
    environ: dict[str, Any] = falcon.testing.create_environ(path=path, query_string=query, headers=dict(headers))
    return environ


@contextlib.contextmanager
def embedded_redis() -> Iterator[str]:
    """A new Redis or Valkey server for the duration of the block; gives its address. It leaves nothing behind."""
    bus = resolve(dataclasses.replace(settings.Settings(), embedded="always"))
    try:
        yield bus.url
    finally:
        if bus.server is not None:
            bus.server.stop()
