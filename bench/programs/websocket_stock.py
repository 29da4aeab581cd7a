"""An echo in Daebus's JSON protocol, written by hand for gunicorn with the stock gevent-websocket worker."""

from collections.abc import Callable, Iterable
from typing import Any

import orjson

HANDLERS: dict[str, Callable[[Any], Any]] = {"echo": lambda data: data}


def app(environment: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    socket = environment["wsgi.websocket"]
    while (text := socket.receive()) is not None:
        message = orjson.loads(text)
        result = HANDLERS[message["type"]](message["data"])
        socket.send(orjson.dumps({"type": "response", "data": result}).decode())
    return []
