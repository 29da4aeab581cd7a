"""Imports a large module late without holding the event loop: an OS thread imports it, and only the caller waits.

It is for what many services never need, so that their start does not pay for it. While the thread imports, the loop
gets Python's lock every 5 ms (`sys.getswitchinterval`).
"""

from __future__ import annotations

import contextlib
import importlib
import sys
from types import ModuleType

from gevent import getcurrent
from gevent.hub import Hub


def import_aside(name: str) -> ModuleType:
    """`importlib.import_module(name)`, and outside of a loop's greenlets nothing else."""
    loop = getcurrent().parent
    if name not in sys.modules and isinstance(loop, Hub):
        loop.threadpool.apply(_import, (name,))
    return importlib.import_module(name)


def _import(name: str) -> None:
    with contextlib.suppress(BaseException):  # gevent would print it; the caller's own import raises it again
        importlib.import_module(name)
