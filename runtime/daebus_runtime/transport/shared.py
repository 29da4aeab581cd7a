"""The transports of this process, one for each bus address, whoever uses them: services, callers, tests.

Ten callers of one bus are one inbox and two connections. A forked child starts with none.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

from gevent import monkey

from ..errors import ConfigurationError
from ..metrics import Metrics
from ..settings import Settings, parse
from . import State, Transport, home
from .redis import RedisTransport
from .topology import SingleServer

_lock = monkey.get_original("threading", "Lock")()
_transports: dict[str, Transport] = {}
_overrides: list[Transport] = []
_default_url: str | None = None
generation = 0
"""Changes whenever an address may lead elsewhere than before: a cue for those who keep a transport."""


def _changed() -> None:
    global generation
    generation += 1


def acquire(url: str, settings: Settings) -> Transport:
    """The open transport for an address, made at first use."""
    if _overrides:
        return _overrides[-1]
    with _lock:
        transport = _transports.get(url)
        if transport is None or transport.state is State.CLOSED:
            transport = _transports[url] = _make(url, settings, None)
    transport.open()
    return transport


def make(url: str, settings: Settings, metrics: Metrics) -> Transport:
    """A service's own transport, not yet open; callers of this process with the same address share it."""
    with _lock:
        transport = _transports[url] = _make(url, settings, metrics)
        _changed()
    return transport


def _make(url: str, settings: Settings, metrics: Metrics | None) -> Transport:
    parse("redis_url", url, "the bus address")
    try:
        topology = SingleServer(url)
    except (ValueError, TypeError) as error:
        raise ConfigurationError(f"the bus address cannot be used: {error}") from None
    return RedisTransport(
        topology,
        home.current(),
        message_limit=settings.message_limit,
        send_seconds=settings.send_seconds,
        metrics=metrics,
    )


def set_default(url: str | None) -> None:
    """The bus of this process' service: where callers without an address of their own go."""
    global _default_url
    _default_url = url
    _changed()


def default_url() -> str | None:
    return _default_url


@contextlib.contextmanager
def override(transport: Transport) -> Iterator[None]:
    """While this lasts, every address leads to `transport`. For tests that must not reach a server."""
    _overrides.append(transport)
    _changed()
    try:
        yield
    finally:
        _overrides.remove(transport)
        _changed()


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
    _lock = monkey.get_original("threading", "Lock")()
    _transports.clear()
    _overrides.clear()
    _changed()


os.register_at_fork(after_in_child=_after_fork)
