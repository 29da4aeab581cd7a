"""The transports of this process, one per bus address, shared by services, callers and tests.

Ten callers of one bus share one inbox and two connections; a service that starts later takes these over. Closed
transports are removed. A forked child starts without any.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Any

from .. import native
from ..metrics import Metrics
from ..settings import Settings, parse
from . import Limits, State, home
from .address import Address
from .compatible import Compatible
from .durable.redis import RedisDurable
from .topology import SingleServer

_lock = native.make_lock()
_transports: dict[tuple[Any, ...], Compatible] = {}
_overrides: list[Compatible] = []
_default_url: str | None = None
generation = 0
"""Changes whenever an address may lead to another transport, so that code that keeps a transport can check it."""


def _changed() -> None:
    global generation
    generation += 1


def acquire(url: str, settings: Settings) -> Compatible:
    """The open transport for an address, created at first use. ConfigurationError for a bad address."""
    if _overrides:
        return _overrides[-1]
    address = _address(url)
    with _lock:
        transport = _transports.get(address.key)
        if transport is None or transport.state is State.CLOSED:
            transport = _transports[address.key] = _make(address, settings, None)
    transport.open()
    return transport


def make(url: str, settings: Settings, metrics: Metrics) -> Compatible:
    """A service's transport; callers in this process with the same address share it.

    If callers have opened it before the service starts, it is taken over with its connections.
    """
    address = _address(url)
    here = home.current()
    with _lock:
        before = _transports.get(address.key)
        if before is not None and before.state is not State.CLOSED and before.bus.home is here:
            before.bus.adopt(metrics)
            before.limits = Limits.of(settings)
            return before
        transport = _transports[address.key] = _make(address, settings, metrics)
        _changed()
    if before is not None:
        before.close()
    return transport


def _address(url: str) -> Address:
    return Address.of(parse("redis_url", url, "the bus address"))


def _make(address: Address, settings: Settings, metrics: Metrics | None) -> Compatible:
    transport = RedisDurable(SingleServer(address), home.current(), Limits.of(settings), metrics)

    def forget(state: State, reason: str) -> None:
        if state is State.CLOSED and _transports.get(address.key) is transport:
            del _transports[address.key]
            _changed()

    transport.watch(forget)
    return transport


def set_default(url: str | None) -> None:
    """Set the bus of this process's service, which callers without an address use."""
    global _default_url
    _default_url = url
    _changed()


def default_url() -> str | None:
    return _default_url


@contextlib.contextmanager
def override(transport: Compatible) -> Iterator[None]:
    """Within this context every address leads to `transport`. For tests that must not reach a server."""
    _overrides.append(transport)
    _changed()
    try:
        yield
    finally:
        _overrides.remove(transport)
        _changed()


def is_overridden() -> bool:
    """Whether no address leads to a server now."""
    return bool(_overrides)


def close_all() -> None:
    """Close every transport of this process."""
    with _lock:
        transports = list(_transports.values())
        _transports.clear()
        _changed()
    for transport in transports:
        transport.close()


def _after_fork() -> None:
    global _lock
    _lock = native.make_lock()
    for transport in _transports.values():
        with contextlib.suppress(Exception):
            transport.bus.forsake()
    _transports.clear()
    _overrides.clear()
    _changed()


os.register_at_fork(after_in_child=_after_fork)
