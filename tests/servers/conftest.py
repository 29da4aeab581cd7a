"""Services in processes of their own, one for each test module that declares a `PROGRAM`."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest
from daebus_runtime import Daebus, DaebusHttp, DaebusWebSocket

from tests.servers.raw import SECURED
from tests.support.bystander import TLS_CA, TLS_PORTS
from tests.support.ports import free_port
from tests.support.process import ServiceProcess
from tests.support.tls import Authority


class Service:
    """A running service, and the port of its HTTP and WebSockets."""

    def __init__(self, process: ServiceProcess, port: int) -> None:
        self.process = process
        self.port = port

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.port}"


def started(process: ServiceProcess, port: int) -> Service:
    """Waits until the process has printed its first lines; the service."""
    process.wait_line(r"service \S+ started")
    return Service(process, port)


@pytest.fixture
def app() -> Daebus:
    """An application with HTTP and WebSockets. The test adds handlers and serves it in this process."""
    app = Daebus("sockets")
    app.attach(DaebusHttp())
    app.attach(DaebusWebSocket())
    return app


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A module with a PROGRAM runs over HTTPS too: in each run if it says `HTTPS = True`, never if it says False, else
    in the long ones."""
    https = getattr(metafunc.module, "HTTPS", None)
    if "service" in metafunc.fixturenames and hasattr(metafunc.module, "PROGRAM") and https is not False:
        marks = [] if https else [pytest.mark.long]
        kinds = ["http", pytest.param("https", marks=marks)]
        metafunc.parametrize("service", kinds, indirect=True, scope="module")


@pytest.fixture(scope="module")
def service(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """The module's PROGRAM, running; `ENVIRONMENT` adds settings. It must end with code 0 on SIGTERM."""
    folder: Path = tmp_path_factory.mktemp(request.module.__name__.rpartition(".")[2])
    settings = getattr(request.module, "ENVIRONMENT", {})
    with running(request.module.PROGRAM, folder, settings, https=getattr(request, "param", "http") == "https") as one:
        yield one


@contextmanager
def running(program: str, folder: Path, settings: Mapping[str, str], *, https: bool = False) -> Iterator[Service]:
    """A program with these settings. https: with a certificate, which the clients in raw.py and the bystanders trust
    as long as it runs."""
    port = free_port()
    environment = {"DAEBUS_HTTP_PORT": str(port), "DAEBUS_EMBEDDED": "never", "DAEBUS_HTTP_HOST": "127.0.0.1"}
    environment |= settings
    assert not [name for name in os.environ if name.startswith("DAEBUS_HTTP")]
    if https:
        authority = Authority(folder)
        environment |= authority.environment
        ports = {port, int(environment.get("DAEBUS_WEBSOCKET_PORT", port))}
        SECURED.update(dict.fromkeys(ports, authority.client()))
        os.environ[TLS_PORTS], os.environ[TLS_CA] = " ".join(map(str, ports)), str(authority.ca_file)
    with ServiceProcess(program, directory=folder, env=environment) as process:
        yield started(process, port)
        assert process.terminate() == 0, process.output
    SECURED.clear()
    os.environ.pop(TLS_PORTS, None)
