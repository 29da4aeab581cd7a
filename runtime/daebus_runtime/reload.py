"""Restarts a service when a file changes, for development: the parent process watches files, a child serves.

The parent starts its own command line again, with an environment variable that tells the child to serve. On a change it
asks the child to stop (SIGTERM), waits until it has drained, and starts the next one. If a child fails, that is
reported, and the next change starts it again. Ctrl-C and SIGTERM end both, with exit code 0.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

from . import native
from .children import Child
from .errors import ConfigurationError

# Its value is the parent's process id. The double underscore tells it from a setting.
MARK = "DAEBUS__RELOADED_BY"
CURE = "reloading needs watchfiles: pip install 'daebus-runtime[dev]', or pip install watchfiles"
LOOK_MILLISECONDS = 150
QUIET_MILLISECONDS = 100  # changes closer together than this cause one restart
ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def is_child() -> bool:
    """Whether this process was started by a watching parent and must serve."""
    return os.environ.get(MARK) == str(os.getppid())


def supervise(directories: Iterable[str | Path] = ()) -> NoReturn:
    """Watch instead of serving: run this process's own command line as a child and end with it. Does not return.

    Watches the current directory, the directory of the program's main file, and `directories`.
    """
    main = getattr(sys.modules.get("__main__"), "__file__", None)
    places = [Path.cwd(), *([Path(main).parent] if main and not _is_installed(main) else []), *map(Path, directories)]
    raise SystemExit(serve_with_reload([sys.executable, *sys.orig_argv[1:]], places))


def serve_with_reload(argv: Sequence[str], directories: Iterable[str | Path]) -> int:
    """Run `argv`, again after each change of a Python file below `directories`. Returns the exit code once it is asked
    to end, or once the child has ended by itself without an error.

    ConfigurationError if watchfiles is not installed.
    """
    try:
        import watchfiles
    except ImportError:
        raise ConfigurationError(CURE) from None
    places = _outermost(directories)
    _say(f"watching {', '.join(map(_short, places))}", "bright_black")
    asked: list[int] = []
    with _signals(asked):
        service = _Service(argv)
        try:
            changes = watchfiles.watch(
                *places,
                watch_filter=watchfiles.PythonFilter(),
                stop_event=_Asked(asked),
                rust_timeout=LOOK_MILLISECONDS,
                step=QUIET_MILLISECONDS,
                yield_on_timeout=True,
                raise_interrupt=False,
            )
            return _follow(changes, service, asked)
        finally:
            service.stop(asked)


def _follow(changes: Iterable[set[tuple[Any, str]]], service: _Service, asked: list[int]) -> int:
    """Restart the child on each change, until it is asked to end."""
    for changed in changes:
        if asked:
            break
        if changed:
            service.stop(asked)
            if asked:
                break
            files = sorted(path for _, path in changed)
            more = f" and {len(files) - 1} more" if len(files) > 1 else ""
            _say(f"reloaded because {_short(files[0])}{more} changed", "green")
            service.start()
        elif (code := service.ended()) is not None:
            if code == 0:
                return 0
            how = f"by signal {-code}" if code < 0 else f"with exit code {code}"
            _say(f"the service ended {how}; waiting for a change", "red")
    return 0


class _Service:
    """The current child process that serves."""

    def __init__(self, argv: Sequence[str]) -> None:
        self._argv = list(argv)
        self._child: Child | None = None
        self.start()

    def start(self) -> None:
        # No compiled files: Python compares them with the source by whole seconds and size, so of two quick edits the
        # second can be missed.
        environ = {**os.environ, MARK: str(os.getpid()), "PYTHONDONTWRITEBYTECODE": "1"}
        self._child = Child(self._argv, death=signal.SIGTERM, environ=environ)

    def ended(self) -> int | None:
        """The exit code (negative: the number of a signal) if the service has ended; returned once."""
        child = self._child
        if child is None or child.running:
            return None
        self._child = None
        return child.exit_code

    def stop(self, asked: list[int]) -> None:
        """Ask the child to stop and wait, however long it drains; do not wait if we were asked to end twice."""
        child, self._child = self._child, None
        if child is None:
            return
        child.signal(signal.SIGTERM)
        while child.running:
            if len(asked) > 1:
                child.signal(signal.SIGKILL, group=True)
            native.sleep(0.005)


class _Asked:
    """Watchfiles' stop event: set once we are asked to end."""

    def __init__(self, asked: list[int]) -> None:
        self._asked = asked

    def is_set(self) -> bool:
        return bool(self._asked)


@contextlib.contextmanager
def _signals(asked: list[int]) -> Iterator[None]:
    before = {number: signal.signal(number, lambda number, frame: asked.append(number)) for number in ENDING}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _outermost(directories: Iterable[str | Path]) -> list[Path]:
    there = sorted({path.resolve() for path in map(Path, directories) if path.is_dir()})
    return [path for path in there if not any(other in path.parents for other in there)]


def _is_installed(file: str) -> bool:
    # `daebus`, `gunicorn` and `python -m` are installed with the interpreter; the program is in the current directory.
    return Path(file).resolve().is_relative_to(Path(sys.prefix).resolve()) or Path(file).parent == Path(__file__).parent


def _short(path: str | Path) -> str:
    full = Path(path)
    return str(full.relative_to(Path.cwd())) if full.is_relative_to(Path.cwd()) and full != Path.cwd() else str(full)


def _say(text: str, colour: str) -> None:
    import click  # imported only here: it takes a twentieth of a service's start

    plain = bool(os.environ.get("NO_COLOR"))
    click.secho(f"daebus: {text}", fg=colour, err=True, color=False if plain else None)
