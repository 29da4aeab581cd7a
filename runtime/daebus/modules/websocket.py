"""`DaebusWebSocket` and what its handlers see, where the original has them."""

from __future__ import annotations

from daebus_runtime import DaebusWebSocket, WebSocketRequest, WebSocketResponse

__all__ = ["DaebusWebSocket", "WebSocketRequest", "WebSocketResponse"]
