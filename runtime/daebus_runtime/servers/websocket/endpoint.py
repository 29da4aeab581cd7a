"""What answers WebSockets on a path, and what is agreed for one of them. Knows no frame and no protocol of messages.

An `Endpoint` decides on each handshake. One that is accepted is upgraded under its `Terms` and then served.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from ..http.requests import Headers, parse_cookies, parse_query
from .frames import Frame


class Socket(Protocol):
    """One WebSocket: a `connection.Connection`, or a test's own in memory. `send` and `close` return at once and may be
    called from any greenlet and thread.

    receive: the next message, None once the connection has ended. send: OSError when it has ended. close: begins the
    end; `receive` then returns None soon.
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
        """The headers, under the name that the original's websocket has for them."""
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
    """What holds for one connection. message_limit: bytes a client's message may have; dropped: counts a lost client;
    subprotocol: one of those that the client offered; reserved: reserved bits that an extension uses (frames.py)."""

    message_limit: int
    dropped: Callable[[str], None]
    subprotocol: str | None = None
    reserved: int = 0


@dataclasses.dataclass(frozen=True)
class Refusal:
    """Why a handshake is not accepted: an HTTP status and what its JSON body says."""

    status: int
    content: dict[str, Any]


class Accepted(Protocol):
    """A client whose handshake is accepted. One of the two is called: `serve` blocks until the socket has ended; `end`
    instead, when there will be no socket after all."""

    @property
    def terms(self) -> Terms: ...

    def serve(self, socket: Socket) -> None: ...

    def end(self) -> None: ...


class Endpoint(Protocol):
    """Decides on handshakes, before the upgrade; may wait."""

    def accept(self, handshake: Handshake) -> Accepted | Refusal: ...
