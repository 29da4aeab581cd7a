"""The import name of the original Daebus. The implementation is `daebus_runtime`; this package only leads there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import daebus_runtime
from daebus_runtime import __all__ as __all__
from daebus_runtime import __version__ as __version__

if TYPE_CHECKING:
    from daebus_runtime import *  # noqa: F403


def __getattr__(name: str) -> Any:
    if name not in daebus_runtime.__all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(daebus_runtime, name)


def __dir__() -> list[str]:
    return sorted(daebus_runtime.__all__)
