"""HTTP for a service: `DaebusHttp`, and the WSGI application made of what the service declares.

Falcon routes. Requests are read whole and checked before a handler runs (bodies.py); what a handler returns is written
as JSON (routing.py). A WebSocket handshake arrives here too, since it is an HTTP request until it is accepted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import unquote

import falcon

from ... import codec
from ...errors import RegistrationError
from ...logs import logger
from ...registry import Declarations, Route
from ...running import Running
from ...settings import UNSET, given, parse
from ..ports import check_components, ports_of
from ..report import report
from ..websocket.connection import UPGRADE, asks_for_websocket, handshake_fault
from ..websocket.endpoint import Handshake, Refusal
from . import bodies, cors
from .requests import HttpRequest, HttpResponse
from .routing import ENCODED_SLASH, JSON, Resource, Responder, template_of, write

if TYPE_CHECKING:
    from ...application import Application

WEBSOCKET_ONLY = "daebus.websocket_only"
"""In the WSGI environ of requests on a port that is for WebSockets alone."""
DEFAULT_PORT = 8080
DEFAULT_HOST = "0.0.0.0"
Environ = dict[str, Any]
WSGI = Callable[[Environ, Any], Iterable[bytes]]
F = TypeVar("F", bound=Callable[..., Any])

__all__ = ["DaebusHttp", "HttpRequest", "HttpResponse", "check", "make_wsgi"]


class DaebusHttp:
    """HTTP for a service: `app.attach(DaebusHttp(port=8080))`, then `@app.route("/path")`.

    `DAEBUS_HTTP_PORT` and `DAEBUS_HTTP_HOST` win over the arguments. cors_config: which pages of other origins may read
    the answers: allowed_origins (origins, or `*`, the default), allowed_methods, allowed_headers, expose_headers
    (lists), allow_credentials (bool), max_age (seconds). What it cannot mean stops the start with a ConfigurationError.
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
        """Told by `attach`."""
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

    def route(self, path: str, methods: Iterable[str] | None = None, *, blocking: bool = False) -> Callable[[F], F]:
        """As `app.route`."""
        return self._declared.route(path, methods, blocking=blocking)

    def configure_cors(self, config: Mapping[str, Any]) -> None:
        """Replace `cors_config`, before the service starts. RegistrationError later."""
        if self._app is not None:
            self._app.check_open("configure_cors")
        self.cors_config = config


def check(running: Running) -> None:
    """Everything that would make a half-working service; called before a port is opened.

    MissingComponent for routes without DaebusHttp and sockets without DaebusWebSocket; ConfigurationError for a
    cors_config, a port or a path that cannot be used.
    """
    check_components(running)
    if running.http is not None or running.websocket is not None:
        ports_of(running)
    _make_falcon(running)


def make_wsgi(running: Running) -> WSGI:
    """The WSGI application of a service, made when it starts."""
    return _Gate(running)


class _Gate:
    """Tells requests from WebSocket handshakes."""

    def __init__(self, running: Running) -> None:
        self._http, self._websocket_support = running.http is not None, running.websocket
        self._falcon = _make_falcon(running)

    def __call__(self, environ: Environ, start_response: Any) -> Iterable[bytes]:
        if asks_for_websocket(environ):
            return self._websocket(environ, start_response)
        if not self._http or environ.get(WEBSOCKET_ONLY):
            fields = [("Upgrade", "websocket"), ("Connection", "Upgrade")]
            return _answer(start_response, 426, {"error": "this port is for WebSockets"}, fields)
        if environ["PATH_INFO"] == "*":  # OPTIONS asks about the server as a whole
            start_response("200 OK", [("Content-Length", "0")])
            return []
        return self._falcon(environ, start_response)

    def _websocket(self, environ: Environ, start_response: Any) -> Iterable[bytes]:
        fault = handshake_fault(environ)
        if fault is not None:
            fields = [("Sec-WebSocket-Version", "13"), *([("Allow", "GET")] if fault[0] == 405 else [])]
            return _answer(start_response, fault[0], {"error": fault[1]}, fields)
        if self._websocket_support is None or UPGRADE not in environ:
            return _answer(start_response, 400, {"error": "no WebSocket is served here"})
        try:
            outcome = self._websocket_support.accept(Handshake.of(environ))
        except ValueError:
            return _answer(start_response, 400, {"error": "the query is not URL-encoded UTF-8"})
        if isinstance(outcome, Refusal):
            return _answer(start_response, outcome.status, outcome.content)
        try:
            socket = environ[UPGRADE](outcome.terms)
        except BaseException:
            outcome.end()
            raise
        outcome.serve(socket)
        return []


