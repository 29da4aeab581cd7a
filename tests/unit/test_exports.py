"""The public names: exactly those of the contract, in both packages, each imported at its first use."""

from __future__ import annotations

import importlib
import importlib.metadata
import subprocess
import sys
import tomllib
from pathlib import Path
from types import ModuleType

import daebus
import daebus_runtime
import pytest

OF_THE_ORIGINAL = [
    *("Daebus", "DaebusCaller", "DaebusHttp", "DaebusWebSocket", "Blueprint", "request", "response", "broadcast"),
    *("cache", "logger", "direct_logger", "get_daemon", "HttpRequest", "HttpResponse", "PubSubRequest"),
    *("PubSubResponse", "WebSocketRequest", "WebSocketResponse", "__version__"),
]
NEW = [
    *("DaebusError", "ConfigurationError", "BusUnavailable", "BusRefused", "NotPermitted"),
    *("CallTimeout", "DeadlineExceeded", "MessageTooLarge", "Overloaded", "RemoteError", "UnknownService"),
]


@pytest.mark.parametrize("package", [daebus, daebus_runtime])
def test_the_public_names_are_those_of_the_contract(package: ModuleType) -> None:
    assert sorted(package.__all__) == sorted([*OF_THE_ORIGINAL, *NEW])


@pytest.mark.parametrize("name", [*OF_THE_ORIGINAL, *NEW])
def test_each_name_is_there_and_is_the_same_in_both_packages(name: str) -> None:
    assert getattr(daebus, name) is getattr(daebus_runtime, name)
    assert name in dir(daebus)
    assert name in dir(daebus_runtime)


def test_an_unknown_name_is_an_attribute_error() -> None:
    for package in (daebus, daebus_runtime):
        with pytest.raises(AttributeError, match="has no attribute 'Flask'"):
            _ = package.Flask


def test_a_star_import_brings_them_all() -> None:
    names: dict[str, object] = {}
    exec("from daebus import *", names)
    assert set(OF_THE_ORIGINAL) <= set(names)


def test_one_version() -> None:
    project = tomllib.loads((Path(daebus_runtime.__file__).parents[1] / "pyproject.toml").read_text())["project"]
    assert daebus_runtime.__version__ == daebus.__version__ == project["version"]


@pytest.mark.parametrize("package", ["daebus", "daebus_runtime"])
def test_importing_a_package_loads_none_of_its_parts(package: str) -> None:
    heavy = ("gevent", "redis", "falcon", "gunicorn")
    program = f"import sys, {package}; print(*[n for n in sys.modules if n.split('.')[0] in {heavy}])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout.split() == []


def test_every_public_class_and_function_states_its_contract() -> None:
    for name in daebus_runtime.__all__:
        value = getattr(daebus_runtime, name)
        if isinstance(value, type) or callable(value):
            assert value.__doc__, name


def test_the_command_is_installed_under_its_name() -> None:
    project = tomllib.loads((Path(daebus_runtime.__file__).parents[1] / "pyproject.toml").read_text())["project"]
    module, _, function = project["scripts"]["daebus"].partition(":")
    assert callable(getattr(importlib.import_module(module), function))
