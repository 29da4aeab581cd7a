"""Imports parts of a package, and leaves the package itself to the first that imports it.

Python makes a package before it imports a part of it, but need not execute it. So the package is made, its parts are
imported, and it is taken out of `sys.modules` again. The first `import` of it finds it there no more and executes it:
the same module object, around the same parts. No module is replaced by another.

    the package was imported before   nothing to gain, nothing is done
    its parts need the package        (another version) it is executed at once, as by any import
"""

from __future__ import annotations

import contextlib
import importlib
import sys
import types
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from typing import Any

from gevent import monkey

_make_lock = monkey.get_original("_thread", "allocate_lock")  # imports happen in OS threads too


def import_parts(package: str, *parts: str) -> None:
    """Import parts of a package; the package itself only where they need it."""
    spec = None if package in sys.modules else find_spec(package)
    if spec is None or spec.loader is None:
        return
    spec.loader_state = importing = _PartsFirst(spec, spec.loader, parts)
    sys.meta_path.insert(0, importing)
    importing.forget(importlib.import_module(package))
    if not importing.begun:  # another thread was quicker, and imported it in the ordinary way
        importing.withdraw()


class _Package(types.ModuleType):
    """A package that is not executed yet. Its parts may hold it: what they miss in it is there once it is executed."""

    def __getattr__(self, name: str) -> Any:
        importing: _PartsFirst = self.__spec__.loader_state  # type: ignore[union-attr]
        importing.forget(self)
        importlib.import_module(self.__name__)
        return getattr(self, name)


class _PartsFirst(MetaPathFinder, Loader):
    """Imports the parts of a package at its first import, and executes the package at its second.

    Both are imports, so that Python's import locks hold other threads back meanwhile.
    """

    def __init__(self, spec: ModuleSpec, loader: Loader, parts: Sequence[str]) -> None:
        self._spec, self._loader, self._parts = spec, loader, parts
        self._module: types.ModuleType | None = None
        self._lock = _make_lock()

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        if name != self._spec.name:
            return None
        self._spec.loader = self
        return self._spec

    def create_module(self, spec: ModuleSpec) -> types.ModuleType | None:
        with self._lock:
            if self._module is not None:
                self._module.__class__ = types.ModuleType
            return self._module

    def exec_module(self, module: types.ModuleType) -> None:
        self._spec.loader = module.__loader__ = self._loader
        if self._module is None:
            self._module = module
            with contextlib.suppress(Exception):  # whatever it is: executing the package shows whether it matters
                for part in self._parts:
                    importlib.import_module(f"{module.__name__}.{part}")
                module.__class__ = _Package
                return
        self.withdraw()
        self._loader.exec_module(module)

    @property
    def begun(self) -> bool:
        return self._module is not None

    def withdraw(self) -> None:
        if self in sys.meta_path:
            sys.meta_path.remove(self)

    def forget(self, module: types.ModuleType) -> None:
        """Take the package out of `sys.modules`, unless it is executed or about to be."""
        with self._lock:
            if type(module) is _Package and sys.modules.get(module.__name__) is module:
                del sys.modules[module.__name__]
