"""Finds the application for a command's TARGET: `module:app`, `file.py`, `file.py:app`."""

from __future__ import annotations

import importlib
import os
import sys
import tomllib
import traceback
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import click

from .. import settings
from ..errors import ConfigurationError, DaebusError
from .output import FAULT, Failure

if TYPE_CHECKING:
    from ..app import Daebus

HINT = "TARGET"
PROJECT = "pyproject.toml"


def load(target: str) -> Daebus:
    """The application. A usage error if there is none, or several and no name was given; Failure if its code fails."""
    from ..app import Daebus  # imported first, because it patches: what the target imports is then cooperative

    place, _, name = target.partition(":")
    module = _import(place)
    if name:
        return _named(module, name, place)
    found = {id(value): (key, value) for key, value in vars(module).items() if isinstance(value, Daebus)}
    names = [key for key, _ in found.values()]
    if not names:
        raise click.BadParameter(f"{place} holds no Daebus(...) application at its top level", param_hint=HINT)
    if len(names) > 1:
        raise click.BadParameter(f"{place} holds several applications; say which: {place}:{names[0]}", param_hint=HINT)
    app: Daebus = getattr(module, names[0])
    return app


def of_this_folder() -> str | None:
    """The target that pyproject.toml here names: `app` in the table [tool.daebus]. None without one."""
    try:
        with open(PROJECT, "rb") as file:
            tools = tomllib.load(file).get("tool", {})
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise Failure(FAULT, f"{PROJECT} cannot be read: {error}") from None
    named = tools.get("daebus", {}).get("app") if isinstance(tools.get("daebus", {}), dict) else None
    if named is not None and not isinstance(named, str):
        raise Failure(FAULT, f'{PROJECT}: app in [tool.daebus] is not text such as "my_service.app:app"')
    return named


def folder(target: str) -> Path | None:
    """The directory of the target if that is a file. A usage error if there is no such file."""
    place = target.partition(":")[0]
    return _file(place).parent if _is_file(place) else None


def _named(module: ModuleType, name: str, place: str) -> Daebus:
    from ..app import Daebus

    value = module
    for part in name.split("."):
        if not hasattr(value, part):
            raise click.BadParameter(f"{place} has no {name!r}", param_hint=HINT)
        value = getattr(value, part)
    if not isinstance(value, Daebus):
        raise click.BadParameter(f"{name!r} in {place} is no Daebus application", param_hint=HINT)
    return value


def _is_file(place: str) -> bool:
    return place.endswith(".py") or os.sep in place


def _file(place: str) -> Path:
    path = Path(place)
    if not path.is_file():
        raise click.BadParameter(f"there is no file {place} (seen from {Path.cwd()})", param_hint=HINT)
    return path.resolve()


def _import(place: str) -> ModuleType:
    if not place:
        raise click.BadParameter("is module:app, file.py or file.py:app", param_hint=HINT)
    paths, name = [str(Path.cwd())], place
    if _is_file(place):
        root, name = _root_and_name(_file(place))
        paths.insert(0, str(root))
    sys.path[:0] = [path for path in paths if path not in sys.path]
    _check_not_taken(place, name)
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(error.name + ".")):
            there = f"; {name}.py is a file: write {name}.py" if Path(f"{name}.py").is_file() else ""
            raise click.BadParameter(
                f"there is no module {name} (looked in {Path.cwd()} too){there}", param_hint=HINT
            ) from None
        raise _broken(place, error) from error
    except DaebusError as error:
        raise Failure(FAULT, f"{place}: {error}") from error
    except Exception as error:
        raise _broken(place, error) from error


def _root_and_name(file: Path) -> tuple[Path, str]:
    """The directory to import from, and the dotted name: a file in a package is imported as part of the package."""
    parts, root = [file.stem], file.parent
    while (root / "__init__.py").is_file():
        parts.insert(0, root.name)
        root = root.parent
    return root, ".".join(parts)


def _check_not_taken(place: str, name: str) -> None:
    loaded = sys.modules.get(name.partition(".")[0])
    if _is_file(place) and (loaded is not None or name in sys.stdlib_module_names):
        file = getattr(loaded, "__file__", None)
        if file is None or Path(file).resolve().parent != Path(place).resolve().parent:
            raise click.BadParameter(f"{place} has the name of another module, {name}; rename it", param_hint=HINT)


def _broken(place: str, error: Exception) -> Failure:
    """One line that names the place of the error; with DAEBUS_DEBUG, the whole traceback."""
    debug = _is_debug()
    if debug:
        traceback.print_exception(error)
    frames = [f for f in traceback.extract_tb(error.__traceback__) if not f.filename.startswith("<frozen")]
    last = frames[-1] if frames and frames[-1].filename != __file__ else None
    if isinstance(error, SyntaxError):
        where = f"{error.filename}:{error.lineno}"
    else:
        where = f"{last.filename}:{last.lineno}" if last else place
    hint = "" if debug else " (DAEBUS_DEBUG=true shows the traceback)"
    text = error.msg if isinstance(error, SyntaxError) else " ".join(str(error).split())
    return Failure(FAULT, f"{place} cannot be imported: {type(error).__name__}: {text}, at {where}{hint}")


def _is_debug() -> bool:
    try:
        return bool(settings.parse("debug", os.environ.get("DAEBUS_DEBUG") or False, "DAEBUS_DEBUG"))
    except ConfigurationError:
        return False  # loading the settings will report the error
