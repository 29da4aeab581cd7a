"""Output of the commands: results go to standard output, everything else to standard error; exit codes for scripts."""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import click

from .. import codec, errors, printable

OK, FAULT, USAGE, UNREACHABLE, NO_ANSWER, INTERRUPTED = 0, 1, 2, 3, 4, 130
EXIT_CODES = """\b
Exit codes:
  0  done
  1  the service answered with an error, or a fault was found
  2  wrong usage: arguments, JSON, settings
  3  the bus cannot be reached
  4  nobody answered, or not in time"""


class Failure(click.ClickException):
    """Ends the command with one line and a code of the list above."""

    def __init__(self, exit_code: int, text: str) -> None:
        super().__init__(text)
        self.exit_code = exit_code  # type: ignore[misc]

    def show(self, file: Any = None) -> None:
        text = click.style("daebus: ", fg="red") + _for(sys.stderr, self.format_message())
        click.echo(text, file=file, err=file is None)


class Group(click.Group):
    """Loads a command when it is used, and turns the runtime's errors into one line and an exit code."""

    def __init__(self, *args: Any, homes: Mapping[str, str], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._homes = homes

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self._homes)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self._homes:
            return None
        command: click.Command = getattr(importlib.import_module(f".{self._homes[cmd_name]}", __package__), cmd_name)
        return command

    def invoke(self, ctx: click.Context) -> Any:
        if os.environ.get("NO_COLOR"):
            ctx.color = False
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            raise click.exceptions.Exit(INTERRUPTED) from None
        except Failure:
            raise
        except click.ClickException as error:  # its text contains arguments
            error.message = "\n".join(_for(sys.stderr, part) for part in error.message.split("\n"))  # type: ignore[misc]
            raise
        except (errors.DaebusError, TypeError, ValueError) as error:
            code = exit_code(error)
            if code is None:
                raise
            raise Failure(code, explain(error)) from None


def exit_code(error: Exception) -> int | None:
    """The exit code for an error of the runtime; None for other exceptions."""
    for kinds, code in (
        ((errors.RemoteError,), FAULT),
        ((errors.CallTimeout,), NO_ANSWER),
        ((errors.ConfigurationError, errors.MessageTooLarge), USAGE),
        ((errors.BusError,), UNREACHABLE),
        ((errors.DaebusError,), FAULT),
    ):
        if isinstance(error, kinds):
            return code
    return None


def explain(error: Exception) -> str:
    """The error as one line."""
    text = " ".join(str(error).split())
    if isinstance(error, errors.RemoteError):
        return f"service {error.service!r}, action {error.action!r} answered with an error ({error.code}): {text}"
    return text


def parse_json(text: str, name: str) -> Any:
    """A JSON argument; `-` reads standard input. A usage error shows the position of the mistake."""
    try:
        text = _standard_input() if text == "-" else text
        return codec.loads(text)
    except json.JSONDecodeError as error:
        line = (text.split("\n") or [""])[error.lineno - 1]
        before = printable.text(line[max(0, error.colno - 41) : error.colno - 1])
        shown = before + printable.text(line[error.colno - 1 :][:40])
        where = f"line {error.lineno}, column {error.colno}"
        text = f"not JSON, {where}: {error.msg}\n  {shown}\n  {' ' * len(before)}^"
        raise click.BadParameter(text, param_hint=name) from None
    except UnicodeError:
        raise click.BadParameter("not JSON: it is not UTF-8", param_hint=name) from None
    except ValueError as error:
        raise click.BadParameter(f"not JSON: {error}", param_hint=name) from None


def _standard_input() -> str:
    """Read all of standard input, as UTF-8 whatever the terminal's encoding, because JSON is UTF-8."""
    if sys.stdin is None:
        raise ValueError("standard input is closed")
    return sys.stdin.buffer.read().decode()


class Number(click.ParamType):  # type: ignore[type-arg]
    """A number option, parsed like the settings: decimal digits, for seconds with a decimal point. form: for errors."""

    def __init__(self, parse: Callable[[Any], Any], form: str) -> None:
        self.name, self._parse, self._form = form, parse, form

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            return self._parse(value)
        except ValueError:
            self.fail(f"{value!r} is not {self._form}", param, ctx)


# --- writing ----------------------------------------------------------------------------------------------------------
# Texts come from other programs and from the bus. They must not move the cursor, and a character that the terminal
# cannot show must not end the command. Such characters are written as escapes.


def result(value: Any) -> None:
    """Write the result of a command as JSON: indented on a terminal, else on one line."""
    if sys.stdout is not None and sys.stdout.isatty():
        for part in json.dumps(value, indent=2, ensure_ascii=False).split("\n"):
            _write(part)
    else:
        line(value)


def line(value: Any) -> None:
    """Write one JSON value on one line, at once."""
    _write(codec.dumps(value).decode())


def _write(document: str) -> None:
    click.echo(printable.json(document, getattr(sys.stdout, "encoding", None)))


def tell(text: str, mark: str = "") -> None:
    """Write a line of the result that is not JSON, after a mark that may have colours."""
    click.echo(mark + _for(sys.stdout, text))


def say(text: str, **style: Any) -> None:
    """Write a message about the work to standard error."""
    click.secho(_for(sys.stderr, text), err=True, **style)


def safe(text: str) -> str:
    """`text` on one line, as standard output can show it."""
    return _for(sys.stdout, text)


def _for(stream: Any, text: str) -> str:
    """`text` on one line, as the stream can show it."""
    return printable.text(text, getattr(stream, "encoding", None))


@contextlib.contextmanager
def until_interrupted() -> Iterator[None]:
    """For commands that run until Ctrl-C, which is their normal end."""
    with contextlib.suppress(KeyboardInterrupt):
        yield
