"""The fixtures of all tests. They run in a process patched by gevent, as a service does."""

# Patch before all other imports: a module that is imported earlier keeps the unpatched functions. Only pytest's plugins
# come earlier. That of anyio imports ssl, but nothing here uses anyio's TLS, so gevent's warning does not apply.
import warnings

from gevent import monkey

with warnings.catch_warnings():
    warnings.filterwarnings("ignore", message=r"Monkey-patching ssl after ssl.*\['anyio[^,]*\]")
    monkey.patch_all()

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.ports import free_port as find_free_port
from tests.support.process import ServiceProcess
from tests.support.redis_server import RedisServer
from tests.support.wall_clock import WallClock, why_not

# A shell starts background jobs with SIGINT and SIGQUIT ignored, and nohup ignores SIGHUP. Every program that the tests
# start would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)
for number in (signal.SIGQUIT, signal.SIGHUP):
    signal.signal(number, signal.SIG_DFL)

MEASURED = pytest.StashKey[list[str]]()


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """No `DAEBUS_*` variable of the developer's shell reaches a test."""
    for name in [name for name in os.environ if name.startswith("DAEBUS_")]:
        monkeypatch.delenv(name)


@pytest.fixture
def redis_server() -> Iterator[RedisServer]:
    """A Redis server for this test alone, running; the test may kill, pause and restart it."""
    with RedisServer() as server:
        yield server


@pytest.fixture(scope="session")
def session_redis() -> Iterator[RedisServer]:
    """The server behind `shared_redis`."""
    with RedisServer() as server:
        yield server


@pytest.fixture
def shared_redis(session_redis: RedisServer) -> RedisServer:
    """An empty Redis server that many tests use one after the other: do not stop it, leave nothing subscribed."""
    client = session_redis.client()
    client.flushall()
    client.close()
    return session_redis


@pytest.fixture
def free_port() -> int:
    """A free TCP port on loopback."""
    return find_free_port()


@pytest.fixture
def start_process(tmp_path: Path) -> Iterator[Callable[..., ServiceProcess]]:
    """Starts programs as `ServiceProcess(…)` does, in the test's folder; at the end each must leave nothing behind."""
    started: list[ServiceProcess] = []

    def start(program: Any, **options: Any) -> ServiceProcess:
        options.setdefault("directory", tmp_path)
        options.setdefault("name", f"program{len(started)}.py")
        process = ServiceProcess(program, **options)
        started.append(process)
        return process

    yield start
    failures = []
    for process in reversed(started):
        try:
            process.close()
        except AssertionError as error:
            failures.append(str(error))
    assert not failures, "\n".join(failures)


@pytest.fixture
def wall_clock(tmp_path: Path) -> WallClock:
    """A wall clock that the test moves while a program runs; start the program with its `env`."""
    if reason := why_not():
        pytest.skip(reason)
    return WallClock(tmp_path)


@pytest.fixture
def measured(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """A function that keeps a line of figures; all lines are printed at the end of the run."""
    return request.config.stash.setdefault(MEASURED, []).append


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    for line in config.stash.get(MEASURED, []):
        terminalreporter.write_line(f"measured: {line}")
