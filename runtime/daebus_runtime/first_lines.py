"""The first log lines of a service: what runs, and its addresses."""

from __future__ import annotations

import platform
from collections.abc import Mapping

from . import __version__, logs
from .logs import direct_logger
from .settings import redact
from .transport.embedded import Bus


def announce(service: str, bus: Bus | None, addresses: Mapping[str, str]) -> None:
    """Log them: as a block in text logs, as one record in JSON logs. addresses: what is served, with its URL."""
    where = "none" if bus is None else f"{redact(bus.url)} ({bus.source})"
    if bus is not None and bus.server is not None:
        where += ", private: other machines cannot reach it"
    about = {"bus": where, **addresses}
    versions = f"daebus {__version__}, Python {platform.python_version()}"
    direct_logger.info("service %s started (%s)", service, versions, extra={logs.BLOCK: about})
