"""The WebSocket request and response objects for handlers. Knows nothing of connections."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ...context import get_daemon
from ...envelope import progress_data
from ...logs import runtime_logger
from ..http.requests import Headers
from .clients import Client, encoded
from .endpoint import Handshake


class SocketMessage:
    """First argument of a socket handler: the message's data itself (`data.get("x")`), with the attributes `.data`
    (again the data: `req.data.get("x")`), `.type` and `.client_id`. Numbers, booleans and null have no attributes."""

    type: str = ""
    client_id: str = ""

    @property
    def data(self) -> Any:
        return self


class _Object(dict[str, Any], SocketMessage):
    pass


class _Array(list[Any], SocketMessage):
    pass


class _Text(str, SocketMessage):
    pass


def as_message(data: Any, message_type: str, client_id: str) -> Any:
    """The data as a SocketMessage."""
    message: Any
    if isinstance(data, dict):
        message = _Object(data)
    elif isinstance(data, list):
        message = _Array(data)
    elif isinstance(data, str):
        message = _Text(data)
    else:
        return data
    message.type, message.client_id = message_type, client_id
    return message


class WebSocketRequest:
    """`request` in a socket handler or hook: a WebSocket message, or the handshake.

    client_id; data: the message's data; type (also message_type); payload, raw: the whole message; request_id: its
    `id`; path, headers (case-insensitive), query, cookies, remote_address: of the handshake; websocket: the client,
    with `send(data, message_type)`.
    """

    service = "websocket"
    reply_to = None

    def __init__(
        self, client_id: str, message: Mapping[str, Any], websocket: Any = None, handshake: Handshake | None = None
    ) -> None:
        self.client_id = client_id
        self.payload = self.raw = message
        self.websocket = websocket
        self.type = self.message_type = str(message.get("type", ""))
        self.data: Any = message.get("data", {})
        self.request_id = message.get("id")
        self._handshake = handshake or getattr(websocket, "handshake", None) or Handshake()

    @property
    def path(self) -> str:
        return self._handshake.path

    @property
    def headers(self) -> Headers:
        return self._handshake.headers

    @property
    def query(self) -> dict[str, str]:
        return self._handshake.query

    @property
    def cookies(self) -> dict[str, str]:
        return self._handshake.cookies

    @property
    def remote_address(self) -> tuple[str, int]:
        return self._handshake.remote_address

    @property
    def traceparent(self) -> str | None:
        value: str | None = self.headers.get("traceparent")
        return value


class WebSocketResponse:
    """How a socket handler can answer its client, besides returning a result. Each method sends at once and returns
    None, so `return response.send(x)` sends only one frame."""

    def __init__(self, websocket: Client, client_id: str, **fields: Any) -> None:
        self.websocket = websocket
        self.client_id = client_id
        self._fields = fields  # the message's `id`, if it has one

    def send(self, data: Any = None, message_type: str = "response", target_sid: str | None = None) -> None:
        """Send a frame: `{"type": message_type, "data": data}`. TypeError for data without a JSON form.

        target_sid: the id of another client to send to instead; an unknown id logs a warning.
        """
        if not isinstance(message_type, str):
            raise TypeError(f"a message type is a text, not {message_type!r}")
        if target_sid is not None and target_sid != self.client_id:
            if not self.send_to_client(target_sid, data, message_type):
                runtime_logger.warning("there is no WebSocket client %r; it was sent nothing", target_sid)
            return
        self.websocket.send_frame(encoded(message_type, data, **self._fields))

    success = send

    def error(self, err: Any, message_type: str = "error", target_sid: str | None = None) -> None:
        """Send `{"type": "error", "data": {"error": <text of err>}}`."""
        self.send({"error": str(err)}, message_type, target_sid)

    def progress(
        self, payload: Any, percentage: float | None = None, *, progress_percentage: float | None = None
    ) -> None:
        """Send `{"type": "progress", "data": payload}`, with the percentage in it, as an action does."""
        self.send(
            progress_data(payload, percentage if progress_percentage is None else progress_percentage), "progress"
        )

    # --- as the DaebusWebSocket has them --------------------------------------------------------------------------
    def send_to_client(self, client_id: str, data: Any, message_type: str = "message") -> bool:
        return bool(get_daemon().websocket.send_to_client(client_id, data, message_type))

    def broadcast_to_all(self, data: Any, message_type: str = "broadcast") -> int:
        return int(get_daemon().websocket.broadcast_to_all(data, message_type))

    def broadcast_to_clients(
        self, client_ids: Iterable[str], data: Any, message_type: str = "message"
    ) -> dict[str, bool]:
        return dict(get_daemon().websocket.broadcast_to_clients(client_ids, data, message_type))
