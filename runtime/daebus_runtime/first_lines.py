"""The block of first lines of a service: what runs, and where it can be reached."""

from __future__ import annotations

import platform
from collections.abc import Mapping

from . import __version__, logs
from .logs import direct_logger
from .settings import redact
from .transport.embedded import Bus


def announce(service: str, bus: Bus | None, addresses: Mapping[str, str]) -> None:
    """Say it: for people as a block, else as one JSON record. addresses: what is served, and its URL."""
    where = "none" if bus is None else f"{redact(bus.url)} ({bus.source})"
    if bus is not None and bus.server is not None:
        where += ", private: other machines cannot reach it"
    about = {"bus": where, **addresses}
    versions = f"daebus {__version__}, Python {platform.python_version()}"
    direct_logger.info("service %s started (%s)", service, versions, extra={logs.BLOCK: about})
