"""Services in processes of their own, one for each test module that declares a `PROGRAM`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from daebus_runtime import Daebus, DaebusHttp, DaebusWebSocket

from tests.support.ports import free_port
from tests.support.process import ServiceProcess


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


@pytest.fixture(scope="module")
def service(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """The module's PROGRAM, running; `ENVIRONMENT` adds settings. It must end with code 0 on SIGTERM."""
    port = free_port()
    environment = {"DAEBUS_HTTP_PORT": str(port), "DAEBUS_EMBEDDED": "never", "DAEBUS_HTTP_HOST": "127.0.0.1"}
    environment |= getattr(request.module, "ENVIRONMENT", {})
    folder: Path = tmp_path_factory.mktemp(request.module.__name__.rpartition(".")[2])
    assert not [name for name in os.environ if name.startswith("DAEBUS_HTTP")]
    with ServiceProcess(request.module.PROGRAM, directory=folder, env=environment) as process:
        yield started(process, port)
        assert process.terminate() == 0, process.output
