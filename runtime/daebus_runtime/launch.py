"""How a service is launched: `prepare` settles what everything else relies on, `run` is what `app.run()` does.

Without HTTP and WebSockets the service runs in this process (`_serve_alone`), else below gunicorn's master (master.py).
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Mapping
from typing import Any

import gevent

from . import logs, master, reload
from .application import Application
from .errors import ConfigurationError
from .logs import runtime_logger
from .runner import Prepared, Runner, uses_bus
from .servers.http.application import check
from .settings import Settings, unknown_variables
from .transport import topology
from .transport.embedded import Bus, resolve


def prepare(app: Application, arguments: Mapping[str, Any] | None = None) -> Prepared:
    """Settle settings and bus. ConfigurationError for everything that would make a half-working service.

    arguments: those of `run`. An embedded bus started here dies with this process.
    """
    loaded = app.load_settings(arguments)
    logs.configure(loaded.settings.log_format, "debug" if loaded.settings.debug else loaded.settings.log_level)
    for line in (*loaded.overridden, *unknown_variables()):
        runtime_logger.warning("%s", line)
    check(app.running(loaded.settings))
    return Prepared(loaded.settings, _find_bus(app, loaded.settings))


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
    """`app.run()`: serve until SIGINT or SIGTERM. Ends the process with code 1 when it cannot start."""
    try:
        if app.load_settings(arguments).settings.debug and not reload.is_child():
            reload.supervise()
            return
        prepared = prepare(app, arguments)
        try:
            if app.http is not None or app.websocket is not None:
                master.serve(app, prepared)
            else:
                _serve_alone(app, prepared)
        finally:
            prepared.release()
    except ConfigurationError as error:
        print(f"daebus: cannot start: {error}", file=sys.stderr, flush=True)
        raise SystemExit(1) from None


def _serve_alone(app: Application, prepared: Prepared) -> None:
    runner = Runner(app, prepared)
    asked = 0

    def stop() -> None:
        nonlocal asked
        asked += 1
        if asked > 1:
            os._exit(130)  # asked twice: whoever did does not want to wait for the drain
        runner.stopped.set()

    signals = [gevent.signal_handler(number, stop) for number in (signal.SIGTERM, signal.SIGINT)]
    runner.start()
    runner.announce({})
    try:
        runner.stopped.wait()
        runner.finish(time.monotonic() + runner.settings.drain_seconds)
    finally:
        for handler in signals:
            handler.cancel()