def _answer(
    start_response: Any, status: int, content: dict[str, Any], fields: Iterable[tuple[str, str]] = ()
) -> Iterable[bytes]:
    body = codec.dumps(content)
    head = [("Content-Type", JSON), ("Content-Length", str(len(body))), *fields]
    start_response(falcon.code_to_http_status(status), head)
    return [body]


# --- Falcon -----------------------------------------------------------------------------------------------------------
def _make_falcon(running: Running) -> falcon.App[Any, Any]:
    policy = cors.parse(running.http.cors_config if running.http is not None else None)
    router: falcon.App[Any, Any] = falcon.App(middleware=[_Around(policy)])
    resources: dict[str, Resource] = {}
    for route in running.registry.all(Route):
        template = template_of(route)
        resource = resources.setdefault(template.text, Resource())
        for method in route.methods:
            resource.add(method, Responder(running, route, method, template.names))
    for text, resource in resources.items():
        resource.finish()
        try:
            router.add_route(text, resource)
        except ValueError as error:
            route = next(iter(resource.routes.values()))
            raise RegistrationError(f"{route.title} at {route.where}: {error}") from None

    def failed(req: falcon.Request, resp: falcon.Response, error: Exception, params: object) -> None:
        write(resp, (report(f"{req.method} {req.path}", error, running.settings.debug), 500))

    router.add_error_handler(Exception, failed)
    router.add_error_handler(falcon.HTTPError, _refused)
    return router


def _refused(req: falcon.Request, resp: falcon.Response, error: falcon.HTTPError, params: object) -> None:
    """Answer what is refused before, or by, a handler: `{"error": <the status' name>, …}`."""
    resp.status = error.status
    resp.set_headers(error.headers or {})
    content: dict[str, Any] = {"error": falcon.code_to_http_status(error.status_code).partition(" ")[2]}
    if error.status_code == 404:
        content["path"] = req.path.replace(ENCODED_SLASH, "%2F")
    if error.description is not None:
        content["detail"] = error.description
    resp.content_type = JSON
    resp.data = codec.dumps(content)


class _Around:
    """What happens before and after each request."""

    def __init__(self, policy: cors.Policy | None) -> None:
        self._policy = policy

    def process_request(self, req: falcon.Request, resp: falcon.Response) -> None:
        if req.path.startswith("//"):
            raise falcon.HTTPRouteNotFound  # Falcon would take it for one slash
        if not req.path.isascii() and "\ufffd" in req.path:
            raise bodies.bad("the path is not URL-encoded UTF-8")
        raw = req.env.get("RAW_URI", "").partition("?")[0]
        if "%2f" in raw or "%2F" in raw:
            # An encoded slash is part of a segment, not the end of one.
            parts = [unquote(part).replace("/", ENCODED_SLASH) for part in raw.split("/")]
            req.path = "/".join(parts)

    def process_resource(self, req: falcon.Request, resp: falcon.Response, resource: object, params: object) -> None:
        if isinstance(resource, Resource) and req.method not in falcon.COMBINED_METHODS:
            raise falcon.HTTPMethodNotAllowed([*resource.routes, "OPTIONS"])

    def process_response(self, req: falcon.Request, resp: falcon.Response, resource: object, ok: bool) -> None:
        if self._policy is None:
            return
        wanted = req.get_header("Access-Control-Request-Headers")
        preflight = req.method == "OPTIONS" and req.get_header("Access-Control-Request-Method") is not None
        methods = ", ".join(resource.routes) if isinstance(resource, Resource) else None
        for name, value in self._policy.answer(req.get_header("Origin"), preflight, wanted, methods).items():
            if name == "Vary":
                resp.append_header(name, value)
            else:
                resp.set_header(name, value)
