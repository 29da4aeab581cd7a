"""Names of DaebusWebSocket that only code for the original Daebus uses. Each calls the runtime's own function."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from ...context.proxies import response
from ...logs import logger
from .endpoint import Handshake

if TYPE_CHECKING:
    from ...application import Application


class OriginalNames:
    """Inherited by DaebusWebSocket for compatibility with the original."""

    logger = logger

    def attach(self: Any, daemon: Application) -> None:
        """As `app.attach(websocket)`."""
        daemon.attach(self)

    @property
    def daemon(self: Any) -> Application | None:
        """The application that this is attached to."""
        application: Application | None = self.app
        return application

    @property
    def is_running(self: Any) -> bool:
        """Whether WebSockets are served."""
        return self.app is not None and bool(self.app.is_running())

    @property
    def actual_port(self: Any) -> int | None:
        port: int | None = self.get_websocket_port()
        return port

    @property
    def client_metadata(self: Any) -> dict[str, dict[str, Any]]:
        """`get_client_metadata` of each client, by id."""
        return {client_id: client.metadata() for client_id, client in self.clients.items()}

    # --- sending --------------------------------------------------------------------------------------------------
    def send(self, data: Any, message_type: str = "response") -> None:
        """As `response.send`: to the client whose message is being handled. OutsideHandler elsewhere."""
        response.send(data, message_type)

    async def broadcast_to_all_async(self: Any, data: Any, message_type: str = "broadcast") -> int:
        """As `broadcast_to_all`, which never blocks. The next two methods are alike."""
        return int(self.broadcast_to_all(data, message_type))

    async def send_to_client_async(self: Any, client_id: str, data: Any, message_type: str = "message") -> bool:
        return bool(self.send_to_client(client_id, data, message_type))

    async def broadcast_to_clients_async(
        self: Any, client_ids: Iterable[str], data: Any, message_type: str = "message"
    ) -> dict[str, bool]:
        return dict(self.broadcast_to_clients(client_ids, data, message_type))

    # --- ids and rates --------------------------------------------------------------------------------------------
    def generate_client_id(self: Any, websocket: Handshake, path: str) -> str:
        """The client id for a handshake."""
        return str(self.sessions.name(websocket, path))

    @property
    def client_id_generator(self: Any) -> Callable[[Any, str], Any] | None:
        generator: Callable[[Any, str], Any] | None = self.sessions.make_id
        return generator

    @property
    def rate_limit_enabled(self: Any) -> bool:
        return self.sessions.limit is not None

    @property
    def rate_limit_messages(self: Any) -> int:
        return int(self.sessions.limit.messages) if self.sessions.limit else 60

    @property
    def rate_limit_window(self: Any) -> float:
        return float(self.sessions.limit.seconds) if self.sessions.limit else 60

    def is_rate_limited(self: Any, client_id: str) -> bool:
        """Whether a message of the client would be refused now."""
        client, limit = self.clients.get(client_id), self.sessions.limit
        return client is not None and limit is not None and bool(client.is_limited(limit))

    def record_message_received(self: Any, client_id: str) -> None:
        """Count a message against the client's rate."""
        client, limit = self.clients.get(client_id), self.sessions.limit
        if client is not None and limit is not None:
            client.wait_seconds(limit)
