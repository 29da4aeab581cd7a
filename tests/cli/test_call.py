"""`daebus call`: the reply on standard output, everything else on standard error, an exit code for each ending."""

from __future__ import annotations

import json
import time
from collections.abc import Callable

import pytest

from tests.support.redis_server import RedisServer

from .conftest import Garden, Run


def test_without_a_terminal_the_reply_is_one_line_of_json(daebus: Run, garden: Garden) -> None:
    done = daebus("call", "garden", "water", '{"plant": "fern"}', env=garden.env)
    assert done.returncode == 0
    assert done.stdout == '{"watered":"fern","größe":2}\n'


def test_on_a_terminal_the_reply_is_indented(on_a_terminal: Callable[..., str], garden: Garden) -> None:
    seen = on_a_terminal("call", "garden", "water", env=garden.env)
    assert '{\r\n  "watered": "all",\r\n  "größe": 2\r\n}' in seen


def test_progress_goes_to_standard_error(daebus: Run, garden: Garden) -> None:
    done = daebus("call", "garden", "water", env=garden.env)
    assert 'progress: 50 % {"plant":"moss"' in done.stderr
    assert "progress" not in done.stdout


def test_the_payload_may_come_from_standard_input(daebus: Run, garden: Garden) -> None:
    done = daebus("call", "garden", "water", "-", env=garden.env, input='{"plant":\n "ivy"}')
    assert json.loads(done.stdout)["watered"] == "ivy"


def test_an_error_reply_is_one_line_and_exit_code_1(daebus: Run, garden: Garden) -> None:
    done = daebus("call", "garden", "break", env=garden.env)
    assert done.returncode == 1
    assert done.stdout == ""
    assert (
        done.stderr == "daebus: service 'garden', action 'break' answered with an error (error): the hose is broken\n"
    )


def test_an_unknown_action_is_named_as_one(daebus: Run, garden: Garden) -> None:
    done = daebus("call", "garden", "prune", env=garden.env)
    assert done.returncode == 1
    assert "unknown_action" in done.stderr
    assert done.stderr.count("\n") == 1


def test_no_reply_in_time_is_exit_code_4(daebus: Run, garden: Garden) -> None:
    done = daebus("call", "garden", "sleep", "--timeout", "0.3", env=garden.env)
    assert done.returncode == 4
    assert done.stderr == "daebus: service 'garden', action 'sleep': no reply within 0.3 seconds\n"


def test_a_service_that_does_not_run_is_exit_code_4_at_once_with_the_nearest_name(daebus: Run, garden: Garden) -> None:
    begun = time.monotonic()
    done = daebus("call", "gardn", "water", "--timeout", "60", env=garden.env)
    assert time.monotonic() - begun < 30
    assert done.returncode == 4
    assert "nobody answers for service 'gardn'" in done.stderr
    assert "did you mean garden?" in done.stderr


def test_no_bus_is_exit_code_3_at_once(daebus: Run, free_port: int) -> None:
    done = daebus("call", "garden", "water", "--redis-url", f"redis://:s3cret@127.0.0.1:{free_port}")
    assert done.returncode == 3
    assert f"nothing listens at redis://***@127.0.0.1:{free_port}" in done.stderr
    assert "s3cret" not in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_wrong_password_is_exit_code_3_and_not_shown(daebus: Run) -> None:
    with RedisServer(password="right") as server:
        done = daebus("call", "garden", "water", "--redis-url", f"redis://:s3cret@127.0.0.1:{server.port}")
    assert done.returncode == 3
    assert "refuses the user or the password" in done.stderr
    assert "s3cret" not in done.stderr


def test_the_option_wins_over_the_environment(daebus: Run, garden: Garden, free_port: int) -> None:
    env = {"DAEBUS_REDIS_URL": f"redis://127.0.0.1:{free_port}"}
    assert daebus("call", "garden", "water", "--redis-url", garden.server.url, env=env).returncode == 0


@pytest.mark.parametrize(
    ("payload", "where", "mark"),
    [
        ('{"plant" "fern"}', "line 1, column", '{"plant" "fern"}\n'),
        ('{\n  "plant": fern\n}', "line 2, column", '  "plant": fern\n'),
        ("", "line 1, column 1", "^"),
        ("NaN", "not JSON", ""),
        ('{"long": "' + "x" * 300 + '", }', "line 1, column", 'xx", }\n'),
    ],
)
def test_a_payload_that_is_not_json_is_refused_with_the_position_of_the_error(
    daebus: Run, garden: Garden, payload: str, where: str, mark: str
) -> None:
    done = daebus("call", "garden", "water", payload, env=garden.env)
    assert done.returncode == 2
    assert where in done.stderr
    assert mark in done.stderr
    shown, under = (done.stderr + "\n\n").splitlines()[-2:] if mark == "" else done.stderr.splitlines()[-2:]
    assert under.strip() in ("^", "") or shown


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--redis-url", "http://user:s3cret@host"), "--redis-url: its value (not shown"),
        (("--redis-url", "redis://host:port"), "--redis-url: its value (not shown"),
    ],
)
def test_a_malformed_address_is_wrong_usage(daebus: Run, arguments: tuple[str, ...], said: str) -> None:
    done = daebus("call", "garden", "water", *arguments)
    assert done.returncode == 2
    assert said in done.stderr
    assert "s3cret" not in done.stderr


def test_an_impossible_service_name_is_wrong_usage(daebus: Run, garden: Garden) -> None:
    done = daebus("call", "gar den", "water", env=garden.env)
    assert done.returncode == 2
    assert "'gar den' is not a name" in done.stderr


def test_a_setting_that_does_not_parse_is_named(daebus: Run, garden: Garden) -> None:
    done = daebus("call", "garden", "water", env={**garden.env, "DAEBUS_SEND_SECONDS": "soon"})
    assert done.returncode == 2
    assert done.stderr == "daebus: DAEBUS_SEND_SECONDS: 'soon' is not seconds, 0 to 3600\n"
