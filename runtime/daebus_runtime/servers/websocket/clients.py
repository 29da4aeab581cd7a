"""The clients of the JSON protocol, as the service sees them. Knows the messages of the protocol, but no handlers."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections import deque
from typing import Any

from ... import codec
from .endpoint import Handshake, Socket
from .frames import TEXT, Frame

EARLY_MOST = 100
"""How many messages may wait for a client that is still being accepted."""


@dataclasses.dataclass(frozen=True)
class RateLimit:
    """At most `messages` in any `seconds`."""

    messages: int
    seconds: float


def encoded(message_type: str, data: Any, **fields: Any) -> Frame:
    """A message of the protocol, encoded once for any number of clients. TypeError for data without a JSON form."""
    return Frame(TEXT, codec.dumps({"type": message_type, "data": data, **fields}))


class Client:
    """One client: its socket and its metadata."""

    def __init__(self, client_id: str, handshake: Handshake) -> None:
        self.id = client_id
        self.handshake = handshake
        self.connected_at = self.last_activity = time.time()
        self._connected = self._active = time.monotonic()
        self.messages_received = 0
        self.messages_sent = 0
        self.busy = False
        self.closing: tuple[int, str] | None = None
        """Close code and reason, once our side has started to close."""
        self._socket: Socket | None = None
        self._early: list[Frame] = []
        self._times: deque[float] = deque()

    def open(self, socket: Socket) -> None:
        """Set the socket; messages sent before are sent first."""
        self._send_early(socket)
        self._socket = socket
        self._send_early(socket)  # an OS thread may have added one just before

    def send(self, data: Any, message_type: str = "response") -> bool:
        """Send a message; returns whether the client is connected. TypeError for data without a JSON form."""
        return self.send_frame(encoded(message_type, data))

    def send_frame(self, frame: Frame) -> bool:
        """Send an encoded message. Returns at once, False if the client is gone."""
        if self._socket is None:
            if len(self._early) < EARLY_MOST and not self.closing:
                self._early.append(frame)
                return True
            return False
        try:
            self._socket.send(frame)
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
        if self._socket is None or self.closing:
            return None
        message = self._socket.receive()
        if message is not None:
            self.messages_received += 1
            self.last_activity, self._active = time.time(), time.monotonic()
        return message

    def close(self, code: int = 1000, reason: str = "") -> None:
        """Start to close, even during a handler. ValueError for a code that may not be sent."""
        self.closing = (code, reason)
        if self._socket is not None:
            self._socket.close(code, reason)

    def close_when_idle(self, code: int, reason: str) -> None:
        """Close after the answer to the current message, or at once if there is none."""
        if not self.busy:
            self.close(code, reason)
        elif self.closing is None:
            self.closing = (code, reason)

    def wait_seconds(self, limit: RateLimit) -> float:
        """Count a message. Returns 0 if it is within the limit, else the seconds until one is allowed again."""
        now = time.monotonic()
        if self.is_limited(limit):
            return self._times[0] + limit.seconds - now
        self._times.append(now)
        return 0.0

    def is_limited(self, limit: RateLimit) -> bool:
        """Whether one more message would exceed the limit."""
        now, times = time.monotonic(), self._times
        while times and now - times[0] >= limit.seconds:
            times.popleft()
        return len(times) >= limit.messages

    def metadata(self) -> dict[str, Any]:
        """For `get_client_metadata`. Times in Unix seconds; `last_activity` is that of the last received message."""
        now = time.monotonic()  # durations must not depend on the wall clock, which may be set
        return {
            "connected_at": self.connected_at,
            "path": self.handshake.path,
            "remote_address": self.handshake.remote_address,
            "secure": self.handshake.secure,
            "messages_received": self.messages_received,
            "messages_sent": self.messages_sent,
            "last_activity": self.last_activity,
            "uptime_seconds": now - self._connected,
            "idle_seconds": now - self._active,
        }

    def __repr__(self) -> str:
        return f"<Client {self.id!r}>"
