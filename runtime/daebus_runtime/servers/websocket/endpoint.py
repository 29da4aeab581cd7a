"""The interface of WebSocket endpoints, and the handshake. Knows nothing of frames and message formats.

An `Endpoint` decides on each handshake. An accepted one is upgraded with its `Terms` and then served.
"""

from __future__ import annotations

import base64
import binascii
import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from ..http.requests import Headers, parse_cookies, parse_query
from .frames import Frame

UPGRADE = "daebus.upgrade"
"""Key in the WSGI environ of a WebSocket handshake: a function that takes the Terms, accepts the handshake and returns
the Connection."""


class Socket(Protocol):
    """One WebSocket: a `connection.Connection`, or one in memory for tests. `send` and `close` return at once and may
    be called from any greenlet and thread.

    receive: the next message, None once the connection has ended. send: OSError if it has ended. close: starts to
    close; soon `receive` returns None.
    """

    def receive(self) -> str | bytes | None: ...

    def send(self, message: str | bytes | Frame) -> None: ...

    def close(self, code: int = 1000, message: str = "") -> None: ...


@dataclasses.dataclass(frozen=True)
class Handshake:
    """The HTTP request that asks for a WebSocket. `remote_address`: (host, port)."""

    path: str = "/"
    headers: Headers = dataclasses.field(default_factory=Headers)
    query: dict[str, str] = dataclasses.field(default_factory=dict)
    remote_address: tuple[str, int] = ("", 0)
    secure: bool = False

    @property
    def request_headers(self) -> Headers:
        """The headers, under the name that the original Daebus uses."""
        return self.headers

    @property
    def cookies(self) -> dict[str, str]:
        return parse_cookies(self.headers.get("Cookie"))

    @classmethod
    def of(cls, environ: Mapping[str, Any]) -> Handshake:
        """The handshake in a WSGI environ. ValueError for a query that is not UTF-8."""
        return cls(
            environ.get("PATH_INFO", "/").encode("latin-1").decode("utf-8", "replace"),
            Headers.of(environ),
            parse_query(environ.get("QUERY_STRING", "")),
            (environ.get("REMOTE_ADDR", ""), int(environ.get("REMOTE_PORT") or 0)),
            environ.get("wsgi.url_scheme") == "https",
        )


@dataclasses.dataclass(frozen=True)
class Terms:
    """Parameters of one connection. message_limit: most bytes of a client's message; dropped: called for a client that
    is dropped; subprotocol: one that the client offered; reserved: reserved bits that an extension uses (frames.py)."""

    message_limit: int
    dropped: Callable[[str], None]
    subprotocol: str | None = None
    reserved: int = 0


@dataclasses.dataclass(frozen=True)
class Refusal:
    """The answer to a refused handshake: HTTP status, JSON body and header fields."""

    status: int
    content: dict[str, Any]
    headers: tuple[tuple[str, str], ...] = ()


class Accepted(Protocol):
    """A client whose handshake is accepted. `serve` blocks until the socket has ended. If there is no socket after all,
    `end` is called instead."""

    @property
    def terms(self) -> Terms: ...

    def serve(self, socket: Socket) -> None: ...

    def end(self) -> None: ...


class Endpoint(Protocol):
    """Decides on handshakes before the upgrade; `accept` may block."""

    def accept(self, handshake: Handshake) -> Accepted | Refusal: ...


# --- the handshake ----------------------------------------------------------------------------------------------------
def asks_for_websocket(environ: dict[str, Any]) -> bool:
    """Whether a request is a WebSocket handshake, valid or not."""
    if "HTTP_UPGRADE" not in environ:
        return False
    if environ.get("SERVER_PROTOCOL") == "HTTP/1.0" and "HTTP_SEC_WEBSOCKET_KEY" not in environ:
        return False  # in HTTP/1.0 the field `Upgrade` is ignored (RFC 9110, 7.8)
    upgrade = [word.strip().lower() for word in environ["HTTP_UPGRADE"].split(",")]
    connection = [word.strip().lower() for word in environ.get("HTTP_CONNECTION", "").split(",")]
    return "websocket" in upgrade and "upgrade" in connection


def serve(environ: dict[str, Any], endpoint: Endpoint | None) -> Refusal | None:
    """Upgrade a request and serve its WebSocket until it has ended, or return a refusal. endpoint: None for a service
    without WebSockets."""
    fault = _fault(environ)
    if fault is not None:
        status, text = fault
        allow = [("Allow", "GET")] if status == 405 else []
        return Refusal(status, {"error": text}, (("Sec-WebSocket-Version", "13"), *allow))
    if endpoint is None or UPGRADE not in environ:
        return Refusal(400, {"error": "no WebSocket is served here"})
    try:
        outcome = endpoint.accept(Handshake.of(environ))
    except ValueError:
        return Refusal(400, {"error": "the query is not URL-encoded UTF-8"})
    if isinstance(outcome, Refusal):
        return outcome
    try:
        socket = environ[UPGRADE](outcome.terms)
    except BaseException:
        outcome.end()
        raise
    outcome.serve(socket)
    return None


def _fault(environ: dict[str, Any]) -> tuple[int, str] | None:
    """The error in a handshake, if any: (HTTP status, text)."""
    if environ["REQUEST_METHOD"] != "GET":
        return 405, "a WebSocket handshake is a GET request"
    if environ.get("SERVER_PROTOCOL") != "HTTP/1.1":
        return 400, "a WebSocket handshake needs HTTP/1.1"
    if environ.get("CONTENT_LENGTH", "0").strip("0") or environ.get("HTTP_TRANSFER_ENCODING"):
        return 400, "a WebSocket handshake has no body"
    if environ.get("HTTP_SEC_WEBSOCKET_VERSION") != "13":
        return 426, "the WebSocket version spoken here is 13"
    try:
        key = base64.b64decode(environ.get("HTTP_SEC_WEBSOCKET_KEY", "").strip(), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    return None if len(key) == 16 else (400, "Sec-WebSocket-Key is not 16 bytes in Base64")
