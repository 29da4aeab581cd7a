"""The management port: /livez, /readyz and /metrics. It is separate from the service's HTTP port, so that probes are
answered even if that one is busy.

/livez answers as long as the loop turns and does not check Redis, because restarting a service cannot repair the bus.
The port has the same limits and timeouts as the HTTP port, but allows few connections. Above that number the oldest one
is closed, so that nobody can lock out the probes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from .. import codec
from ..aside import run_aside
from ..metrics import CONTENT_TYPE, Metrics
from .http.connection import HttpConnection
from .http.server import Server
from .ports import open_listener

Readiness = Callable[[], list[str]]
MOST_CONNECTIONS = 128


class Management:
    """Serves the three pages. `not_ready()` returns the reasons why the service is not ready, if any."""

    def __init__(self, host: str, port: int, metrics: Metrics, not_ready: Readiness) -> None:
        self._metrics, self._not_ready = metrics, not_ready
        self._listener = open_listener(host, port, "DAEBUS_MANAGEMENT_PORT")
        self.port: int = self._listener.getsockname()[1]
        self._server = Server(
            self._listener, most=MOST_CONNECTIONS, application=self._serve, handler_class=HttpConnection, log=None
        )

    def start(self) -> None:
        self._server.start()

    def stop(self) -> None:
        self._server.stop(timeout=0.2)

    def _serve(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        status, kind, body = self._answer(environ["REQUEST_METHOD"], environ["PATH_INFO"])
        head = [("Content-Type", kind), ("Content-Length", str(len(body))), ("Cache-Control", "no-store")]
        if status.startswith("405"):
            head.append(("Allow", "GET, HEAD"))
        start_response(status, head)
        return [body]

    def _answer(self, method: str, path: str) -> tuple[str, str, bytes]:
        json = "application/json"
        if method not in ("GET", "HEAD"):
            return "405 Method Not Allowed", json, codec.dumps({"error": "Method Not Allowed"})
        if path == "/livez":
            return "200 OK", json, codec.dumps({"live": True})
        if path == "/readyz":
            reasons = self._not_ready()
            status = "503 Service Unavailable" if reasons else "200 OK"
            return status, json, codec.dumps({"ready": not reasons, "reasons": reasons})
        if path == "/metrics":
            return "200 OK", CONTENT_TYPE, run_aside(self._metrics.text)
        return "404 Not Found", json, codec.dumps({"error": "Not Found", "path": path})
