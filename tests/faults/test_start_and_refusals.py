"""The bus at the start of a service: unreachable, still loading, asking for a password, or not configured."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from daebus_runtime import Daebus

from tests.faults.instruments import GARDEN, IDLE, Management, Start, first_answer, lines_with, settings
from tests.support import wire
from tests.support.process import ServiceProcess
from tests.support.redis_server import RedisServer
from tests.support.waiting import wait_until

PASSWORD = "correct-horse"
WRONG = "battery-staple"


# --- away -----------------------------------------------------------------------------------------------------------
def test_a_service_starts_without_its_redis_keeps_trying_and_logs_it_once(start_process: Start, free_port: int) -> None:
    server = RedisServer()
    management = Management(free_port)
    try:
        garden = start_process(GARDEN, env=settings(server.url, management=free_port))
        garden.wait_line("service garden started")
        management.wait_not_ready("bus: not connected")
        garden.wait_line("is away")
        assert management.get("/livez")[0] == 200
        assert management.health()[0] == 1
        begun = time.monotonic()
        wait_until(lambda: time.monotonic() - begun > 1.5 or garden.count("is away") > 1)  # about ten attempts
        assert garden.count("is away") == 1, garden.output
        assert garden.count("on_start has run") == 0

        server.start()
        management.wait_ready(5)
        client = server.client()
        first_answer(client, "garden")
        client.close()
        assert garden.count("on_start has run") == 1
        assert (garden.count("is away"), garden.count("is connected")) == (1, 1), garden.output
        assert "Traceback" not in garden.output
        assert garden.terminate(5) == 0
    finally:
        server.close()


def test_a_service_that_ends_right_after_its_start_does_not_crash(tmp_path: Path, free_port: int) -> None:
    """A thread that begins while Python ends uses freed memory. glibc fills that here, so each such use is a crash."""
    program = """
        from daebus import Daebus
        app = Daebus("short")
        app.on_start()(app.stop)
        app.run()
    """
    env = {**settings(f"redis://127.0.0.1:{free_port}"), "MALLOC_PERTURB_": "165"}
    with contextlib.ExitStack() as running:  # side by side, so that new threads have to wait for a processor
        all_of_them = [
            running.enter_context(ServiceProcess(program, directory=tmp_path, name=f"{number}.py", env=env))
            for number in range(8)
        ]
        assert [one.wait(30) for one in all_of_them] == [0] * 8


def test_a_service_whose_native_thread_ends_with_it_does_not_crash(tmp_path: Path, session_redis: RedisServer) -> None:
    """The same for a thread that ends while Python ends."""
    program = """
        import time
        from daebus import Daebus, cache
        app = Daebus("native")

        @app.thread("sensor", native=True)
        def sensor(running):
            cache.set("native", 1)
            app.stop()
            while running():
                time.sleep(0.01)

        app.run()
    """
    env = {**settings(session_redis.url), "MALLOC_PERTURB_": "165"}
    for _ in range(3):
        with contextlib.ExitStack() as running:
            all_of_them = [
                running.enter_context(ServiceProcess(program, directory=tmp_path, name=f"{number}.py", env=env))
                for number in range(8)
            ]
            assert [one.wait(30) for one in all_of_them] == [0] * 8


def test_a_service_that_never_reached_its_redis_ends_at_once(start_process: Start, free_port: int) -> None:
    garden = start_process(IDLE, env=settings(f"redis://127.0.0.1:{free_port}"))
    garden.wait_line("is away")
    begun = time.monotonic()
    assert garden.terminate(10) == 0
    assert time.monotonic() - begun < 2, garden.output


def test_a_host_name_that_does_not_resolve_is_an_outage(start_process: Start) -> None:
    """In a cluster the bus's name may be created after the service has started."""
    garden = start_process(GARDEN, env=settings("redis://no-such-host.invalid:6379"))
    garden.wait_line("service garden started")
    garden.wait_line("is away.*no-such-host.invalid")
    assert garden.running


# --- loading --------------------------------------------------------------------------------------------------------
def test_a_redis_that_is_loading_its_data_is_waited_for(redis_server: RedisServer, start_process: Start) -> None:
    client = redis_server.client()
    client.mset({f"key:{number}": "x" * 200 for number in range(20_000)})
    client.save()
    redis_server.kill()
    redis_server.arguments = ("--key-load-delay", "100", "--loading-process-events-interval-bytes", "1024")
    redis_server.start()
    client = redis_server.client()
    assert client.info("persistence")["loading"] == 1, "the server loads too fast for this test"
    garden = start_process(GARDEN, env=settings(redis_server.url))
    garden.wait_line("service garden started")
    wait_until(lambda: client.info("persistence")["loading"] == 0, 30)
    first_answer(client, "garden", 10)
    assert garden.running
    assert "Traceback" not in garden.output
    client.close()


# --- refusals -------------------------------------------------------------------------------------------------------
def refused(program: str, directory: Path, env: dict[str, str]) -> str:
    """The output of a program that must not start: it ends by itself with code 1."""
    with ServiceProcess(program, directory=directory, env=env) as process:
        assert process.wait(20) == 1, process.output
        assert "Traceback" not in process.output
        assert lines_with(process, "daebus: cannot start:"), process.output
        return process.output


