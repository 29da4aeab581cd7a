"""Which ports a service with HTTP or WebSockets listens on, and whether it has what its declarations need."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from ..errors import ConfigurationError, MissingComponent
from ..registry import Route, Socket, SocketHook

if TYPE_CHECKING:
    from ..app import Daebus
    from ..settings import Settings


@dataclasses.dataclass(frozen=True)
class Listeners:
    """Port numbers, 0 for a free one. main: the one gunicorn opens; websocket: a second one, for WebSockets alone."""

    main: int
    main_setting: str
    websocket: int | None


def listeners(app: Daebus, settings: Settings) -> Listeners:
    """The ports of an application that has a DaebusHttp or a DaebusWebSocket. ConfigurationError for neither, and for
    WebSockets alone without a port."""
    second = settings.websocket_port if app.websocket is not None else None
    if app.http is not None:
        shared = second is None or (second == settings.http_port and second != 0)
        return Listeners(settings.http_port, "DAEBUS_HTTP_PORT", None if shared else second)
    if app.websocket is None:
        raise ConfigurationError("the service has no HTTP and no WebSocket: it opens no port")
    if second is None:
        raise ConfigurationError(
            "DaebusWebSocket has no port to listen on: attach a DaebusHttp, whose port it shares, or write "
            "DaebusWebSocket(port=8081), or set DAEBUS_WEBSOCKET_PORT"
        )
    return Listeners(second, "DAEBUS_WEBSOCKET_PORT", None)


def check_components(app: Daebus) -> None:
    """MissingComponent for routes and sockets that nothing would serve."""
    routes = app.registry.all(Route)
    if routes and app.http is None:
        raise MissingComponent(
            f"no HTTP component is attached for {routes[0].title} (at {routes[0].where}): app.attach(DaebusHttp())"
        )
    sockets = [*app.registry.all(Socket), *app.registry.all(SocketHook)]
    if sockets and app.websocket is None:
        raise MissingComponent(
            f"no WebSocket component is attached for {sockets[0].title} (at {sockets[0].where}): "
            "app.attach(DaebusWebSocket())"
        )
