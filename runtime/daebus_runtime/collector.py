"""Python's collector of reference cycles rests while modules are imported: what they make stays, and it would look
through all of it again and again, for a twentieth of the time that a start takes."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def at_rest() -> Iterator[None]:
    """While it is entered nothing is collected. A program that has switched the collector off finds it off."""
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
