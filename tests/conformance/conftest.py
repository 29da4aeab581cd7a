"""`bus`: each test of this folder runs over memory and over Redis; a module with `KINDS = ALL` over every way to reach
one as well."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.conformance.buses import BOTH, Bus, Make, bus_maker


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """`kind` says which bus the test runs over."""
    if "kind" in metafunc.fixturenames:
        metafunc.parametrize("kind", getattr(metafunc.module, "KINDS", BOTH), scope="session")


@pytest.fixture(scope="session")
def maker(kind: str) -> Iterator[Make]:
    """One server for each kind, for the whole session."""
    with bus_maker(kind) as make:
        yield make


@pytest.fixture
def bus(maker: Make) -> Iterator[Bus]:
    """A bus, and an easy way to join it."""
    bus = Bus(maker)
    yield bus
    bus.close()
