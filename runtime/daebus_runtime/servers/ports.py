"""Which ports a service with HTTP or WebSockets listens on, and whether it has what its declarations need."""

from __future__ import annotations

import dataclasses

from ..errors import ConfigurationError, MissingComponent
from ..registry import Route, Socket, SocketHook
from ..running import Running


@dataclasses.dataclass(frozen=True)
class Ports:
    """Port numbers, 0 for a free one. main: the one gunicorn opens; websocket: a second one, for WebSockets alone."""

    main: int
    main_setting: str
    websocket: int | None


def ports_of(running: Running) -> Ports:
    """The ports of a service that has a DaebusHttp or a DaebusWebSocket. ConfigurationError for neither, and for
    WebSockets alone without a port."""
    settings = running.settings
    second = settings.websocket_port if running.websocket is not None else None
    if running.http is not None:
        shared = second is None or (second == settings.http_port and second != 0)
        return Ports(settings.http_port, "DAEBUS_HTTP_PORT", None if shared else second)
    if running.websocket is None:
        raise ConfigurationError("the service has no HTTP and no WebSocket: it opens no port")
    if second is None:
        raise ConfigurationError(
            "DaebusWebSocket has no port to listen on: attach a DaebusHttp, whose port it shares, or write "
            "DaebusWebSocket(port=8081), or set DAEBUS_WEBSOCKET_PORT"
        )
    return Ports(second, "DAEBUS_WEBSOCKET_PORT", None)


def check_components(running: Running) -> None:
    """MissingComponent for routes and sockets that nothing would serve."""
    routes = running.registry.all(Route)
    if routes and running.http is None:
        raise MissingComponent(
            f"no HTTP component is attached for {routes[0].title} (at {routes[0].where}): app.attach(DaebusHttp())"
        )
    sockets = [*running.registry.all(Socket), *running.registry.all(SocketHook)]
    if sockets and running.websocket is None:
        raise MissingComponent(
            f"no WebSocket component is attached for {sockets[0].title} (at {sockets[0].where}): "
            "app.attach(DaebusWebSocket())"
        )
