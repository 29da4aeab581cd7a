"""Every public name of the published daebus 0.0.31 exists here and takes the same arguments, positional and by name.

Exceptions are listed below, each with its reason.
"""

from __future__ import annotations

import importlib
import inspect
import json
import subprocess
from pathlib import Path
from typing import Any

import daebus
import pytest

from tests.interop import surface
from tests.support.original import original_python

pytestmark = pytest.mark.slow  # the environment of the original is downloaded at the first run

TABLES = "the original's own table; declarations are made with decorators and read by the runtime alone"
STATE = "the original's own state; there is nothing like it here"
MADE = "made by the runtime for a delivery, not by authors"
LEFT_OUT = {
    "Daebus": {
        **dict.fromkeys(("action_handlers", "listen_handlers", "background_tasks", "thread_tasks"), TABLES),
        **dict.fromkeys(("workflow_handlers", "threads"), TABLES),
        **dict.fromkeys(("pubsub", "scheduler", "thread_pool"), STATE),
        **dict.fromkeys(("request_http", "request_ws", "response_http", "response_ws"), STATE),
    },
    "Blueprint": dict.fromkeys(
        (
            *("action_handlers", "background_tasks", "listen_handlers", "on_start_handlers", "routes"),
            *("socket_handlers", "thread_tasks"),
        ),
        TABLES,
    ),
    "DaebusHttp": {
        "routes": TABLES,
        **dict.fromkeys(("server", "server_thread"), STATE),
        **dict.fromkeys(("start", "stop"), "the service opens and closes its ports when it starts and stops"),
    },
    "DaebusWebSocket": {
        **dict.fromkeys(("message_handlers", "connection_handlers", "disconnection_handlers"), TABLES),
        **dict.fromkeys(("client_counter", "rate_limit_counters", "server"), STATE),
    },
    "HttpResponse": {"handler": STATE},
    "PubSubResponse": {"__init__": MADE},
}
LEFT_OUT_OF_MODULES = {
    "context": [
        "set_context_type",
        "get_context_type",
        "set_daemon",
        "LoggerProxy",
        "RequestProxy",
        "ResponseProxy",
        "T",
        "debug",
    ],
    "daemon": ["PubSubRequest", "PubSubResponse", "PubSubBroadcast", "set_context_type", "set_daemon"],
    "http": ["DaebusHttpHandler", "ThreadedHTTPServer", "parse_multipart_form", "set_context_type"],
    "pubsub": ["PubSubBroadcast"],
    "websocket": ["DaebusJSONEncoder"],
}
"""Internals of the original, and names that its modules only import."""


@pytest.fixture(scope="module")
def original() -> dict[str, Any]:
    done = subprocess.run(
        [str(original_python()), "-P", str(Path(surface.__file__))],
        capture_output=True,
        text=True,
        check=True,
        env={"PATH": "/usr/bin:/bin"},
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_every_exported_name_is_there(original: dict[str, Any]) -> None:
    assert set(original["exported"]) - {"modules"} <= set(daebus.__all__)
    importlib.import_module("daebus.modules")


@pytest.mark.parametrize("kind", surface.MADE)
def test_every_method_takes_the_arguments_of_the_originals(original: dict[str, Any], kind: str) -> None:
    ours = getattr(daebus, kind)
    for name, parameters in original["classes"][kind]["methods"].items():
        if name in LEFT_OUT.get(kind, {}):
            assert name == "__init__" or not hasattr(ours, name), f"{kind}.{name} is there: take it off the list"
            continue
        signature = inspect.signature(getattr(ours, name))
        self = [] if name == "attach" and not inspect.isfunction(getattr(ours, name)) else [object()]
        values = [object() for _ in parameters]
        signature.bind(*self, *values)
        signature.bind(*self, **dict(zip((parameter[0] for parameter in parameters), values, strict=True)))
        required = [value for value, parameter in zip(values, parameters, strict=True) if not parameter[3]]
        signature.bind(*self, *required)
        for parameter, _, default, _ in parameters:
            ours_default = getattr(signature.parameters.get(parameter), "default", None)
            plain = isinstance(ours_default, (bool, int, float, str))
            assert not (default and plain) or ours_default == default[0], f"{kind}.{name}({parameter})"


@pytest.mark.parametrize("kind", surface.MADE)
def test_every_attribute_is_there(original: dict[str, Any], kind: str) -> None:
    left_out = LEFT_OUT.get(kind, {})
    for name in original["classes"][kind]["attributes"]:
        make = surface.MADE[kind]
        there = hasattr(getattr(daebus, kind), name) or (make is not None and name in getattr(make(), "__dict__", {}))
        assert there is (name not in left_out), f"{kind}.{name}"


@pytest.mark.parametrize("name", surface.MODULES)
def test_every_module_has_the_public_names(original: dict[str, Any], name: str) -> None:
    ours = importlib.import_module(f"daebus.modules.{name}")
    missing = {one for one in original["modules"][name] if not hasattr(ours, one)}
    assert missing <= set(LEFT_OUT_OF_MODULES.get(name, []))
