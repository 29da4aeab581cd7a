"""`daebus send` and `daebus listen`: sending and receiving broadcasts."""

from __future__ import annotations

import ctypes
import json
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.process import ServiceProcess
from tests.support.redis_server import RedisServer
from tests.support.waiting import wait_until

from .conftest import COMMAND, Garden, Run

Listen = Callable[..., ServiceProcess]


@pytest.fixture
def listen(start_process: Callable[..., ServiceProcess], garden: Garden) -> Listen:
    """`listen(*arguments)` starts the command and returns once its subscriptions are confirmed."""

    def start(*arguments: str, env: dict[str, str] = garden.env) -> ServiceProcess:
        process = start_process([*COMMAND, "listen", *arguments], env=env)
        process.wait_line("^listening on ")
        return process

    return start


def messages(process: ServiceProcess) -> list[Any]:
    return [json.loads(line) for line in process.lines if line.startswith("{")]


def test_a_broadcast_reaches_a_service_and_comes_back(daebus: Run, listen: Listen, garden: Garden) -> None:
    listening = listen("garden.*", "weather", "--count", "2", "--timeout", "30")
    done = daebus("send", "weather", '{"rain": true}', env=garden.env)
    assert (done.returncode, done.stdout, done.stderr) == (0, '{"receivers":2}\n', "")
    assert listening.wait() == 0
    assert sorted(messages(listening), key=lambda message: str(message["channel"])) == [
        {"channel": "garden.mood", "payload": {"wet": True}},
        {"channel": "weather", "payload": {"rain": True}},
    ]


def test_a_broadcast_without_receivers_is_reported(daebus: Run, garden: Garden) -> None:
    done = daebus("send", "silence", "-", input='{"x": 1}', env=garden.env)
    assert (done.returncode, done.stdout, done.stderr) == (0, '{"receivers":0}\n', "nobody listens on silence\n")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("weather", "[1]"), "a broadcast is an object"),
        (("weather", "rain"), "not JSON, line 1, column 1"),
        (("two words", "{}"), "no white space"),
        (("", "{}"), "a channel name is a non-empty string"),
    ],
)
def test_a_payload_that_cannot_be_sent_is_wrong_usage(
    daebus: Run, garden: Garden, arguments: tuple[str, ...], said: str
) -> None:
    done = daebus("send", *arguments, env=garden.env)
    assert done.returncode == 2
    assert said in done.stderr


def test_a_message_above_the_limit_is_refused(daebus: Run, garden: Garden) -> None:
    text = json.dumps({"x": "y" * 5000})
    done = daebus("send", "weather", text, env={**garden.env, "DAEBUS_MESSAGE_LIMIT": "2048"})
    assert done.returncode == 2
    assert "DAEBUS_MESSAGE_LIMIT" in done.stderr


def test_listening_ends_with_exit_code_0_on_ctrl_c(daebus: Run, listen: Listen, garden: Garden) -> None:
    listening = listen("sensors.roof")
    daebus("send", "sensors.roof", '{"celsius": 21}', env=garden.env)
    wait_until(lambda: messages(listening), 10)
    listening.signal(signal.SIGINT)
    assert listening.wait() == 0
    assert messages(listening) == [{"channel": "sensors.roof", "payload": {"celsius": 21}}]
    assert "Traceback" not in listening.output


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux sends a signal to one thread of another process")
def test_ctrl_c_just_before_a_wait_is_not_lost(listen: Listen) -> None:
    """A signal just before the main thread waits, or in another thread, is only noted by Python: it wakes nobody."""
    listening = listen("sensors.roof")
    threads = [int(path.name) for path in Path(f"/proc/{listening.pid}/task").iterdir()]
    other = max(thread for thread in threads if thread != listening.pid)
    libc = ctypes.CDLL(None)
    assert libc.tgkill(listening.pid, other, signal.SIGINT) == 0
    assert listening.wait() == 0


def test_too_few_messages_in_time_are_exit_code_4(daebus: Run, garden: Garden) -> None:
    done = daebus("listen", "silence", "--count", "3", "--timeout", "0.2", env=garden.env)
    assert done.returncode == 4
    assert done.stderr.endswith("0 of 3 messages came within 0.2 s\n")


def test_the_end_of_its_time_is_exit_code_0(daebus: Run, garden: Garden) -> None:
    assert daebus("listen", "silence", "--timeout", "0.1", env=garden.env).returncode == 0


def test_a_message_that_is_not_json_is_shown_raw(listen: Listen, garden: Garden) -> None:
    listening = listen("noise", "--count", "2")
    with garden.server.client() as client:
        client.publish("noise", "crackle")
        client.publish("noise", b"\xff")
    assert listening.wait() == 0
    assert messages(listening) == [{"channel": "noise", "raw": "crackle"}, {"channel": "noise", "raw": "\ufffd"}]


def test_the_requests_of_a_service_can_be_watched(daebus: Run, listen: Listen, garden: Garden) -> None:
    listening = listen("garden", "--count", "1")
    daebus("call", "garden", "water", '{"plant": "fern"}', env=garden.env)
    assert listening.wait() == 0
    assert messages(listening)[0]["payload"]["action"] == "water"


def test_losing_the_bus_is_reported_and_listening_goes_on(listen: Listen) -> None:
    with RedisServer() as server:
        listening = listen("weather", "--count", "1", env={"DAEBUS_REDIS_URL": server.url})
        server.kill()
        listening.wait_line("the bus is away")
        server.start()
        listening.wait_line("the bus is back")
        with server.client() as client:
            wait_until(lambda: client.publish("weather", '{"rain": false}'), 10)
        assert listening.wait() == 0
    assert listening.count("the bus is away") == 1
    assert messages(listening) == [{"channel": "weather", "payload": {"rain": False}}]


def test_without_a_bus_both_are_exit_code_3(daebus: Run, free_port: int) -> None:
    address = f"redis://127.0.0.1:{free_port}"
    for arguments in (("send", "weather", "{}"), ("listen", "weather")):
        done = daebus(*arguments, "--redis-url", address)
        assert done.returncode == 3
        assert f"nothing listens at {address}" in done.stderr
