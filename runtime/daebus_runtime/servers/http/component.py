"""`DaebusHttp`: a service attaches it to serve HTTP. The application that answers is in application.py."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from ...logs import logger
from ...registry import Declarations
from ...settings import UNSET, given, parse
from .application import make_wsgi
from .requests import HttpRequest, HttpResponse

if TYPE_CHECKING:
    from ...application import Application

DEFAULT_PORT = 8080
DEFAULT_HOST = "0.0.0.0"
F = TypeVar("F", bound=Callable[..., Any])

__all__ = ["DaebusHttp", "HttpRequest", "HttpResponse"]


class DaebusHttp:
    """HTTP for a service: `app.attach(DaebusHttp(port=8080))`, then `@app.route("/path")`.

    `DAEBUS_HTTP_PORT` and `DAEBUS_HTTP_HOST` override the arguments. cors_config: which pages of other origins may read
    the answers. Its keys are allowed_origins (origins, or `*`, the default), allowed_methods, allowed_headers,
    expose_headers (lists), allow_credentials (bool), max_age (seconds). A bad value raises ConfigurationError at the
    start.
    """

    kind = "http"
    logger = logger

    def __init__(self, port: int = UNSET, host: str = UNSET, cors_config: Mapping[str, Any] | None = None) -> None:
        self.arguments: dict[str, Any] = {"http_port": port, "http_host": host}
        self.port: int = (
            parse("http_port", port, "DaebusHttp(port)") if given(port) and port is not None else DEFAULT_PORT
        )
        self.host: str = host if given(host) else DEFAULT_HOST
        self.cors_config = cors_config
        self._app: Application | None = None
        self._declared = Declarations()

    def bind(self, app: Application) -> None:
        """Called by `attach`."""
        self._app = app
        app.make_wsgi = make_wsgi
        self._declared.registry.part_of(app.registry)

    def attach(self, daemon: Application) -> None:
        """As `app.attach(http)`."""
        daemon.attach(self)

    @property
    def daemon(self) -> Application | None:
        """The application that this is attached to."""
        return self._app

    def route(
        self, path: str, methods: Iterable[str] | None = None, *, blocking: bool = False, timeout: float | None = None
    ) -> Callable[[F], F]:
        """As `app.route`."""
        return self._declared.route(path, methods, blocking=blocking, timeout=timeout)

    def configure_cors(self, config: Mapping[str, Any]) -> None:
        """Replace `cors_config`, before the service starts. RegistrationError later."""
        if self._app is not None:
            self._app.check_open("configure_cors")
        self.cors_config = config
