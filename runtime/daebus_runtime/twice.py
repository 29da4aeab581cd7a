"""Detects a file that was imported under two names: it then has two applications, and only one is served."""

from __future__ import annotations

import os
import sys
from collections import defaultdict
from types import ModuleType

from .application import Application


def warning(app: Application) -> str | None:
    """The warning if the file that created `app` was run twice, for example by `python app.py` and by `from app import
    app` in another module; else None."""
    for file, modules in _run_twice().items():
        served = [name for name, module in modules.items() if app in _applications(module)]
        others = [name for name, module in modules.items() if any(a is not app for a in _applications(module))]
        if served and others:
            stem = os.path.basename(file)
            return (
                f"{stem} was run twice, as module {served[0]!r} and as module {others[0]!r}: handlers declared on the "
                f"application of {others[0]!r} are not served. Start it with `daebus run {stem}`, or import the "
                f"application from a module that is not the program itself"
            )
    return None


def _run_twice() -> dict[str, dict[str, ModuleType]]:
    by_file: dict[str, dict[str, ModuleType]] = defaultdict(dict)
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if isinstance(module, ModuleType) and isinstance(file, str) and _applications(module):
            # The second import may have used another path: a relative one, or a symbolic link.
            by_file[os.path.realpath(file)].setdefault(name, module)
    return {file: modules for file, modules in by_file.items() if len({id(module) for module in modules.values()}) > 1}


def _applications(module: ModuleType) -> list[Application]:
    return [value for value in list(vars(module).values()) if isinstance(value, Application)]
