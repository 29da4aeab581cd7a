"""Which ports a service opens; a taken one stops the start."""

from __future__ import annotations

import socket
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import requests

from tests.servers.conftest import started
from tests.servers.raw import RawConnection, RawWebSocket, ask, handshake_fields
from tests.support.ports import free_port as find_free_port
from tests.support.process import ServiceProcess

PROGRAM = """
    import sys
    from daebus_runtime import Daebus, DaebusHttp, DaebusWebSocket

    app = Daebus("ports")
    if "no-http" not in sys.argv:
        app.attach(DaebusHttp(host="127.0.0.1"))
        app.route("/port")(lambda req: app.websocket.get_websocket_port())
    if "no-websocket" not in sys.argv:
        app.attach(DaebusWebSocket())
        app.socket("port")(lambda data, client_id: app.websocket.get_websocket_port())

    app.run()
"""
Start = Callable[..., ServiceProcess]


@pytest.fixture
def taken() -> Iterator[int]:
    """A port on which another program listens."""
    with socket.socket() as other:
        other.bind(("0.0.0.0", 0))
        other.listen()
        yield other.getsockname()[1]


def port_as_told(port: int) -> int:
    with RawWebSocket(port) as client:
        client.send(b"\x81\x8f\0\0\0\0" + b'{"type":"port"}')
        return int(client.message()["data"])


def test_websockets_share_the_port_of_http(start_process: Start, free_port: int) -> None:
    process = start_process(PROGRAM, env={"DAEBUS_HTTP_PORT": str(free_port), "DAEBUS_EMBEDDED": "never"})
    started(process, free_port)
    assert ask(free_port, "GET", "/port").json == free_port
    assert port_as_told(free_port) == free_port


@pytest.mark.parametrize("chosen", ["given", "free"])
def test_a_second_port_is_for_websockets_alone(start_process: Start, free_port: int, chosen: str) -> None:
    second = free_port + 1 if chosen == "given" else 0
    settings = {"DAEBUS_HTTP_PORT": str(free_port), "DAEBUS_WEBSOCKET_PORT": str(second), "DAEBUS_EMBEDDED": "never"}
    process = start_process(PROGRAM, env=settings)
    started(process, free_port)
    port = ask(free_port, "GET", "/port").json
    assert port == second or (second == 0 and port not in (0, free_port))
    assert port_as_told(port) == port_as_told(free_port) == port
    answer = ask(port, "GET", "/port")
    assert (answer.status, answer.headers["upgrade"]) == (426, "websocket")
    assert f":{port}" in process.output


def test_websockets_alone_open_their_port(start_process: Start, free_port: int) -> None:
    settings = {"DAEBUS_WEBSOCKET_PORT": str(free_port), "DAEBUS_EMBEDDED": "never"}
    process = start_process(PROGRAM, env=settings, arguments=["no-http"])
    started(process, free_port)
    assert port_as_told(free_port) == free_port
    assert ask(free_port, "GET", "/port").status == 426
    assert process.terminate() == 0


def test_without_websockets_a_handshake_is_refused(start_process: Start, free_port: int) -> None:
    settings = {"DAEBUS_HTTP_PORT": str(free_port), "DAEBUS_EMBEDDED": "never"}
    program = PROGRAM.replace("app.websocket.get_websocket_port()", "1")
    process = start_process(program, env=settings, arguments=["no-websocket"])
    started(process, free_port)
    with RawConnection(free_port) as connection:
        assert connection.ask("GET", "/port", *handshake_fields()).status == 400


