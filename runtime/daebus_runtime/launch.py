"""Launches a service: `prepare` determines settings and bus, `run` implements `app.run()`.

Without HTTP and WebSockets the service runs in this process (`_serve_alone`), else under gunicorn's master (master.py).
"""

from __future__ import annotations

import gc
import time
from collections.abc import Mapping
from typing import Any

from . import descriptors, logs, master, reload, signals, twice
from .application import Application
from .cutoff import Cutoff
from .errors import ConfigurationError
from .logs import runtime_logger
from .runner import END_SECONDS, Prepared, Runner, uses_bus
from .servers.http.application import check
from .settings import Settings, unknown_variables
from .transport import topology
from .transport.embedded import Bus, resolve


def prepare(app: Application, arguments: Mapping[str, Any] | None = None) -> Prepared:
    """Determine settings and bus. ConfigurationError for anything with which the service could only half work.

    arguments: those of `run`. An embedded bus started here dies with this process.
    """
    loaded = app.load_settings(arguments)
    logs.configure(loaded.settings.log_format, "debug" if loaded.settings.debug else loaded.settings.log_level)
    few_files = descriptors.raise_limit(loaded.settings.connection_limit) if _listens(app) else None
    for line in (*loaded.overridden, *unknown_variables(), few_files, twice.warning(app)):
        if line:
            runtime_logger.warning("%s", line)
    check(app.running(loaded.settings))
    return Prepared(loaded.settings, _find_bus(app, loaded.settings))


def _listens(app: Application) -> bool:
    return app.http is not None or app.websocket is not None


def _find_bus(app: Application, settings: Settings) -> Bus | None:
    try:
        bus = resolve(settings)
    except ConfigurationError:
        if uses_bus(app) or settings.redis_url or settings.embedded == "always":
            raise
        return None
    topology.check(bus.url)
    return bus


def run(app: Application, arguments: Mapping[str, Any]) -> None:
    """`app.run()`: serve until asked to stop (signals.py). If it cannot start, end the process with code 1."""
    try:
        if app.load_settings(arguments).settings.debug and not reload.is_child():
            reload.supervise()
            return
        prepared = prepare(app, arguments)
        try:
            if _listens(app):
                master.serve(app, prepared)
            else:
                _serve_alone(app, prepared)
        finally:
            prepared.release()
    except ConfigurationError as error:
        master.refuse(error)
    except signals.Asked:
        return  # before it served anything


def _serve_alone(app: Application, prepared: Prepared) -> None:
    runner, cutoff = Runner(app, prepared), Cutoff()
    seconds = prepared.settings.drain_seconds

    def stop() -> None:
        # Armed in the signal handler itself: if the loop is held, nothing after this will run.
        cutoff.arm(seconds + END_SECONDS)
        runner.stopped.set()

    with signals.Asks(stop):
        runner.start()
        gc.freeze()  # the existing objects live as long as the service, so the garbage collector can skip them
        runner.announce({})
        runner.stopped.wait()
        runner.finish(time.monotonic() + seconds, cutoff)
