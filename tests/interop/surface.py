"""Prints the public surface of the `daebus` that is installed, as JSON; run on the original's interpreter.

{class: {"methods": {name: [[parameter, kind, default or null], …]}, "attributes": [name, …]}}; parameters without
`self`.
"""

from __future__ import annotations

import importlib
import inspect
import json
import sys
from types import SimpleNamespace
from typing import Any

import daebus

MODULES = ("blueprint", "caller", "context", "daemon", "http", "logger", "pubsub", "redis_client", "websocket")


def parameters(function: Any) -> list[list[Any]]:
    found = []
    for parameter in inspect.signature(function).parameters.values():
        default = parameter.default
        plain = default is None or isinstance(default, (bool, int, float, str))
        given = default is not inspect.Parameter.empty
        found.append([parameter.name, parameter.kind.name, [default] if given and plain else None, given])
    return found


def methods(kind: type) -> dict[str, Any]:
    names = [name for name in vars(kind) if name == "__init__" or not name.startswith("_")]
    return {name: parameters(getattr(kind, name))[1:] for name in names if callable(getattr(kind, name))}


def attributes(made: Any) -> list[str]:
    return sorted(name for name in vars(made) if not name.startswith("_"))


SOCKET: Any = SimpleNamespace(headers={})
MADE = {
    "Daebus": lambda: daebus.Daebus("surface"),
    "Blueprint": lambda: daebus.Blueprint("surface"),
    "DaebusCaller": None,  # no instance: the original's constructor connects
    "DaebusHttp": lambda: daebus.DaebusHttp(),
    "DaebusWebSocket": lambda: daebus.DaebusWebSocket(8081),
    "HttpRequest": lambda: daebus.HttpRequest({}),
    "HttpResponse": lambda: daebus.HttpResponse(),
    "PubSubRequest": lambda: daebus.PubSubRequest({}),
    "PubSubResponse": None,  # it has no public attributes
    "WebSocketRequest": lambda: daebus.WebSocketRequest("id", {}, SOCKET),
    "WebSocketResponse": lambda: daebus.WebSocketResponse(SOCKET, "id"),
}

if __name__ == "__main__":
    surface = {
        name: {"methods": methods(getattr(daebus, name)), "attributes": attributes(make()) if make else []}
        for name, make in MADE.items()
    }
    modules = {}
    for name in MODULES:
        module = importlib.import_module(f"daebus.modules.{name}")
        own = {key for key, value in vars(module).items() if getattr(value, "__module__", "").startswith("daebus")}
        modules[name] = sorted(key for key in own if not key.startswith("_"))
    exported = sorted(name for name in vars(daebus) if not name.startswith("_"))
    json.dump({"classes": surface, "modules": modules, "exported": exported}, sys.stdout)
