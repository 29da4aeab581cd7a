"""`Daebus`: what an author declares handlers on, and runs. Importing this module makes the standard library
cooperative, before anything else is imported."""

from __future__ import annotations

from . import signals

signals.heed()  # before the imports that take time: from here on a service ends in order

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

    name: the service's name, or `__name__`: what stands before its first dot is used unless `run(service=)` or
    `DAEBUS_SERVICE` say otherwise. max_workers: how many `blocking=True` handlers run at the same time, each in an OS
    thread; other handlers are greenlets, `DAEBUS_CONCURRENCY` of them.

    The object is also a WSGI application: `gunicorn -c python:daebus_runtime.gunicorn my_service.app:app`.
    """

    has_run = False
    """Whether `run` has been called, in this process."""

    def run(
        self,
        service: str = UNSET,
        debug: bool = UNSET,
        redis_host: str = UNSET,
        redis_port: int = UNSET,
        redis_url: str = UNSET,
    ) -> None:
        """Serve until SIGINT or SIGTERM, then drain and return.

        `DAEBUS_*` variables win over these arguments. `debug` shows errors' texts to clients, logs more, and starts the
        service again when a file changes. A setting that cannot be used, a taken port and a refused password end the
        process with an error text and exit code 1.
        """
        self.has_run = True
        self.call_it(service)
        address: Any = redis_url
        if not given(redis_url) and (given(redis_host) or given(redis_port)):
            host = redis_host if given(redis_host) else "localhost"
            address = settings.Server(host, redis_port if given(redis_port) else settings.DEFAULT_REDIS_PORT)
        launch.run(self, {"service": service, "debug": debug, "redis_url": address})


__all__ = ["Daebus"]
