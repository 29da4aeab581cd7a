"""Imports submodules of a package without executing the package's own `__init__`, until somebody imports the package.

Before Python imports a submodule, it creates the package's module object, but that need not be executed yet. So this
creates it, imports the submodules, and removes the package from `sys.modules` again. The first `import` of the package
does not find it there and executes it: the same module object, with the same submodules. No module is replaced.

    the package was already imported    nothing is done
    the submodules need the package     (in another version) it is executed at once, as by any import
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

from . import native


def import_parts(package: str, *parts: str) -> None:
    """Import submodules of a package; execute the package itself only if they need it."""
    spec = None if package in sys.modules else find_spec(package)
    if spec is None or spec.loader is None:
        return
    spec.loader_state = importing = _PartsFirst(spec, spec.loader, parts)
    sys.meta_path.insert(0, importing)
    importing.forget(importlib.import_module(package))
    if not importing.begun:  # another thread was faster and imported it normally
        importing.withdraw()


class _Package(types.ModuleType):
    """A package that is not executed yet. Its submodules may refer to it; an attribute that is missing executes it."""

    def __getattr__(self, name: str) -> Any:
        importing: _PartsFirst = self.__spec__.loader_state  # type: ignore[union-attr]
        importing.forget(self)
        importlib.import_module(self.__name__)
        return getattr(self, name)


class _PartsFirst(MetaPathFinder, Loader):
    """At the first import of a package, imports only its submodules; at the second, executes the package.

    Both steps are imports, so Python's import locks keep other threads out meanwhile.
    """

    def __init__(self, spec: ModuleSpec, loader: Loader, parts: Sequence[str]) -> None:
        self._spec, self._loader, self._parts = spec, loader, parts
        self._module: types.ModuleType | None = None
        self._lock = native.make_lock()  # OS threads import too

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
            with contextlib.suppress(Exception):  # any error: executing the package will show whether it matters
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
        """Remove the package from `sys.modules`, unless it is executed or about to be."""
        with self._lock:
            if type(module) is _Package and sys.modules.get(module.__name__) is module:
                del sys.modules[module.__name__]
