"""Text from other programs is shown on any terminal and cannot control it: it is escaped and causes no traceback."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable

import pytest
from click.testing import CliRunner
from daebus_runtime.cli import main

from tests.support.process import ServiceProcess

from .conftest import COMMAND, Garden, environment

HOSTILE = "€😀\n\x1b[2J\x7f\x9b31m\u2028\u202e\u200b"
ENCODINGS = ("ascii", "latin-1")


def run(shell: str, env: dict[str, str], input: bytes | None = None) -> subprocess.CompletedProcess[bytes]:
    """Run a shell line in which `daebus` is the command."""
    line = shell.replace("daebus ", " ".join(COMMAND) + " ")
    done = subprocess.run(["bash", "-c", line], env=environment(env), input=input, capture_output=True, timeout=60)
    assert b"Traceback" not in done.stderr, done.stderr
    return done


def harmless(written: bytes) -> bool:
    return all(character.isprintable() or character == "\n" for character in written.decode())


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_reply_is_valid_json_whatever_the_encoding(garden: Garden, encoding: str) -> None:
    payload = json.dumps({"plant": HOSTILE}).encode()
    done = run("daebus call garden water -", {**garden.env, "PYTHONIOENCODING": encoding}, payload)
    assert done.returncode == 0
    assert done.stdout.isascii()
    assert json.loads(done.stdout) == {"watered": HOSTILE, "größe": 2}
    assert harmless(done.stdout)


def test_an_error_is_one_escaped_line(garden: Garden) -> None:
    done = run(f"daebus call garden $'{HOSTILE}'", {**garden.env, "PYTHONIOENCODING": "latin-1"})
    assert done.returncode == 1
    assert done.stderr.isascii()
    assert done.stderr.count(b"\n") == 1
    assert harmless(done.stderr)


def test_listen_shows_any_message_and_goes_on(start_process: Callable[..., ServiceProcess], garden: Garden) -> None:
    process = start_process(
        [*COMMAND, "listen", "terminal.*", "--count", "3"], env={**garden.env, "PYTHONIOENCODING": "ascii"}
    )
    process.wait_line("^listening on ")
    with garden.server.client() as client:
        client.publish("terminal.ü", json.dumps({"text": HOSTILE}, ensure_ascii=False))
        client.publish("terminal.\x1b[2J", "no JSON \x9b\xff€")
        client.publish("terminal.last", b"\xff")
    assert process.wait() == 0
    shown = [json.loads(line) for line in process.lines if line.startswith("{")]
    assert shown[0] == {"channel": "terminal.ü", "payload": {"text": HOSTILE}}
    assert shown[1] == {"channel": "terminal.\x1b[2J", "raw": "no JSON \x9b\xff€"}
    assert harmless("\n".join(process.lines).encode())


@pytest.mark.parametrize("ending", [">&- 2>&- <&-", "| true"])
def test_a_closed_output_is_no_traceback(garden: Garden, ending: str) -> None:
    done = run(f"daebus call garden water {ending}", garden.env)
    assert b"Error" not in done.stderr


def test_standard_input_is_utf_8_whatever_the_terminal_is(garden: Garden) -> None:
    done = run(
        "daebus call garden water -", {**garden.env, "PYTHONIOENCODING": "utf-8"}, '{"plant": "\xfc"}'.encode("latin-1")
    )
    assert (done.returncode, b"not JSON: it is not UTF-8" in done.stderr) == (2, True)


@pytest.mark.parametrize(
    "arguments",
    [
        ("call", "garden€\x1b[2J", "water"),
        ("call", "garden", "water", "{€\x1b[2J}"),
        ("call", "garden", "water", "--timeout", "€\x1b[2J"),
        ("call", "garden", "water", "--timeout", "nan"),
        ("call", "garden", "water", "--timeout", "1_0"),
        ("listen", "weather", "--count", "٣"),
        ("listen", "we\x1b[2J\u202eather"),
        ("send", "weather", '["\x7f€"]'),
        ("no€\x1b[2J",),
        ("doctor", "no€\x1b[2J.py", "--redis-url", "€"),
    ],
)
@pytest.mark.parametrize("charset", ENCODINGS)
def test_arguments_are_escaped_when_an_error_repeats_them(arguments: tuple[str, ...], charset: str) -> None:
    done = CliRunner(charset=charset).invoke(main, arguments)
    assert done.exit_code in (1, 2), done.exception
    assert isinstance(done.exception, SystemExit)
    assert harmless(done.stdout_bytes)
    assert harmless(done.stderr_bytes)


def test_without_debug_there_is_no_traceback(tmp_path_factory: pytest.TempPathFactory) -> None:
    broken = tmp_path_factory.mktemp("broken") / "broken_service.py"
    broken.write_text("1 / 0\n")
    done = run(f"daebus doctor {broken}", {"DAEBUS_DEBUG": " false ", "DAEBUS_EMBEDDED": "never"})
    assert b"ZeroDivisionError" in done.stdout


def test_the_health_command_names_the_fault_on_any_terminal() -> None:
    command = [sys.executable, "-m", "daebus_runtime.health", "--url", "€\x1b[2J"]
    done = subprocess.run(command, env=environment({"PYTHONIOENCODING": "latin-1"}), capture_output=True, timeout=60)
    assert (done.returncode, done.stderr) == (2, b"")
    assert done.stdout == b"--url: '\\u20ac\\x1b[2J' is not http://host:port[/path]\n"
