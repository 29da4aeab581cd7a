"""The fixtures of all tests. They run in a process patched by gevent, as a service does."""

# Patch before all other imports: a module that is imported earlier keeps the unpatched functions.
from gevent import monkey

monkey.patch_all()

import itertools
import os
import signal
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import gevent
import pytest
from daebus_runtime import processes
from xdist.scheduler import LoadScopeScheduling

from tests.support.ports import free_port as find_free_port
from tests.support.process import ServiceProcess
from tests.support.redis_server import RedisServer
from tests.support.wall_clock import WallClock, why_not

os.close = processes.close  # pytest removes the folders of earlier runs, with all their directories

pytest.register_assert_rewrite("tests.docs.drivers", "tests.docs.stage")  # their assertions explain themselves too

# A shell starts background jobs with SIGINT and SIGQUIT ignored, and nohup ignores SIGHUP. Every program that the tests
# start would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)
for number in (signal.SIGQUIT, signal.SIGHUP):
    signal.signal(number, signal.SIG_DFL)

MEASURED = "measured"
# Folders whose tests share something that takes long to make, such as an image. One worker runs all of them.
TOGETHER = {"images"}
WORKER = "PYTEST_XDIST_WORKER" in os.environ

if WORKER:
    # pytest-xdist hands out the tests in a thread of its own, which gevent does not see. To gevent, a worker that waits
    # for its next test would wait forever, and that is an error. This watcher keeps the loop alive.
    keep_alive = gevent.get_hub().loop.async_()
    keep_alive.start(lambda: None)


def pytest_xdist_auto_num_workers() -> int:
    """Many tests wait for most of their time, so there is one worker more than processors."""
    return (os.cpu_count() or 1) + 1


class ByFile(LoadScopeScheduling):  # type: ignore[misc]  # it has no types
    """A worker runs a whole file, or a whole folder of `TOGETHER`: its tests share what its fixtures make."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        folder = Path(file).parent.name
        return folder if folder in TOGETHER else file


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ByFile:
    return ByFile(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Side by side, slow tests go first, so that at the end no worker has to wait long for another one."""
    if WORKER:
        items.sort(key=lambda item: item.get_closest_marker("slow") is None)


@pytest.hookimpl(wrapper=True)
def pytest_report_to_serializable() -> Generator[None, Any, Any]:
    """Tests of lone surrogates print them, and UTF-8 has none: a worker sends them as escapes."""
    return encodable((yield))


def encodable(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, dict):
        return {encodable(key): encodable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(encodable(item) for item in value)
    return value


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
    return lambda line: request.node.user_properties.append((MEASURED, line))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    reports = itertools.chain.from_iterable(terminalreporter.stats.values())
    for report in reports:
        if isinstance(report, pytest.TestReport) and report.when == "call":
            for name, line in report.user_properties:
                if name == MEASURED:
                    terminalreporter.write_line(f"measured: {line}")