@pytest.mark.parametrize(
    ("variable", "other", "arguments"),
    [
        ("DAEBUS_HTTP_PORT", "DAEBUS_WEBSOCKET_PORT", []),
        ("DAEBUS_WEBSOCKET_PORT", "DAEBUS_HTTP_PORT", []),
        ("DAEBUS_WEBSOCKET_PORT", "DAEBUS_HTTP_PORT", ["no-http"]),
    ],
)
def test_a_taken_port_stops_the_start(
    start_process: Start, free_port: int, taken: int, variable: str, other: str, arguments: list[str]
) -> None:
    settings = {variable: str(taken), other: str(free_port), "DAEBUS_EMBEDDED": "never"}
    process = start_process(PROGRAM, env=settings, arguments=arguments)
    assert process.wait() != 0
    assert process.count(rf"{variable}: port {taken} on \S+ is taken by another program") == 1
    assert "Traceback" not in process.output
    assert "started" not in process.output


@pytest.mark.parametrize(
    ("arguments", "text"),
    [(["no-http"], "DaebusWebSocket has no port"), (["no-websocket"], "no WebSocket component is attached")],
)
def test_a_missing_part_stops_the_start(start_process: Start, free_port: int, arguments: list[str], text: str) -> None:
    program = PROGRAM.replace('if "no-websocket" not in sys.argv:', "if True:").replace(
        "        app.attach(DaebusWebSocket())", '        "no-websocket" in sys.argv or app.attach(DaebusWebSocket())'
    )
    settings = {"DAEBUS_HTTP_PORT": str(free_port), "DAEBUS_EMBEDDED": "never"}
    process = start_process(program, env=settings, arguments=arguments)
    assert process.wait() != 0
    assert process.count(text) == 1
    assert "Traceback" not in process.output


BOTH = """
    import sys
    from daebus_runtime import Daebus, DaebusHttp, DaebusWebSocket

    app = Daebus("both")
    app.attach(DaebusHttp())
    app.attach(DaebusWebSocket())
    app.route("/ping")(lambda req: "pong")
    app.socket("who")(lambda data, client_id: app.websocket.get_client_metadata(client_id)["remote_address"][0])

    if __name__ == "__main__":
        app.run()
"""
LINE = [sys.executable, "-m", "gunicorn", "-c", "python:daebus_runtime.gunicorn", "both:app"]


@pytest.mark.parametrize("way", ["run", "gunicorn"])
def test_the_ipv6_wildcard_address_serves_both_families_on_every_port(
    start_process: Start, free_port: int, tmp_path: Path, way: str
) -> None:
    management = find_free_port()
    settings = {
        "DAEBUS_EMBEDDED": "never",
        "DAEBUS_HTTP_HOST": "::",
        "DAEBUS_HTTP_PORT": str(free_port),
        "DAEBUS_MANAGEMENT_HOST": "::",
        "DAEBUS_MANAGEMENT_PORT": str(management),
    }
    (tmp_path / "both.py").write_text(textwrap.dedent(BOTH))
    process = start_process(LINE if way == "gunicorn" else BOTH, env=settings, name="both.py")
    started(process, free_port)
    for address in ("127.0.0.1", "[::1]"):
        assert requests.get(f"http://{address}:{free_port}/ping", timeout=5).json() == "pong"
        assert requests.get(f"http://{address}:{management}/livez", timeout=5).json() == {"live": True}
    with RawWebSocket(free_port) as client:
        client.send(b"\x81\x8e\0\0\0\0" + b'{"type":"who"}')
        assert client.message()["data"] == "127.0.0.1"
    assert process.terminate() == 0, process.output


def test_the_first_lines_show_an_ipv6_address_in_brackets(start_process: Start, free_port: int) -> None:
    settings = {"DAEBUS_HTTP_HOST": "::1", "DAEBUS_MANAGEMENT_HOST": "::", "DAEBUS_EMBEDDED": "never"}
    ports = {"DAEBUS_HTTP_PORT": str(free_port), "DAEBUS_MANAGEMENT_PORT": str(free_port + 1)}
    process = start_process(PROGRAM, env={**settings, **ports})
    process.wait_line("management")
    assert f"http://[::1]:{free_port}" in process.output
    assert f"ws://[::1]:{free_port}" in process.output
    assert f"http://[::]:{free_port + 1}" in process.output
