"""What `--watch` shows: the same lines again and again, in place on a terminal, one after the other elsewhere."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import click

# The other screen of the terminal, so that what stood there before comes back at the end; without a cursor.
BEGIN, END = "\x1b[?1049h\x1b[?25l", "\x1b[?25h\x1b[?1049l"
HOME, REST_OF_LINE, REST_OF_SCREEN = "\x1b[H", "\x1b[K", "\x1b[J"


def is_terminal() -> bool:
    """Whether standard output can be written to at any place."""
    return sys.stdout is not None and sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb"


def width() -> int | None:
    """The columns of the terminal; None if the output goes elsewhere."""
    return _size().columns if sys.stdout is not None and sys.stdout.isatty() else None


def has_colours() -> bool:
    return is_terminal() and not os.environ.get("NO_COLOR")


@contextlib.contextmanager
def drawn() -> Iterator[None]:
    """Around `draw`. However the program ends, except by SIGKILL, the terminal is as it was before."""
    if not is_terminal():
        yield
        return
    before = {number: signal.signal(number, _end) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        _write(BEGIN)
        yield
    finally:
        _write(END)
        for number, handler in before.items():
            signal.signal(number, handler)


def draw(lines: Sequence[str], last: str = "") -> None:
    """Replace what is shown, in one write, line by line and without clearing: so nothing flickers.

    last: a line below the others. What does not fit is left out, and its number is told.
    """
    if not is_terminal():
        _write("".join(f"{line}\n" for line in [*lines, *([last] if last else []), ""]))
        return
    room = max(2, _size().lines - bool(last))
    if len(lines) > room:
        lines = [*lines[: room - 1], f"{len(lines) - room + 1} more lines are not shown"]
    shown = [*lines, *([last] if last else [])]
    _write(HOME + "\n".join(line + REST_OF_LINE for line in shown) + REST_OF_SCREEN)


def _size() -> os.terminal_size:
    """That of the terminal now, which may change. COLUMNS and LINES are for one that does not tell."""
    with contextlib.suppress(OSError, ValueError):
        size = os.get_terminal_size(sys.stdout.fileno())
        if size.columns and size.lines:
            return size
    return shutil.get_terminal_size()


def _write(text: str) -> None:
    click.echo(text, nl=False, color=True)


def _end(number: int, frame: Any) -> None:
    raise KeyboardInterrupt
