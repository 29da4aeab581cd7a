"""`python -m daebus_runtime.health` asks the management port; it prints one line and exits with 0, 1 or 2."""

from __future__ import annotations

import http.server
import os
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from daebus_runtime import health
from daebus_runtime.metrics import Metrics
from daebus_runtime.servers.management import Management
from daebus_runtime.servers.ports import open_listener

from tests.support.tls import Authority


@pytest.fixture
def reasons() -> list[str]:
    """The reasons for which the service is not ready; a test changes them."""
    return []


@pytest.fixture
def management(reasons: list[str]) -> Iterator[Management]:
    page = Management("127.0.0.1", 0, Metrics(), lambda: reasons)
    page.start()
    yield page
    page.stop()


def run(*arguments: str, **environ: str) -> tuple[int, str]:
    """Run the command in a process of its own; its exit code and output."""
    done = subprocess.run(
        [sys.executable, "-m", "daebus_runtime.health", *arguments],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        env={**os.environ, **environ},
    )
    assert done.stderr == ""
    assert done.stdout.count("\n") == 1
    return done.returncode, done.stdout.strip()


def test_a_ready_service_is_healthy(management: Management) -> None:
    assert run(DAEBUS_MANAGEMENT_PORT=str(management.port)) == (0, '/readyz: 200 {"ready":true,"reasons":[]}')


def test_a_service_that_is_not_ready_is_not_healthy_and_says_why(management: Management, reasons: list[str]) -> None:
    reasons.append("bus: not connected")
    code, line = run(DAEBUS_MANAGEMENT_PORT=str(management.port))
    assert code == 1
    assert line.startswith("/readyz: 503")
    assert "bus: not connected" in line


def test_live_asks_whether_the_loop_turns(management: Management, reasons: list[str]) -> None:
    reasons.append("bus: not connected")
    assert run("--live", DAEBUS_MANAGEMENT_PORT=str(management.port)) == (0, '/livez: 200 {"live":true}')


def test_another_address_can_be_given(management: Management) -> None:
    address = f"http://127.0.0.1:{management.port}"
    assert run("--url", address)[0] == 0
    assert run("--url", address, "--live") == (0, '/livez: 200 {"live":true}')
    assert run("--url", f"{address}/nowhere")[0] == 1


def test_a_route_can_be_posted_to() -> None:
    asked: list[str] = []

    class Route(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked.append(f"{self.command} {self.path}")
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b'{"moisture": 85}')

        def log_message(self, *words: object) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Route) as server:
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        url = f"http://127.0.0.1:{server.server_port}/plants/basil/water"
        assert run("--post", "--url", url) == (0, '/plants/basil/water: 200 {"moisture": 85}')
        thread.join(30)
    assert asked == ["POST /plants/basil/water"]


def test_the_management_port_is_never_posted_to() -> None:
    code, line = run("--post", DAEBUS_MANAGEMENT_PORT="9000")
    assert code == 2
    assert "--url" in line


def test_without_a_management_port_the_cure_is_named() -> None:
    code, line = run()
    assert code == 2
    assert "DAEBUS_MANAGEMENT_PORT" in line


@pytest.mark.parametrize(
    ("arguments", "environ"),
    [(("--url", "nonsense"), {}), (("--url", "http://x:y"), {}), ((), {"DAEBUS_MANAGEMENT_PORT": "nine"})],
)
def test_an_unusable_address_or_argument_is_named(arguments: tuple[str, ...], environ: dict[str, str]) -> None:
    code, line = run(*arguments, **environ)
    assert code == 2
    assert "is not" in line


def test_a_port_where_nobody_listens_is_not_healthy(free_port: int) -> None:
    code, line = run(DAEBUS_MANAGEMENT_PORT=str(free_port))
    assert code == 1
    assert "refused" in line


def test_a_port_that_does_not_answer_is_given_up_after_two_seconds(free_port: int) -> None:
    listener = open_listener("127.0.0.1", free_port, "test")
    begun = time.monotonic()
    code, line = run(DAEBUS_MANAGEMENT_PORT=str(free_port))
    listener.close()
    assert (code, line) == (1, "/readyz: no answer within 2 s")
    assert 2 <= time.monotonic() - begun < 15


def test_it_is_quick_to_start_and_loads_no_gevent() -> None:
    program = "import sys, daebus_runtime.health; print(*[m for m in ('gevent', 'redis', 'click') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout.split() == []


@pytest.mark.parametrize(
    ("host", "asked"), [("", "127.0.0.1"), ("0.0.0.0", "127.0.0.1"), ("::", "::1"), ("10.0.0.7", "10.0.0.7")]
)
def test_it_asks_where_the_service_listens(host: str, asked: str) -> None:
    environ = {"DAEBUS_MANAGEMENT_PORT": "9000", "DAEBUS_MANAGEMENT_HOST": host}
    assert health.management_address(environ) == (asked, 9000)


def test_a_url_may_be_https(tmp_path: Path) -> None:
    authority, server = Authority(tmp_path), http.server.HTTPServer(("127.0.0.1", 0), _Fine)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority.cert, authority.key)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"https://127.0.0.1:{server.server_port}/fine"
    try:
        assert run("--url", url)[0] == 1
        assert run("--url", url, SSL_CERT_FILE=str(authority.ca_file)) == (0, "/fine: 200 fine")
        assert run("--insecure", "--url", url) == (0, "/fine: 200 fine")
    finally:
        server.shutdown()
        server.server_close()


class _Fine(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"fine")

    def log_message(self, *args: object) -> None:
        pass
