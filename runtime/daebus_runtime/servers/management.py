"""The management port: /livez, /readyz and /metrics, apart from the service's own HTTP, so that probes get in when
that is busy.

/livez answers for as long as the loop turns and never asks Redis: restarting a service does not mend a bus.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable
from typing import Any

from gevent.pywsgi import WSGIServer

from .. import codec
from ..errors import AddressInUse, ConfigurationError
from ..metrics import CONTENT_TYPE, Metrics

Readiness = Callable[[], list[str]]


def open_listener(host: str, port: int, setting: str) -> socket.socket:
    """A listening socket. AddressInUse names the port and the setting that chose it."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    # Without it head and body, two writes, wait for one another's acknowledgement.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    try:
        listener.bind((host, port))
    except PermissionError:
        listener.close()
        raise ConfigurationError(f"{setting}: this user may not open port {port}; choose one from 1024") from None
    except OSError as error:
        listener.close()
        if error.errno in (98, 48):
            raise AddressInUse(
                f"{setting}: port {port} on {host} is taken by another program; stop that one or choose another port"
            ) from None
        raise ConfigurationError(f"{setting}: cannot listen on {host}:{port}: {error.strerror or error}") from None
    listener.listen(1024)
    return listener


class Management:
    """Serves the three pages. `not_ready()` gives the reasons why the service is not ready, none when it is."""

    def __init__(self, host: str, port: int, metrics: Metrics, not_ready: Readiness) -> None:
        self._metrics, self._not_ready = metrics, not_ready
        self._listener = open_listener(host, port, "DAEBUS_MANAGEMENT_PORT")
        self.port: int = self._listener.getsockname()[1]
        self._server = WSGIServer(self._listener, self._serve, log=None, error_log=None)

    def start(self) -> None:
        self._server.start()

    def stop(self) -> None:
        self._server.stop(timeout=0.2)

    def _serve(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        status, kind, body = self._answer(environ["REQUEST_METHOD"], environ["PATH_INFO"])
        head = [("Content-Type", kind), ("Content-Length", str(len(body))), ("Cache-Control", "no-store")]
        start_response(status, head)
        return [] if environ["REQUEST_METHOD"] == "HEAD" else [body]

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
            return "200 OK", CONTENT_TYPE, self._metrics.text()
        return "404 Not Found", json, codec.dumps({"error": "Not Found", "path": path})