def refused_here(capsys: pytest.CaptureFixture[str], **arguments: Any) -> str:
    """The same in this process, for errors that are found before anything starts."""
    with pytest.raises(SystemExit) as end:
        Daebus("garden").run(**arguments)
    assert end.value.code == 1
    said = capsys.readouterr().err
    assert said.startswith("daebus: cannot start: ")
    return said


@pytest.fixture(scope="module")
def locked_redis() -> Iterator[RedisServer]:
    with RedisServer(password=PASSWORD) as server:
        yield server


@pytest.mark.parametrize("user", [f":{WRONG}@", f"nobody:{WRONG}@", ""], ids=["password", "user", "none given"])
def test_a_wrong_password_stops_the_start_and_is_not_shown(
    locked_redis: RedisServer, tmp_path: Path, user: str
) -> None:
    said = refused(GARDEN, tmp_path, settings(f"redis://{user}127.0.0.1:{locked_redis.port}/0"))
    assert "password" in said
    assert f"127.0.0.1:{locked_redis.port}" in said
    assert "DAEBUS_REDIS_URL" in said
    assert WRONG not in said


def test_the_right_password_is_never_shown(locked_redis: RedisServer, start_process: Start, free_port: int) -> None:
    env = settings(locked_redis.url, management=free_port, log_level="debug")
    garden = start_process(GARDEN, env=env)
    garden.wait_line("is connected")
    Management(free_port).wait_ready()
    assert garden.terminate() == 0
    assert PASSWORD not in garden.output


def test_a_password_that_changes_while_it_runs_is_an_outage_with_its_reason(
    redis_server: RedisServer, start_process: Start
) -> None:
    garden = start_process(GARDEN, env=settings(redis_server.url))
    garden.wait_line("is connected")
    client = redis_server.client()
    client.config_set("requirepass", PASSWORD)
    client.client_kill_filter(_type="pubsub")
    client.client_kill_filter(_type="normal", skipme=True)
    garden.wait_line("is away")
    client.config_set("requirepass", "")
    wire.wait_for_subscriber(client, "garden")
    client.close()


@pytest.mark.parametrize(
    "url",
    [
        "localhost:6379",
        "http://localhost:6379",
        "redis://",
        "redis://localhost:99999",
        "redis://localhost:port",
        "redis://localhost/database",
        f"redis://:{WRONG}@host:notaport/0",
        "unix://",
        " ",
        "redis://[::1",
    ],
)
def test_a_malformed_address_stops_the_start_with_the_expected_form(
    url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DAEBUS_REDIS_URL", url)
    said = refused_here(capsys)
    assert "DAEBUS_REDIS_URL" in said
    assert "redis://" in said.partition("is not")[2], said
    assert WRONG not in said


@pytest.mark.parametrize(
    "arguments",
    [
        {"redis_url": "amqp://localhost"},
        {"redis_host": "localhost", "redis_port": 0},
        {"redis_port": "many"},
        {"service": "two words"},
        {"service": ""},
    ],
    ids=repr,
)
def test_a_wrong_argument_of_run_stops_the_start_and_is_named(
    arguments: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    said = refused_here(capsys, **arguments)
    assert f"argument {list(arguments)[-1]}:" in said


def test_without_an_address_and_with_no_embedded_server_allowed_the_start_is_refused(tmp_path: Path) -> None:
    said = refused(GARDEN, tmp_path, settings())
    assert "DAEBUS_EMBEDDED=never" in said
    assert "DAEBUS_REDIS_URL" in said


def test_a_setting_that_does_not_parse_stops_the_start(shared_redis: RedisServer, tmp_path: Path) -> None:
    said = refused(GARDEN, tmp_path, settings(shared_redis.url, drain_seconds="soon"))
    assert "DAEBUS_DRAIN_SECONDS: 'soon' is not seconds, 0 to 3600" in said
    client = shared_redis.client()
    assert wire.subscribers(client, "garden") == 0
    client.close()


def test_a_management_port_that_is_taken_stops_the_start(
    shared_redis: RedisServer, tmp_path: Path, start_process: Start, free_port: int
) -> None:
    env = settings(shared_redis.url, management=free_port)
    first = start_process(GARDEN, env=env)
    first.wait_line("is connected")
    said = refused(GARDEN, tmp_path, env)
    assert "DAEBUS_MANAGEMENT_PORT" in said
    assert str(free_port) in said
    client = shared_redis.client()
    wire.wait_for_subscriber(client, "garden", 1)
    client.close()


def test_a_service_without_a_name_says_how_to_give_it_one(shared_redis: RedisServer, tmp_path: Path) -> None:
    said = refused(GARDEN.replace('"garden"', "__name__"), tmp_path, settings(shared_redis.url))
    for cure in ("app.run(service=", "Daebus(", "DAEBUS_SERVICE"):
        assert cure in said


# --- the health command by itself -----------------------------------------------------------------------------------
def test_the_health_command_without_a_service_and_without_a_port(free_port: int) -> None:
    management = Management(free_port)
    assert management.health()[0] == 1
    assert management.health("--live")[0] == 1
    assert management.health("--url", "no address")[0] == 2
    command = [sys.executable, "-m", "daebus_runtime.health"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "DAEBUS_MANAGEMENT_PORT" in done.stdout
