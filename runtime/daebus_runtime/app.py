"""`Daebus`: the application with `run`. Importing this module first makes the standard library cooperative, before it
imports anything else."""

from __future__ import annotations

from . import signals

signals.heed()  # before the slow imports: from here on signals stop a service gracefully

from .collector import at_rest

with at_rest():
    from .patching import carry_into_executors, patch

    patch()

    from typing import Any

    from . import context, launch, logs, settings
    from .application import Application
    from .context.about import about
    from .settings import UNSET, given

logs.bind(about)
carry_into_executors(context.carried)


class Daebus(Application):
    """A service.

    name: the service's name, or `__name__`. The part before the first dot is used, unless `run(service=)` or
    `DAEBUS_SERVICE` set another name. max_workers: how many `blocking=True` handlers run at the same time, each in an
    OS thread; other handlers are greenlets, at most `DAEBUS_CONCURRENCY`.

    The object is also a WSGI application: `gunicorn -c python:daebus_runtime.gunicorn my_service.app:app`.
    """

    has_run = False
    """Whether `run` was called in this process."""

    def run(
        self,
        service: str = UNSET,
        debug: bool = UNSET,
        redis_host: str = UNSET,
        redis_port: int = UNSET,
        redis_url: str = UNSET,
    ) -> None:
        """Serve until SIGINT or SIGTERM, then drain and return.

        `DAEBUS_*` variables override these arguments. `debug` shows error texts to clients, logs more, and restarts the
        service when a file changes. A bad setting, a taken port and a refused password end the process with an error
        text and exit code 1.
        """
        self.has_run = True
        self.call_it(service)
        address: Any = redis_url
        if not given(redis_url) and (given(redis_host) or given(redis_port)):
            host = redis_host if given(redis_host) else "localhost"
            address = settings.Server(host, redis_port if given(redis_port) else settings.DEFAULT_REDIS_PORT)
        launch.run(self, {"service": service, "debug": debug, "redis_url": address})


__all__ = ["Daebus"]
