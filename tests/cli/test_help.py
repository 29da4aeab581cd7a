"""The command about itself: help with examples, the version, exit codes, usage errors."""

from __future__ import annotations

from collections.abc import Callable

import daebus_runtime
import pytest
from click.testing import CliRunner
from daebus_runtime.cli import main

from .conftest import Run

COMMANDS = ("run", "call", "send", "listen", "ps", "register", "doctor")


def test_the_help_names_every_command_and_every_exit_code(daebus: Run) -> None:
    done = daebus("--help")
    assert done.returncode == 0
    for word in (*COMMANDS, "DAEBUS_REDIS_URL", "Exit codes"):
        assert word in done.stdout
    for code in ("0", "1", "2", "3", "4"):
        assert any(line.split()[:1] == [code] for line in done.stdout.splitlines()), code
    assert daebus("-h").stdout == done.stdout


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_of_each_command_has_examples(daebus: Run, command: str) -> None:
    done = daebus(command, "--help")
    assert done.returncode == 0
    assert "Examples:" in done.stdout
    assert f"daebus {command} " in done.stdout.partition("Examples:")[2] or command == "run"
    assert done.stdout.startswith(f"Usage: daebus {command} ")


def test_the_version(daebus: Run) -> None:
    assert daebus("--version").stdout == f"daebus {daebus_runtime.__version__}\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ("no-such-command",),
        ("call",),
        ("call", "garden"),
        ("call", "garden", "water", "{}", "--timeout", "0"),
        ("call", "garden", "water", "{}", "--timeout", "soon"),
        ("send", "weather"),
        ("listen",),
        ("listen", "weather", "--count", "0"),
        ("ps", "--interval", "0"),
        ("register",),
        ("run",),
        ("doctor", "--no-such-option"),
    ],
)
def test_wrong_usage_is_exit_code_2_and_shows_the_way(arguments: tuple[str, ...]) -> None:
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 2
    assert done.stdout == ""
    assert "Error: " in done.stderr
    assert "--help" in done.stderr


def test_colour_only_on_a_terminal_and_never_with_no_color(daebus: Run, on_a_terminal: Callable[..., str]) -> None:
    assert "\x1b[" in on_a_terminal("doctor")
    assert "\x1b[" not in on_a_terminal("doctor", env={"NO_COLOR": "1"})
    done = daebus("doctor")
    assert "\x1b[" not in done.stdout + done.stderr
