"""`DaebusWebSocket`: a service attaches it to serve WebSockets, and uses it to send to their clients.

All methods may be called from any handler, task or thread, and do not wait for clients.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import gevent

from ...errors import RegistrationError
from ...registry import Declarations, SocketHook
from ...running import Running
from ...settings import UNSET, parse
from ...transport import home
from ...turn import Share
from ..http.application import make_wsgi
from ..ports import ports_of
from . import frames
from .clients import Client, RateLimit, encoded
from .endpoint import Accepted, Endpoint, Handshake, Refusal
from .messages import SocketMessage, WebSocketRequest, WebSocketResponse
from .original import OriginalNames
from .sessions import Sessions

if TYPE_CHECKING:
    from ...application import Application

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])
CLOSED, ENDING = "Server closed connection", "Server shutting down"
POLL_SECONDS = 0.02

__all__ = ["DaebusWebSocket", "Handshake", "Refusal", "SocketMessage", "WebSocketRequest", "WebSocketResponse"]


class DaebusWebSocket(OriginalNames):
    """WebSockets for a service: `app.attach(DaebusWebSocket())`.

    They share the port of DaebusHttp, on any path. `port`, or `DAEBUS_WEBSOCKET_PORT`, which has precedence, opens a
    second port only for them (0: any free one), as code for older versions expects. Without DaebusHttp a port must be
    given.
    """

    kind = "websocket"

    def __init__(self, port: int | None = None) -> None:
        self.port = None if port is None else parse("websocket_port", port, "DaebusWebSocket(port)")
        self.arguments: dict[str, Any] = {"websocket_port": UNSET if port is None else self.port}
        self.bound_port: int | None = None
        """The port that WebSockets are served on; set by the worker."""
        self.app: Application | None = None
        self.sessions = Sessions()
        self._declared = Declarations()

    def bind(self, app: Application) -> None:
        """Called by `attach`."""
        if self.app is not None:
            raise RegistrationError("this DaebusWebSocket is attached to another application already")
        self.app = app
        app.make_wsgi = make_wsgi
        self._declared.registry.part_of(app.registry)
        app.metrics.gauge("daebus_websocket_clients", "Open WebSockets.", self.get_client_count)

    def start(self, running: Running) -> None:
        """Called when the service starts, in the process that serves."""
        self.sessions.start(running)

    # --- declaring ------------------------------------------------------------------------------------------------
    def socket(self, type: str = UNSET, *, blocking: bool = False, message_type: str = UNSET) -> Callable[[F], F]:
        """As `app.socket`. The next three methods are also as those of the application."""
        return self._declared.socket(type, blocking=blocking, message_type=message_type)

    def socket_connect(self, *, blocking: bool = False) -> Callable[[F], F]:
        return self._declared.socket_connect(blocking=blocking)

    def socket_disconnect(self, *, blocking: bool = False) -> Callable[[F], F]:
        return self._declared.socket_disconnect(blocking=blocking)

    def socket_register(self, *, blocking: bool = False) -> Callable[[F], F]:
        return self._declared.socket_register(blocking=blocking)

    def on_connect(self, func: F) -> F:
        """Run `func(client_id)` once a client is open, so that messages can be sent to it."""
        self._declared.registry.add(SocketHook(func, "on_connect"))
        return func

    def on_disconnect(self, func: F) -> F:
        """Run `func(client_id)` after a client is gone."""
        self._declared.registry.add(SocketHook(func, "on_disconnect"))
        return func

    def set_client_id_generator(self, generator_func: Callable[[Any, str], Any]) -> None:
        """Name clients by `generator_func(websocket, path)`; `websocket` has the handshake's headers, query, cookies
        and remote_address. A client whose id is taken replaces the older one, which is closed with 4001."""
        self.sessions.make_id = generator_func

    def enable_rate_limiting(self, max_messages: int = 60, window_seconds: float = 60) -> None:
        """Refuse a client's messages beyond `max_messages` in any `window_seconds`."""
        if max_messages < 1 or window_seconds <= 0:
            raise ValueError(
                f"a rate is a number of messages from 1 in a time above 0, not {max_messages} in {window_seconds}"
            )
        self.sessions.limit = RateLimit(max_messages, window_seconds)

    def disable_rate_limiting(self) -> None:
        self.sessions.limit = None

    # --- sending --------------------------------------------------------------------------------------------------
    def send_to_client(self, client_id: str, data: Any, message_type: str = "message") -> bool:
        """Send `{"type": message_type, "data": data}`; False if there is no such client. TypeError for data without a
        JSON form."""
        frame = encoded(message_type, data)
        session = self.sessions.open.get(client_id) or self.sessions.opening.get(client_id)
        return session is not None and session.client.send_frame(frame)

    def broadcast_to_all(self, data: Any, message_type: str = "broadcast") -> int:
        """Send to every client; returns their number."""
        frame = encoded(message_type, data)
        return sum(client.send_frame(frame) for client in _in_turns(self.clients.values()))

    def broadcast_to_clients(
        self, client_ids: Iterable[str], data: Any, message_type: str = "message"
    ) -> dict[str, bool]:
        """Send to some clients; returns for each id whether it is connected."""
        frame, clients = encoded(message_type, data), self.clients
        return {one: one in clients and clients[one].send_frame(frame) for one in _in_turns(client_ids)}

    safe_send_to_client = send_to_client
    safe_broadcast_to_all = broadcast_to_all
    safe_broadcast_to_clients = broadcast_to_clients

    # --- knowing --------------------------------------------------------------------------------------------------
    @property
    def clients(self) -> dict[str, Client]:
        """The connected clients by id, as a copy."""
        return {client_id: session.client for client_id, session in list(self.sessions.open.items())}

    def get_clients(self) -> list[str]:
        """The ids of the connected clients."""
        return list(self.sessions.open)

    def get_client_count(self) -> int:
        return len(self.sessions.open)

    def is_client_connected(self, client_id: str) -> bool:
        return client_id in self.sessions.open

    def get_client_metadata(self, client_id: str) -> dict[str, Any] | None:
        """connected_at, last_activity (Unix seconds), path, remote_address (host, port), secure, messages_received,
        messages_sent, uptime_seconds, idle_seconds; None if there is no such client."""
        session = self.sessions.open.get(client_id)
        return session.client.metadata() if session is not None else None

    def get_clients_by_filter(self, filter_func: Callable[[str, Mapping[str, Any]], Any]) -> list[str]:
        """The ids for which `filter_func(id, metadata)` is true."""
        return [one for one, client in self.clients.items() if filter_func(one, client.metadata())]

    def get_websocket_port(self) -> int | None:
        """The port to connect to: the open one, else the configured one; None if there is none."""
        if self.bound_port is not None or self.app is None:
            return self.bound_port or self.port
        ports = ports_of(self.app.running())
        return ports.main if ports.websocket is None else ports.websocket

    # --- ending ---------------------------------------------------------------------------------------------------
    def disconnect_client(self, client_id: str, code: int = frames.NORMAL, reason: str = CLOSED) -> bool:
        """Close one client's connection; False if there is no such client. ValueError for a code not to be sent."""
        frames.check_code(code)
        session = self.sessions.open.get(client_id)
        if session is not None:
            session.client.close(code, reason)
        return session is not None

    def disconnect_all_clients(self, code: int = frames.NORMAL, reason: str = ENDING) -> int:
        """Close every client's connection; returns their number."""
        frames.check_code(code)
        clients = self.clients.values()
        for client in _in_turns(clients):
            client.close(code, reason)
        return len(clients)

    def graceful_shutdown(self, timeout: float = 5.0, message: Any = None) -> None:
        """Accept no more clients, send `{"type": "server_shutdown", "data": message}` to the connected ones, give them
        `timeout` seconds to leave, and close the rest."""
        self.sessions.closed = True
        self.broadcast_to_all({} if message is None else message, "server_shutdown")
        deadline = time.monotonic() + timeout
        while self.sessions.open and time.monotonic() < deadline:
            time.sleep(POLL_SECONDS)
        self.disconnect_all_clients()

    # --- told by the servers --------------------------------------------------------------------------------------
    def endpoint(self, path: str) -> Endpoint:
        """The endpoint for a path: so far the JSON protocol on every path. Other endpoints would be chosen here."""
        return self.sessions

    def accept(self, handshake: Handshake) -> Accepted | Refusal:
        """Decide on a handshake: a client to serve (see endpoint.py), or a refusal."""
        return self.endpoint(handshake.path).accept(handshake)

    def retire(self) -> None:
        """The service is stopping, or its worker: accept no more clients, and close every one with 1001, after the
        answer to its current message."""
        self.sessions.closed = True
        for client in _in_turns(self.clients.values()):
            client.close_when_idle(frames.GOING_AWAY, "the service is stopping")


def _in_turns(clients: Iterable[T]) -> Iterator[T]:
    """The clients, with turns of the loop in between, because there may be thousands."""
    here = home.current()
    share = Share() if here.is_here() and gevent.getcurrent() is not here.hub else None
    for client in clients:
        if share is not None:
            share.take()
        yield client
