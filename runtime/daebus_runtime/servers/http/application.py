"""The WSGI application for a service's declarations, and the checks before it can be created.

Falcon does the routing. bodies.py reads bodies, routing.py writes a handler's result as JSON. WebSocket handshakes
arrive here too, because they are HTTP requests until they are accepted; an `Endpoint` decides on them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import unquote

import falcon

from ... import codec
from ...errors import RegistrationError
from ...registry import Route
from ...running import Running
from ..ports import check_components, ports_of
from ..report import report
from ..websocket.endpoint import asks_for_websocket, serve
from . import bodies, cors, tls
from .identity import REQUEST_ID
from .routing import ENCODED_SLASH, JSON, Resource, Responder, template_of, write

WEBSOCKET_ONLY = "daebus.websocket_only"
"""Set in the WSGI environ of requests on a port that is only for WebSockets."""
Environ = dict[str, Any]
WSGI = Callable[[Environ, Any], Iterable[bytes]]


def check(running: Running) -> None:
    """Refuse a service that could only half work; called before a port is opened.

    MissingComponent for routes without DaebusHttp and sockets without DaebusWebSocket; ConfigurationError for a bad
    cors_config, port, path or TLS file.
    """
    check_components(running)
    if running.http is not None or running.websocket is not None:
        ports_of(running)
        tls.check(running.settings)
    _make_falcon(running)


def make_wsgi(running: Running) -> WSGI:
    """The WSGI application of a service, created when it starts."""
    return _Gate(running)


class _Gate:
    """Separates WebSocket handshakes from other requests."""

    def __init__(self, running: Running) -> None:
        self._http, self._endpoint = running.http is not None, running.websocket
        self._falcon = _make_falcon(running, to_serve=True)

    def __call__(self, environ: Environ, start_response: Any) -> Iterable[bytes]:
        if asks_for_websocket(environ):
            return self._websocket(environ, start_response)
        if not self._http or environ.get(WEBSOCKET_ONLY):
            fields = [("Upgrade", "websocket"), ("Connection", "Upgrade")]
            return _answer(start_response, 426, {"error": "this port is for WebSockets"}, fields)
        if environ["PATH_INFO"] == "*":  # OPTIONS for the server as a whole
            start_response("200 OK", [("Content-Length", "0")])
            return []
        return self._falcon(environ, start_response)

    def _websocket(self, environ: Environ, start_response: Any) -> Iterable[bytes]:
        refusal = serve(environ, self._endpoint)
        if refusal is not None:
            return _answer(start_response, refusal.status, refusal.content, refusal.headers)
        return []


def _answer(
    start_response: Any, status: int, content: dict[str, Any], fields: Iterable[tuple[str, str]] = ()
) -> Iterable[bytes]:
    body = codec.dumps(content)
    head = [("Content-Type", JSON), ("Content-Length", str(len(body))), *fields]
    start_response(falcon.code_to_http_status(status), head)
    return [body]


# --- Falcon -----------------------------------------------------------------------------------------------------------
def _make_falcon(running: Running, to_serve: bool = False) -> falcon.App[Any, Any]:
    policy = cors.parse(running.http.cors_config if running.http is not None else None)
    router: falcon.App[Any, Any] = falcon.App(middleware=[_Around(policy)])
    resources: dict[str, Resource] = {}
    for route in running.registry.all(Route):
        template = template_of(route)
        resource = resources.setdefault(template.text, Resource())
        for method in route.methods:
            resource.add(method, Responder(running, route, method, template.names))
    for number, (text, resource) in enumerate(resources.items(), 1):
        resource.finish()
        try:
            # With the last route Falcon compiles its router; else the first request would hold the loop for it.
            router.add_route(text, resource, compile=to_serve and number == len(resources))
        except ValueError as error:
            route = next(iter(resource.routes.values()))
            raise RegistrationError(f"{route.title} at {route.where}: {error}") from None

    def failed(req: falcon.Request, resp: falcon.Response, error: Exception, params: object) -> None:
        error_id = req.env.get(REQUEST_ID)
        write(resp, (report(f"{req.method} {req.path}", error, running.settings.debug, error_id), 500))

    router.add_error_handler(Exception, failed)
    router.add_error_handler(falcon.HTTPError, _refused)
    return router


def _refused(req: falcon.Request, resp: falcon.Response, error: falcon.HTTPError, params: object) -> None:
    """Answer a request that Falcon, a check or a handler refuses: `{"error": <name of the status>, …}`."""
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
    """Falcon middleware: runs before and after each request."""

    def __init__(self, policy: cors.Policy | None) -> None:
        self._policy = policy

    def process_request(self, req: falcon.Request, resp: falcon.Response) -> None:
        if req.path.startswith("//"):
            raise falcon.HTTPRouteNotFound  # Falcon would treat it as a single slash
        if not req.path.isascii() and "\ufffd" in req.path:
            raise bodies.bad("the path is not URL-encoded UTF-8")
        raw = req.env.get("RAW_URI", "").partition("?")[0]
        if "%2f" in raw or "%2F" in raw:
            # An encoded slash belongs to its segment and does not end it.
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
