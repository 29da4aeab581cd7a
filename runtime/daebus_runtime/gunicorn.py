"""The configuration file of gunicorn's command line, and nothing else:

    gunicorn -c python:daebus_runtime.gunicorn my_service.app:app

gunicorn reads the names of this module. They come from master.py, which `app.run()` uses as well.
"""

from __future__ import annotations

from . import signals

signals.heed()

from .collector import at_rest

with at_rest():
    from .patching import patch

    patch()

    import os
    from typing import Any

    from . import master
    from .application import Application
    from .errors import ConfigurationError
    from .launch import prepare

globals().update(master.SETTINGS)
bind = master.DEFAULT_BIND
forwarded_allow_ips = os.environ.get("FORWARDED_ALLOW_IPS", "")  # gunicorn's own variable for it


def on_starting(server: Any) -> None:
    """Called by gunicorn's master before it opens a port: prepare the application, refuse what cannot work."""
    app = server.app.wsgi()
    try:
        if not isinstance(app, Application):
            raise ConfigurationError(f"gunicorn was given {app!r}; this configuration serves a Daebus application")
        if server.cfg.workers != 1:
            raise ConfigurationError(f"{server.cfg.workers} workers were asked for: {master.SCALE}")
        prepared = prepare(app)
        if app.http is None and app.websocket is None:
            raise ConfigurationError(
                "the service has no HTTP or WebSocket to serve; run it with app.run() or `daebus run`"
            )
        master.adopt(server, app, prepared)
    except ConfigurationError as error:
        master.refuse(error)
