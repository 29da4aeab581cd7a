"""Drivers: how each block of each page is run. A module for each page, in it a function for each block."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from tests.docs.stage import Stage

Driver = Callable[[Stage], None]
D = TypeVar("D", bound=Driver)
DRIVERS: dict[tuple[str, str], Driver] = {}
SLOW: set[Driver] = set()


def drives(page: str, *names: str, slow: bool = False) -> Callable[[D], D]:
    """Register a driver for the blocks with these names on a page; several names where one run needs several blocks.

    `slow`: it starts processes, or waits for a real clock.
    """

    def register(driver: D) -> D:
        for name in names:
            assert (page, name) not in DRIVERS, f"{page} {name} has two drivers"
            DRIVERS[page, name] = driver
        if slow:
            SLOW.add(driver)
        return driver

    return register
