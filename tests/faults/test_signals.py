"""Signals mean the same at any moment, with and without HTTP, under app.run() and under gunicorn's command line.

SIGTERM, SIGINT, SIGQUIT and SIGHUP drain the service, which ends with code 0. A second one ends it at once. Other
signals change nothing.
"""

from __future__ import annotations

import itertools
import os
import signal
import sys
import textwrap
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import gevent
import pytest
import requests
from daebus_runtime import DaebusCaller

from tests.support.bystanders import Bystanders
from tests.support.orphans import group_members
from tests.support.ports import accepts
from tests.support.process import ServiceProcess
from tests.support.redis_server import RedisServer
from tests.support.waiting import wait_until
from tests.support.wire import wait_for_subscriber

Start = Callable[..., ServiceProcess]
PROGRAM = """
    import os, signal, time
    if "IGNORED" in os.environ:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    from daebus import Daebus, DaebusHttp, DaebusWebSocket, request
    print("imported", flush=True)
    if "EARLY" in os.environ:
        os.kill(os.getpid(), int(os.environ["EARLY"]))
        time.sleep(20)

    app = Daebus("shop")
    if "HTTP" in os.environ:
        app.attach(DaebusHttp(host="127.0.0.1"))
    if "WEBSOCKET" in os.environ:
        app.attach(DaebusWebSocket(port=int(os.environ["WEBSOCKET"])))

    def work():
        print("at work", flush=True)
        time.sleep(0.7)
        return "done"

    app.action("work")(work)
    app.action("ping")(lambda: "pong")
    if "HTTP" in os.environ:
        app.route("/work")(lambda req: work())
        app.route("/ping")(lambda req: "pong")

    @app.on_stop()
    def hangs():
        print("on_stop", flush=True)
        if "BUSY" in os.environ:
            while True:
                pass
        if "HANGS" in os.environ:
            time.sleep(1000)

    if __name__ == "__main__":
        app.run()
        print("run has returned", flush=True)
"""
# Sends SIGTERM to its own process when the module `AT` is imported, or at that import after signals are handled.
AT_AN_IMPORT = """
    import os, signal, sys

    class Stopping:
        seen = 0

        def find_spec(self, name, path=None, target=None):
            self.seen += signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL
            if os.environ["AT"] in (name, str(self.seen)):
                sys.meta_path.remove(self)
                os.kill(os.getpid(), signal.SIGTERM)

    sys.meta_path.insert(0, Stopping())
"""
COMMAND = [sys.executable, "-m", "daebus_runtime", "run", "shop.py"]
LINE = [sys.executable, "-m", "gunicorn", "-c", "python:daebus_runtime.gunicorn", "shop:app"]


@pytest.fixture
def shop(start_process: Start, shared_redis: RedisServer, free_port: int, tmp_path: Path) -> Callable[..., Any]:
    """Starts the shop in one of four ways: alone, http, command, gunicorn."""

    def start(way: str, ready: bool = True, **settings: str) -> ServiceProcess:
        env = {"DAEBUS_REDIS_URL": shared_redis.url, "DAEBUS_HTTP_PORT": str(free_port), **settings}
        if way != "alone":
            env["HTTP"] = "yes"
        (tmp_path / "shop.py").write_text(textwrap.dedent(PROGRAM))
        program = start_process({"gunicorn": LINE, "command": COMMAND}.get(way, tmp_path / "shop.py"), env=env)
        if ready:
            wait_for_subscriber(shared_redis.client(), "shop")
        return program

    return start


def ended_in_order(process: ServiceProcess, timeout: float = 10.0) -> None:
    assert process.wait(timeout) == 0, process.output
    assert "Traceback" not in process.output


# --- an orderly end -------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("way", "number"),
    [
        ("alone", signal.SIGHUP),
        ("http", signal.SIGHUP),
        ("gunicorn", signal.SIGHUP),
        ("alone", signal.SIGQUIT),
        ("http", signal.SIGQUIT),
    ],
)
def test_work_in_flight_is_answered_and_the_service_ends(
    shop: Callable[..., Any], shared_redis: RedisServer, free_port: int, way: str, number: signal.Signals
) -> None:
    process = shop(way)
    answers: list[Any] = [gevent.spawn(DaebusCaller("shop", redis_url=shared_redis.url).send_request, "work", {})]
    if way != "alone":
        answers.append(gevent.spawn(lambda: requests.get(f"http://127.0.0.1:{free_port}/work", timeout=10).json()))
    wait_until(lambda: process.count("at work") == len(answers), 10)
    process.signal(number)
    assert [answer.get(timeout=10) for answer in answers] == ["done"] * len(answers)
    ended_in_order(process)
    assert way == "gunicorn" or process.lines[-1] == "run has returned"


def test_a_closing_terminal_drains_the_service(shop: Callable[..., Any], shared_redis: RedisServer) -> None:
    process = shop("http")
    answer = gevent.spawn(DaebusCaller("shop", redis_url=shared_redis.url).send_request, "work", {})
    process.wait_line("at work")
    for _ in range(2):  # both the kernel and the shell signal the whole foreground process group
        os.killpg(process.pid, signal.SIGHUP)
        process.wait_line("draining")
    assert answer.get(timeout=10) == "done"
    ended_in_order(process)


def test_under_nohup_a_closed_terminal_changes_nothing(shop: Callable[..., Any]) -> None:
    process = shop("http", IGNORED="yes")
    os.killpg(process.pid, signal.SIGHUP)
    process.signal(signal.SIGTERM)
    ended_in_order(process)
    assert process.count("draining") == 1


