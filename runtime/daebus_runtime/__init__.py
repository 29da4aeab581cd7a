"""Daebus: small services on gevent that talk over Redis, HTTP and WebSockets. Every public name is here.

Names are loaded at first use. Importing `Daebus` makes the standard library cooperative; importing only `DaebusCaller`
does not.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOMES = {
    "Daebus": "app",
    "Blueprint": "blueprint",
    "DaebusCaller": "caller",
    "DaebusHttp": "servers.http.component",
    "HttpRequest": "servers.http.component",
    "HttpResponse": "servers.http.component",
    "DaebusWebSocket": "servers.websocket.component",
    "WebSocketRequest": "servers.websocket.component",
    "WebSocketResponse": "servers.websocket.component",
    "PubSubRequest": "envelope",
    "PubSubResponse": "context.responses",
    "request": "context.proxies",
    "response": "context.proxies",
    "broadcast": "context.broadcasts",
    "cache": "context.cache",
    "get_daemon": "context",
    "logger": "logs",
    "direct_logger": "logs",
    "DaebusError": "errors",
    "ConfigurationError": "errors",
    "BusRefused": "errors",
    "BusUnavailable": "errors",
    "CallTimeout": "errors",
    "DeadlineExceeded": "errors",
    "MessageTooLarge": "errors",
    "NotPermitted": "errors",
    "Overloaded": "errors",
    "RemoteError": "errors",
    "UnknownService": "errors",
}

__all__ = [
    "Blueprint",
    "BusRefused",
    "BusUnavailable",
    "CallTimeout",
    "ConfigurationError",
    "Daebus",
    "DaebusCaller",
    "DaebusError",
    "DaebusHttp",
    "DaebusWebSocket",
    "DeadlineExceeded",
    "HttpRequest",
    "HttpResponse",
    "MessageTooLarge",
    "NotPermitted",
    "Overloaded",
    "PubSubRequest",
    "PubSubResponse",
    "RemoteError",
    "UnknownService",
    "WebSocketRequest",
    "WebSocketResponse",
    "__version__",
    "broadcast",
    "cache",
    "direct_logger",
    "get_daemon",
    "logger",
    "request",
    "response",
]

if TYPE_CHECKING:
    from .app import Daebus
    from .blueprint import Blueprint
    from .caller import DaebusCaller
    from .context import get_daemon
    from .context.broadcasts import broadcast
    from .context.cache import cache
    from .context.proxies import request, response
    from .context.responses import PubSubResponse
    from .envelope import PubSubRequest
    from .errors import (
        BusRefused,
        BusUnavailable,
        CallTimeout,
        ConfigurationError,
        DaebusError,
        DeadlineExceeded,
        MessageTooLarge,
        NotPermitted,
        Overloaded,
        RemoteError,
        UnknownService,
    )
    from .logs import direct_logger, logger
    from .servers.http.component import DaebusHttp, HttpRequest, HttpResponse
    from .servers.websocket.component import DaebusWebSocket, WebSocketRequest, WebSocketResponse


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f".{home}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
