"""What is done after each answer of a port: access logs, and the end of a worker after `DAEBUS_MAX_REQUESTS`.

A port that does nothing has None instead.
"""

from __future__ import annotations

from collections.abc import Callable
from random import randint
from typing import Any, Protocol

from gunicorn.workers.ggevent import PyWSGIHandler

from ...settings import Settings
from . import accesslog


class Watcher(Protocol):
    """Called with a connection after its answer. refused: the status if the request was not understood."""

    def __call__(self, connection: Any, refused: str | None = None) -> None: ...


class Countdown:
    """Calls `ended` after so many requests."""

    def __init__(self, requests: int, ended: Callable[[], None]) -> None:
        self._left, self._ended = requests, ended

    def __call__(self, connection: Any, refused: str | None = None) -> None:
        if refused is None:
            self._left -= 1
            if self._left == 0:
                self._ended()


class Served:
    """All watchers of a service's ports. `watch` is None without any; then answers pay nothing.

    cfg, log: gunicorn's configuration and logger. ended: called when the worker has served its number of requests.
    """

    def __init__(self, settings: Settings, cfg: Any, log: Any, ended: Callable[[], None]) -> None:
        self._log = accesslog.AccessLog(settings.access_log) if settings.access_log != accesslog.OFF else None
        found: list[Watcher] = [] if self._log is None else [self._log]
        if log.access_log_enabled:
            found.append(_gunicorns)
        most = limit(settings, cfg)
        if most:
            found.append(Countdown(most, ended))
        self.watch: Watcher | None = found[0] if len(found) == 1 else _each(found) if found else None

    def flush(self) -> None:
        """Write what waits to be written."""
        if self._log is not None:
            self._log.flush()


def limit(settings: Settings, cfg: Any) -> int:
    """After how many requests the worker is replaced; 0 is never. Differs by chance, so that replicas differ."""
    requests, jitter = settings.max_requests, settings.max_requests_jitter
    if cfg.max_requests:
        requests, jitter = cfg.max_requests, cfg.max_requests_jitter
    return requests + randint(0, jitter) if requests else 0


def _gunicorns(connection: Any, refused: str | None = None) -> None:
    if refused is None:
        PyWSGIHandler.log_request(connection)


def _each(watchers: list[Watcher]) -> Watcher:
    def watch(connection: Any, refused: str | None = None) -> None:
        for watcher in watchers:
            watcher(connection, refused)

    return watch
