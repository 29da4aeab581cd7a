"""Whom a service on gunicorn's command line trusts: `--forwarded-allow-ips`, and peers on a Unix socket."""

from __future__ import annotations

import json
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.servers.raw import RawConnection
from tests.support.ports import accepts
from tests.support.process import ServiceProcess
from tests.support.waiting import wait_until

PROGRAM = """
from daebus import Daebus, DaebusHttp
app = Daebus("behind")
app.attach(DaebusHttp(host="127.0.0.1"))

@app.route("/who")
def who(req):
    return [*req.remote_address, req.secure]
"""
GUNICORN = [sys.executable, "-m", "gunicorn", "-c", "python:daebus_runtime.gunicorn", "behind:app"]
FIELDS = ("X-Forwarded-For: 203.0.113.9", "X-Forwarded-Proto: https")
Start = Callable[..., ServiceProcess]


def started(start_process: Start, folder: Path, *arguments: str, **settings: str) -> ServiceProcess:
    (folder / "behind.py").write_text(PROGRAM)
    process = start_process([*GUNICORN, *arguments], directory=folder, env={"DAEBUS_EMBEDDED": "never", **settings})
    process.wait_line("service behind started")
    return process


def who(connection: RawConnection) -> Any:
    with connection:
        return json.loads(connection.ask("GET", "/who", *FIELDS).body)


@pytest.mark.parametrize(
    ("arguments", "settings", "trusted"),
    [
        ([], {}, False),  # gunicorn itself would trust loopback
        (["--forwarded-allow-ips", "127.0.0.1,::1"], {}, True),
        (["--forwarded-allow-ips", "10.0.0.0/8"], {}, False),
        ([], {"FORWARDED_ALLOW_IPS": "*"}, True),
        (["--forwarded-allow-ips", "10.0.0.0/8"], {"DAEBUS_FORWARDED_ALLOW": "127.0.0.1"}, True),
    ],
)
def test_gunicorns_own_names_count(
    start_process: Start, tmp_path: Path, free_port: int, arguments: list[str], settings: dict[str, str], trusted: bool
) -> None:
    started(start_process, tmp_path, *arguments, DAEBUS_HTTP_PORT=str(free_port), **settings)
    wait_until(lambda: accepts(free_port))
    seen = who(RawConnection(free_port))
    assert seen == ["203.0.113.9", 0, True] if trusted else seen[0] == "127.0.0.1"


@pytest.mark.parametrize(("allow", "trusted"), [("unix", True), ("127.0.0.1", False), ("*", True)])
def test_peers_on_a_unix_socket(start_process: Start, tmp_path: Path, allow: str, trusted: bool) -> None:
    path = tmp_path / "http.sock"
    started(start_process, tmp_path, "-b", f"unix:{path}", DAEBUS_FORWARDED_ALLOW=allow)
    connection = RawConnection.__new__(RawConnection)
    connection.socket, connection._buffer = socket.socket(socket.AF_UNIX), b""
    connection.socket.settimeout(10)
    connection.socket.connect(str(path))
    assert who(connection) == (["203.0.113.9", 0, True] if trusted else ["", 0, False])
