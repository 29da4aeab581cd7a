"""Which ports a service listens on, how they are opened, and the check that its components are attached."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import socket

from ..errors import AddressInUse, ConfigurationError, MissingComponent
from ..registry import Route, Socket, SocketHook
from ..running import Running
from ..settings import authority


@dataclasses.dataclass(frozen=True)
class Ports:
    """Port numbers; 0 means any free one. main: opened by gunicorn; websocket: a second one, only for WebSockets."""

    main: int
    main_setting: str
    websocket: int | None


def ports_of(running: Running) -> Ports:
    """The ports of a service with a DaebusHttp or a DaebusWebSocket. ConfigurationError if it has neither, or only a
    DaebusWebSocket without a port."""
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
    """MissingComponent for routes and sockets without a component that serves them."""
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


ANY, ANY_IPV4 = "::", "0.0.0.0"
"""All addresses of this machine: IPv6 and IPv4; only IPv4."""
BACKLOG = 1024


def open_listener(host: str, port: int, setting: str) -> socket.socket:
    """A listening socket. `::` accepts IPv6 and IPv4, or only IPv4 on a machine without IPv6. AddressInUse names the
    port and its setting; ConfigurationError gives any other reason."""
    where = host.strip("[]")
    try:
        return _listen(where, port)
    except PermissionError:
        raise ConfigurationError(f"{setting}: this user may not open port {port}; choose one from 1024") from None
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise AddressInUse(
                f"{setting}: port {port} on {host} is taken by another program; stop that one or choose another port"
            ) from None
        raise ConfigurationError(
            f"{setting}: cannot listen on {authority(where, port)}: {error.strerror or error}"
        ) from None


def _listen(host: str, port: int) -> socket.socket:
    try:
        return _bound(socket.AF_INET6 if ":" in host else socket.AF_INET, host, port)
    except OSError as error:
        if host == ANY and error.errno in (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL):
            return _bound(socket.AF_INET, ANY_IPV4, port)
        if isinstance(error, socket.gaierror) and ":" not in host:
            return _bound(socket.AF_INET6, host, port)  # a name with an address of the other family only
        raise


def _bound(family: socket.AddressFamily, host: str, port: int) -> socket.socket:
    with contextlib.ExitStack() as unless_bound:
        listener = unless_bound.enter_context(socket.socket(family, socket.SOCK_STREAM))
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # Otherwise the body, a second write, would wait for the client's acknowledgement of the head (Nagle).
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, host != ANY)
        listener.bind((host, port))
        listener.listen(BACKLOG)
        unless_bound.pop_all()
    return listener
