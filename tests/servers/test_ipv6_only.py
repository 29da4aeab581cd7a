"""A service in a network without IPv4, as a pod of an IPv6-only cluster has it: not even 127.0.0.1 is there."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.process import ServiceProcess
from tests.support.waiting import wait_until

pytestmark = pytest.mark.slow

# A network of its own, in which loopback has IPv6 only; fd00::7 stands for the address of the pod. The list of hosts is
# the one that a kubelet writes into every pod.
ONLY_IPV6 = "ip link set lo up; ip address delete 127.0.0.1/8 dev lo; ip address add fd00::7/128 dev lo"
HOSTS = "127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n"
INSIDE = ["unshare", "--net", "--mount", "sh", "-ec", f'{ONLY_IPV6}; mount --bind hosts /etc/hosts; exec "$@"', "sh"]
SERVICE = """
    from daebus_runtime import Daebus, DaebusHttp, request, response

    app = Daebus("inside")
    app.attach(DaebusHttp(port=8080))
    app.route("/ping")(lambda req: "pong")
    app.action("double")(lambda: response.send(request.payload * 2))

    if __name__ == "__main__":
        app.run()
"""
GET = "import sys, urllib.request; print(urllib.request.urlopen(sys.argv[1], timeout=5).read().decode())"
# As the chart sets them.
SETTINGS = {"DAEBUS_HTTP_HOST": "::", "DAEBUS_MANAGEMENT_HOST": "::", "DAEBUS_MANAGEMENT_PORT": "9000"}


def why_not(folder: Path) -> str | None:
    """Why there is no such network here; None when there is. `folder` holds the list of hosts."""
    missing = [name for name in ("unshare", "nsenter", "ip", "sh") if not shutil.which(name)]
    if missing:
        return f"no {missing[0]} here"
    done = subprocess.run([*INSIDE, "true"], cwd=folder, capture_output=True, text=True)
    return f"no network of its own: {done.stderr.strip()}" if done.returncode else None


def run_beside(service: ServiceProcess, *command: str, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Runs a command in the network of the service, with its list of hosts."""
    enter = ["nsenter", "--target", str(service.pid), "--net", "--mount"]
    return subprocess.run([*enter, *command], env={**os.environ, **env}, capture_output=True, text=True, timeout=30)


def test_service_management_probe_and_embedded_bus_work(
    start_process: Callable[..., ServiceProcess], tmp_path: Path
) -> None:
    (tmp_path / "hosts").write_text(HOSTS)
    if reason := why_not(tmp_path):
        pytest.skip(reason)
    (tmp_path / "inside.py").write_text(textwrap.dedent(SERVICE))
    service = start_process([*INSIDE, sys.executable, "inside.py"], env=SETTINGS)

    def said(*command: str) -> str:
        done = run_beside(service, sys.executable, *command, env=SETTINGS)
        assert done.returncode == 0, (done.stderr, service.output)
        return done.stdout.strip()

    def healthy() -> bool:
        return not run_beside(service, sys.executable, "-m", "daebus_runtime.health", env=SETTINGS).returncode

    wait_until(lambda: healthy() or not service.running, 30, lambda: service.output)
    ipv4 = run_beside(service, sys.executable, "-c", GET, "http://127.0.0.1:8080", env=SETTINGS)
    assert "unreachable" in ipv4.stderr, ipv4
    for address in ("[::1]", "[fd00::7]"):
        assert json.loads(said("-c", GET, f"http://{address}:8080/ping")) == "pong"
        assert json.loads(said("-c", GET, f"http://{address}:9000/readyz"))["ready"] is True
    assert json.loads(said("-m", "daebus_runtime", "call", "inside", "double", "21")) == 42
    assert service.terminate() == 0, service.output
