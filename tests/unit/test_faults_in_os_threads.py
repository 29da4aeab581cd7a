"""An exception in an OS thread is logged once, by the code that runs the handler; gevent prints nothing to stderr."""

from __future__ import annotations

import subprocess
import sys

import pytest
from daebus_runtime import Daebus, RemoteError
from daebus_runtime.testing import TestApp

GEVENTS = "failed with"
CALLER = """
from daebus_runtime import BusUnavailable, DaebusCaller
try:
    DaebusCaller("shop", timeout=0.5, redis_url="redis://127.0.0.1:1").send_request("buy")
except BusUnavailable as error:
    print(error)
"""


def test_an_exception_in_a_blocking_handler_is_logged_once(
    capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    app = Daebus("meter")

    @app.action("measure", blocking=True)
    def measure() -> None:
        raise ValueError("no instrument")

    with TestApp(app) as service, pytest.raises(RemoteError, match="no instrument"):
        service.call("measure")
    assert [record.message.split(" (")[0] for record in caplog.records if record.levelname == "ERROR"] == [
        "action 'measure' failed"
    ]
    assert GEVENTS not in capfd.readouterr().err


def test_a_caller_in_an_unpatched_program_prints_no_traceback_for_a_lost_bus() -> None:
    done = subprocess.run([sys.executable, "-c", CALLER], capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout.startswith("service 'shop', action 'buy': the bus was not reachable")
    assert done.stderr == ""
