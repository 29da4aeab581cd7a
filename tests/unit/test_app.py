"""The application: its name, its settings, its components, and one run of its process, from first line to last."""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from daebus_runtime import Blueprint, Daebus, DaebusHttp, DaebusWebSocket, get_daemon
from daebus_runtime.errors import ConfigurationError, RegistrationError
from daebus_runtime.testing import TestApp

from tests.support import wire
from tests.support.orphans import group_members
from tests.support.process import ServiceProcess
from tests.support.redis_server import RedisServer

Start = Callable[..., ServiceProcess]


# --- names ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("own", "argument", "environment", "expected"),
    [
        ("garden", None, None, "garden"),
        ("garden.app.web", None, None, "garden"),
        ("garden", "shed", None, "shed"),
        ("garden", "shed", "site-7", "site-7"),
        ("__main__", "shed", None, "shed"),
        ("__main__", None, "site-7", "site-7"),
        ("__main__", None, None, None),
        ("größe", None, None, "größe"),
    ],
)
def test_the_name_is_from_the_environment_else_the_argument_else_the_application(
    own: str, argument: str | None, environment: str | None, expected: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if environment:
        monkeypatch.setenv("DAEBUS_SERVICE", environment)
    app = Daebus(own)
    test = TestApp(app, service=argument)
    assert app.service == expected
    if expected is None:
        with pytest.raises(ConfigurationError, match=r"app\.run\(service=.*Daebus\(.*DAEBUS_SERVICE"), test:
            pass
        return
    app.action("who")(lambda: app.service)
    with test as service:
        assert service.call("who") == expected
        assert service.sent[-1][0] == expected


@pytest.mark.parametrize("name", ["", None, 5, b"garden"], ids=repr)
def test_a_name_that_is_not_a_string_is_refused(name: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"Daebus\(name\)"):
        Daebus(name)


@pytest.mark.parametrize("name", ["two words", "a*", "x" * 129, ".hidden"], ids=lambda name: name[:9])
def test_a_name_that_cannot_be_a_channel_is_refused_and_its_source_named(name: str) -> None:
    with pytest.raises(ConfigurationError, match=r"Daebus\(name\).*is not a name"):
        TestApp(Daebus(name)).__enter__()


@pytest.mark.parametrize("workers", [0, -1, 1.5, "4", None, True], ids=repr)
def test_max_workers_is_a_number_of_threads(workers: Any) -> None:
    with pytest.raises(ConfigurationError, match="max_workers"):
        Daebus("garden", workers)


# --- composition ----------------------------------------------------------------------------------------------------
def test_components_and_declarations_come_in_any_order() -> None:
    app = Daebus("garden")
    app.route("/before")(lambda req: "before")
    app.socket("before")(lambda data, client_id: "before")
    http, websocket = DaebusHttp(port=9000), DaebusWebSocket()
    app.attach(websocket)
    app.attach(http)
    app.route("/after")(lambda req: "after")
    app.socket("after")(lambda data, client_id: "after")
    assert (app.http, app.websocket, http.port) == (http, websocket, 9000)
    with TestApp(app) as service:
        for word in ("before", "after"):
            assert service.http("GET", f"/{word}").json == word
            with service.websocket() as page:
                assert page.request(word)["data"] == word


def test_a_component_is_attached_once() -> None:
    app = Daebus("garden")
    app.attach(DaebusHttp())
    with pytest.raises(RegistrationError, match="a DaebusHttp is attached already"):
        app.attach(DaebusHttp())


def test_before_it_runs_only_what_needs_no_process_works() -> None:
    app = Daebus("garden")
    assert not app.is_running()
    assert app.stop() is None  # type: ignore[func-returns-value]
    assert (app.http, app.websocket) == (None, None)
    for use in (lambda: app.transport, lambda: app.redis, lambda: app.start_thread("t"), lambda: app.stop_thread("t")):
        with pytest.raises(ConfigurationError, match="does not run yet"):
            use()
    with pytest.raises(RuntimeError):
        get_daemon()
    assert "garden" in repr(app)


def test_is_running_is_true_while_it_runs() -> None:
    app = Daebus("garden")
    with TestApp(app):
        assert app.is_running()
        assert get_daemon() is app
    assert not app.is_running()


def test_an_application_may_be_tested_more_than_once() -> None:
    app = Daebus("garden")
    app.action("echo")(lambda: "here")
    for _ in range(3):
        with TestApp(app) as service:
            assert service.call("echo") == "here"


# --- hooks ----------------------------------------------------------------------------------------------------------
def test_hooks_run_in_order_with_the_bus_and_one_that_fails_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    app = Daebus("garden")
    said: list[Any] = []
    app.listen("hooks")(lambda message: said.append(message["n"]))
    for number in range(3):
        app.on_start()(lambda number=number: said.append(f"start {number}"))
        app.on_stop()(lambda number=number: said.append(f"stop {number}"))

    @app.on_start()
    def speaks() -> None:
        app.broadcast.send("hooks", {"n": "heard"})

    @app.on_start()
    @app.on_stop()
    def fails() -> None:
        raise ValueError("planted")

    app.on_start()(lambda: said.append("start last"))

    @app.on_stop()
    def speaks_too() -> None:
        said.append(app.broadcast.send("nobody", {}))

    with TestApp(app) as service:
        service.settle()
    assert said == ["start 0", "start 1", "start 2", "start last", "heard", "stop 0", "stop 1", "stop 2", 0]
    assert caplog.text.count("a hook failed") == 2


def test_stop_hooks_that_hang_are_cut_off_each_and_the_others_run(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("daebus_runtime.runner.STOP_HOOK_SECONDS", 0.3)
    app, said = Daebus("garden"), []

    @app.on_stop()
    def hangs() -> None:
        time.sleep(1000)

    @app.on_stop()
    def hangs_on() -> None:
        while True:
            try:
                time.sleep(1000)
            except BaseException:
                said.append("swallowed")

    app.on_stop()(lambda: said.append("the last"))
    begun = time.monotonic()
    with TestApp(app):
        begun = time.monotonic()
    assert time.monotonic() - begun < 2
    assert "the last" in said
    assert caplog.text.count("an on_stop hook did not end in time and is cut off: ") == 2


# --- one process ----------------------------------------------------------------------------------------------------
GARDEN = """
    import os
    from daebus import Daebus, request
    app = Daebus("garden")

    @app.action("where")
    def where():
        return os.getpid()

    @app.action("stop from a thread", blocking=True)
    def stop():
        app.stop()
        return "stopping"

    app.run(service="argument", redis_url="redis://127.0.0.1:1", debug=False)
    print("run has returned", app.is_running(), flush=True)
"""


@pytest.fixture(scope="module")
def garden(session_redis: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Any:
    env = {
        "DAEBUS_REDIS_URL": session_redis.url,
        "DAEBUS_SERVICE": "site-7",
        "DAEBUS_LOG_FORMAT": "text",
        "DAEBUS_REDIS_ULR": "redis://typing-mistake",
    }
    with ServiceProcess(GARDEN, directory=tmp_path_factory.mktemp("garden"), env=env) as process:
        process.wait_line("is connected")
        yield process


def test_the_first_lines_say_what_runs_and_where(garden: ServiceProcess, session_redis: RedisServer) -> None:
    garden.wait_line(r"service site-7 started \(daebus \d+\.\d+\.\d+, Python 3\.\d+\.\d+\)")
    garden.wait_line(rf"^  bus +redis://127\.0\.0\.1:{session_redis.port}/0 \(DAEBUS_REDIS_URL\)$")


def test_an_argument_that_the_environment_overrides_is_logged_once(garden: ServiceProcess) -> None:
    garden.wait_line("started")
    for line in (
        "service is taken from DAEBUS_SERVICE, not from the program's argument",
        "redis_url is taken from DAEBUS_REDIS_URL, not from the program's argument",
        "DAEBUS_REDIS_ULR is not a setting; did you mean DAEBUS_REDIS_URL?",
    ):
        assert garden.count(line) == 1, garden.output


def test_without_http_it_is_one_process_and_opens_no_port(garden: ServiceProcess, session_redis: RedisServer) -> None:
    client = session_redis.client()
    (reply,) = wire.request(client, "site-7", "where")
    assert reply["payload"] == garden.pid, "handlers run in the process that was started"
    assert len(group_members(garden.pid)) == 1
    assert listening_sockets(garden.pid) == []
    client.close()


def listening_sockets(pid: int) -> list[str]:
    """The local addresses (hexadecimal) that a process listens on, from /proc."""
    if not Path("/proc/net/tcp").exists():
        pytest.skip("without /proc nobody says what a process listens on")
    inodes = set()
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        target = os.readlink(entry) if entry.is_symlink() else ""
        if target.startswith("socket:["):
            inodes.add(target[8:-1])
    rows = [line.split() for name in ("tcp", "tcp6") for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]]
    return [row[1] for row in rows if row[3] == "0A" and row[9] in inodes]


def test_listening_sockets_finds_a_listening_socket() -> None:
    with socket.create_server(("127.0.0.1", 0)):
        assert len(listening_sockets(os.getpid())) >= 1


def test_away_from_a_terminal_it_logs_json_and_stop_from_an_os_thread_lets_run_return(
    start_process: Start, shared_redis: RedisServer
) -> None:
    process = start_process(GARDEN, env={"DAEBUS_REDIS_URL": shared_redis.url})
    process.wait_line("is connected")
    client = shared_redis.client()
    (reply,) = wire.request(client, "argument", "stop from a thread")
    assert reply["payload"] == "stopping"
    assert process.wait(5) == 0
    assert wire.subscribers(client, "argument") == 0
    client.close()
    assert process.lines[-1] == "run has returned False"
    lines = [json.loads(line) for line in process.lines[:-1]]
    started = next(line for line in lines if "started" in line["message"])
    assert started["message"].startswith("service argument started")
    assert started["bus"].startswith(shared_redis.url)
    assert all({"time", "level", "logger", "message"} <= set(line) for line in lines)


def test_a_service_that_uses_no_bus_is_ready_without_one(start_process: Start, free_port: int) -> None:
    program = """
        from daebus import Daebus
        app = Daebus("lonely")
        @app.on_start()
        def started():
            print("on_start has run", flush=True)
        app.run()
    """
    nowhere = f"redis://127.0.0.1:{free_port}"
    process = start_process(program, env={"DAEBUS_REDIS_URL": nowhere})
    process.wait_line("on_start has run")
    assert process.terminate(5) == 0
    assert "is away" not in process.output


@pytest.mark.parametrize("declare", ["route", "socket"])
def test_routes_and_sockets_without_a_component_stop_the_start(
    declare: str, start_process: Start, shared_redis: RedisServer
) -> None:
    declarations = {"route": '@app.route("/plants")', "socket": '@app.socket("look")'}
    program = f"""
        from daebus import Daebus
        app = Daebus("garden")
        {declarations[declare]}
        def handler(*args):
            return 1
        app.run()
    """
    process = start_process(program, env={"DAEBUS_REDIS_URL": shared_redis.url})
    assert process.wait(10) == 1
    component = {"route": "DaebusHttp", "socket": "DaebusWebSocket"}[declare]
    process.wait_line(f"cannot start: .*{component}")


def test_blueprints_are_refused_as_applications() -> None:
    with pytest.raises(RegistrationError):
        Daebus("garden").register_blueprint(Daebus("other"))  # type: ignore[arg-type]
    with pytest.raises(RegistrationError):
        Daebus("garden").attach(Blueprint("beds"))  # type: ignore[type-var]


def test_two_services_may_run_in_one_test_one_after_the_other() -> None:
    for name in ("one", "two"):
        with TestApp(Daebus(name)):
            assert get_daemon().service == name
