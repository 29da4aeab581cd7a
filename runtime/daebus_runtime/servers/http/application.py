"""The WSGI application for a service's declarations, and the checks before it can be created.

Falcon's router finds the handler (routing.py). bodies.py reads bodies, answers.py makes JSON of results. WebSocket
handshakes arrive here too, because they are HTTP requests until they are accepted; an `Endpoint` decides on them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import unquote

import falcon

from ...registry import Route
from ...running import Running
from ..ports import check_components, ports_of
from ..report import report
from ..websocket.endpoint import asks_for_websocket, serve
from . import bodies, cors, tls
from .answers import Answer, as_json, refused
from .identity import REQUEST_ID
from .routing import ENCODED_SLASH, Resource, Routes

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
    _make_routes(running, to_serve=False)


def make_wsgi(running: Running) -> WSGI:
    """The WSGI application of a service, created when it starts."""
    return _Gate(running)


class _Gate:
    """Separates WebSocket handshakes from other requests."""

    def __init__(self, running: Running) -> None:
        self._endpoint = running.websocket
        self._site = _Site(running) if running.http is not None else None

    def __call__(self, environ: Environ, start_response: Any) -> Iterable[bytes]:
        head = environ["REQUEST_METHOD"] == "HEAD"
        if "HTTP_UPGRADE" in environ and asks_for_websocket(environ):
            return self._websocket(environ, start_response)
        if self._site is None or environ.get(WEBSOCKET_ONLY):
            fields = [("Upgrade", "websocket"), ("Connection", "Upgrade")]
            return as_json(426, {"error": "this port is for WebSockets"}, fields).send(start_response, head)
        return self._site.answer(environ).send(start_response, head)

    def _websocket(self, environ: Environ, start_response: Any) -> Iterable[bytes]:
        refusal = serve(environ, self._endpoint)
        if refusal is None:
            return []
        return as_json(refusal.status, refusal.content, refusal.headers).send(start_response)


class _Site:
    """Answers HTTP requests."""

    def __init__(self, running: Running) -> None:
        self._debug = running.settings.debug
        self._routes, self._policy = _make_routes(running, to_serve=True)

    def answer(self, environ: Environ) -> Answer:
        method, resource = environ["REQUEST_METHOD"], None
        path: str = environ["PATH_INFO"] or "/"
        if path == "*":  # OPTIONS for the server as a whole
            return Answer(200, [])
        try:
            path = _routed(_decoded(path), environ)
            resource, fields = self._routes.find(path)
            responder = resource.responders.get(method)
            if responder is None:
                answer = resource.without_handler(method)
            else:
                answer = responder(environ, path.replace(ENCODED_SLASH, "%2F"), fields)
        except falcon.HTTPError as error:
            answer = refused(error, path.replace(ENCODED_SLASH, "%2F"))
        except Exception as error:
            answer = as_json(500, report(f"{method} {path}", error, self._debug, environ.get(REQUEST_ID)))
        if self._policy is not None:
            _add_cors(answer, self._policy, environ, resource)
        return answer


def _decoded(path: str) -> str:
    """A path from WSGI, which has bytes as Latin-1. HTTPBadRequest if it is not UTF-8."""
    if path.isascii():
        return path
    decoded = path.encode("latin-1").decode("utf-8", "replace")
    if "\ufffd" in decoded:
        raise bodies.bad("the path is not URL-encoded UTF-8")
    return decoded


def _routed(path: str, environ: Environ) -> str:
    """The path for the router: an encoded slash belongs to its segment and does not end it."""
    raw = environ.get("RAW_URI", "").partition("?")[0]
    if "%2f" in raw or "%2F" in raw:
        return "/".join(unquote(part).replace("/", ENCODED_SLASH) for part in raw.split("/"))
    return path


def _add_cors(answer: Answer, policy: cors.Policy, environ: Environ, resource: Resource | None) -> None:
    wanted = environ.get("HTTP_ACCESS_CONTROL_REQUEST_HEADERS")
    preflight = environ["REQUEST_METHOD"] == "OPTIONS" and "HTTP_ACCESS_CONTROL_REQUEST_METHOD" in environ
    methods = ", ".join(resource.responders) if resource is not None else None
    for name, value in policy.answer(environ.get("HTTP_ORIGIN"), preflight, wanted, methods).items():
        answer.set(name, value)


def _make_routes(running: Running, to_serve: bool) -> tuple[Routes, cors.Policy | None]:
    policy = cors.parse(running.http.cors_config if running.http is not None else None)
    routes = Routes()
    for route in running.registry.all(Route):
        routes.add(running, route)
    routes.finish(to_serve)
    return routes, policy