# --- at any moment --------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "number", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP], ids=lambda number: number.name
)
def test_before_the_service_starts_a_signal_ends_the_program_at_once(
    shop: Callable[..., Any], number: signal.Signals
) -> None:
    process = shop("http", ready=False, EARLY=str(int(number)))
    ended_in_order(process)
    assert process.lines == ["imported"]


@pytest.fixture
def stopped_at_an_import(shop: Callable[..., Any], tmp_path: Path) -> Callable[[str, str], ServiceProcess]:
    """Starts the shop in a way; it gets SIGTERM at an import (AT_AN_IMPORT)."""
    folder = tmp_path / "at an import"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(textwrap.dedent(AT_AN_IMPORT))
    path = os.pathsep.join([str(folder), *filter(None, [os.environ.get("PYTHONPATH")])])
    return lambda way, at: shop(way, ready=False, AT=at, PYTHONPATH=path)


@pytest.mark.parametrize(
    ("way", "module"),
    [
        ("alone", "gevent"),
        ("http", "gunicorn"),
        ("command", "click"),
        ("command", "daebus_runtime.cli.serve"),
        ("command", "shop"),
        ("gunicorn", "gevent.monkey"),
        ("gunicorn", "shop"),
    ],
)
def test_a_signal_during_an_import_ends_the_program_at_once(
    stopped_at_an_import: Callable[[str, str], ServiceProcess], way: str, module: str
) -> None:
    process = stopped_at_an_import(way, module)
    ended_in_order(process, 30)
    assert "started" not in process.output


def has_ended_or_serves(process: ServiceProcess) -> bool:
    return not process.running or process.count("service shop started") > 0


@pytest.mark.long
@pytest.mark.parametrize("way", ["alone", "http", "command", "gunicorn"])
def test_a_signal_at_any_import_ends_the_program_in_order(
    stopped_at_an_import: Callable[[str, str], ServiceProcess], way: str
) -> None:
    for at in itertools.count(1, 29):
        process = stopped_at_an_import(way, str(at))
        wait_until(partial(has_ended_or_serves, process), 30)
        process.terminate()  # when there are fewer imports, it serves by now
        ended_in_order(process)
        if process.count("service shop started"):
            break
    assert at > 29


@pytest.mark.parametrize(
    ("way", "number"),
    [
        ("management", signal.SIGTERM),
        ("http", signal.SIGTERM),
        ("http", signal.SIGINT),
        ("websocket", signal.SIGTERM),
        ("command", signal.SIGTERM),
        ("gunicorn", signal.SIGTERM),
    ],
)
def test_signals_are_handled_before_the_port_opens(
    shop: Callable[..., Any], free_port: int, way: str, number: signal.Signals
) -> None:
    settings = {
        "management": {"DAEBUS_MANAGEMENT_PORT": str(free_port)},
        "websocket": {"WEBSOCKET": str(free_port)},
    }.get(way, {})
    process = shop(way if way in ("http", "command", "gunicorn") else "alone", ready=False, **settings)
    wait_until(lambda: accepts(free_port), 20)
    process.signal(number)
    ended_in_order(process)
    assert "started" not in process.output or "draining" in process.output


# --- asked twice ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("way", "what"), [("alone", "BUSY"), ("http", "HANGS"), ("gunicorn", "HANGS")])
def test_a_second_signal_ends_the_service_at_once(shop: Callable[..., Any], way: str, what: str) -> None:
    process = shop(way, **{what: "yes"})
    process.signal(signal.SIGTERM)
    process.wait_line("on_stop")
    begun = time.monotonic()
    process.signal(signal.SIGTERM)
    assert process.wait(5) == 130
    assert time.monotonic() - begun < 2
    wait_until(lambda: not group_members(process.pid), 2)


@pytest.mark.slow
@pytest.mark.parametrize("way", ["alone", "http"])
def test_a_stop_hook_that_blocks_the_loop_delays_the_end_but_does_not_prevent_it(
    shop: Callable[..., Any], way: str
) -> None:
    process = shop(way, BUSY="yes")
    process.signal(signal.SIGTERM)
    assert process.wait(20) == (1 if way == "alone" else 0)
    process.wait_line("did not end within its time and is cut off")
    assert not group_members(process.pid)


# --- the others -----------------------------------------------------------------------------------------------------
@pytest.mark.alone
def test_gunicorns_actions_on_other_signals_harm_no_client(
    shop: Callable[..., Any], shared_redis: RedisServer, free_port: int
) -> None:
    process = shop("gunicorn")
    with Bystanders(http_port=free_port, redis_url=shared_redis.url, service="shop") as others:
        for number in (signal.SIGUSR1, signal.SIGUSR2, signal.SIGTTIN, signal.SIGTTOU, signal.SIGWINCH):
            process.signal(number)
        process.wait_line("SIGUSR2")
        process.wait_line("SIGTTIN asks for another worker: a Daebus service has one worker")
        for number in (signal.SIGUSR1, signal.SIGUSR2, signal.SIGTTIN, signal.SIGTTOU, signal.SIGWINCH):
            os.killpg(process.pid, number)
        wait_until(lambda: process.count("SIGTTIN") >= 2, 5)
        others.assert_unharmed()
    assert len(group_members(process.pid)) == 2
    process.signal(signal.SIGTERM)
    ended_in_order(process)


@pytest.mark.alone
def test_a_service_without_http_survives_other_signals_too(shop: Callable[..., Any], shared_redis: RedisServer) -> None:
    process = shop("alone")
    with Bystanders(redis_url=shared_redis.url, service="shop") as others:
        for number in (signal.SIGUSR1, signal.SIGUSR2):
            process.signal(number)
            process.wait_line(f"{number.name} means nothing")
        others.assert_unharmed()
    process.signal(signal.SIGTERM)
    ended_in_order(process)
