"""The clients of the JSON protocol, as the service sees them. Knows the protocol's frames, not its handlers.

A `Socket` is anything that carries messages: a `connection.Connection`, or a test's own in memory.
"""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections import deque
from collections.abc import Mapping
from typing import Any, Protocol

from ... import codec
from ..http.requests import Headers, parse_cookies, parse_query

EARLY_MOST = 100
"""So many messages may be sent to a client while it is still being accepted."""


class Socket(Protocol):
    """One WebSocket. `send` and `close` return at once and may be called from any greenlet and thread.

    receive: the next message, None once the connection has ended. send: OSError when it has ended. close: begins the
    end; `receive` then returns None soon.
    """

    def receive(self) -> str | bytes | None: ...

    def send(self, message: str | bytes) -> None: ...

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
class RateLimit:
    """At most `messages` in any `seconds`."""

    messages: int
    seconds: float


def text(message_type: str, data: Any, **fields: Any) -> str:
    """A frame of the protocol; TypeError for data that has no JSON form."""
    return codec.dumps({"type": message_type, "data": data, **fields}).decode()


class Client:
    """One client: its socket, and what is known of it."""

    def __init__(self, client_id: str, handshake: Handshake) -> None:
        self.id = client_id
        self.handshake = handshake
        self.connected_at = time.time()
        self.last_activity = self.connected_at
        self.messages_received = 0
        self.messages_sent = 0
        self.busy = False
        self.parting: tuple[int, str] | None = None
        self._socket: Socket | None = None
        self._early: list[str] = []
        self._times: deque[float] = deque()

    def open(self, socket: Socket) -> None:
        """The socket is there; what was sent before goes first."""
        self._send_early(socket)
        self._socket = socket
        self._send_early(socket)  # from a thread that looked just before

    def send(self, data: Any, message_type: str = "response") -> bool:
        """Send a frame; whether the client is connected. TypeError for data that has no JSON form."""
        return self.send_text(text(message_type, data))

    def send_text(self, message: str) -> bool:
        """Send an encoded frame; returns at once, False when the client has gone."""
        if self._socket is None:
            if len(self._early) < EARLY_MOST and not self.parting:
                self._early.append(message)
                return True
            return False
        try:
            self._socket.send(message)
        except OSError:
            return False
        self.messages_sent += 1
        return True

    def _send_early(self, socket: Socket) -> None:
        with contextlib.suppress(OSError):
            while self._early:
                socket.send(self._early.pop(0))
                self.messages_sent += 1

    def receive(self) -> str | bytes | None:
        if self._socket is None or self.parting:
            return None
        message = self._socket.receive()
        if message is not None:
            self.messages_received += 1
            self.last_activity = time.time()
        return message

    def close(self, code: int = 1000, reason: str = "") -> None:
        """Begin the end, whatever the client is at. ValueError for a code that may not be sent."""
        self.parting = (code, reason)
        if self._socket is not None:
            self._socket.close(code, reason)

    def part(self, code: int, reason: str) -> None:
        """End once the message that is being handled is answered, at once when there is none."""
        if not self.busy:
            self.close(code, reason)
        elif self.parting is None:
            self.parting = (code, reason)

    def wait_seconds(self, limit: RateLimit) -> float:
        """Count a message: 0 when it is within the limit, else how long until the next one is."""
        now, times = time.monotonic(), self._times
        while times and now - times[0] >= limit.seconds:
            times.popleft()
        if len(times) >= limit.messages:
            return times[0] + limit.seconds - now
        times.append(now)
        return 0.0

    def metadata(self) -> dict[str, Any]:
        """What `get_client_metadata` tells; times in Unix seconds, `last_activity` is the last message received."""
        now = time.time()
        return {
            "connected_at": self.connected_at,
            "path": self.handshake.path,
            "remote_address": self.handshake.remote_address,
            "secure": self.handshake.secure,
            "messages_received": self.messages_received,
            "messages_sent": self.messages_sent,
            "last_activity": self.last_activity,
            "uptime_seconds": now - self.connected_at,
            "idle_seconds": now - self.last_activity,
        }

    def __repr__(self) -> str:
        return f"<Client {self.id!r}>"
