"""TLS from a Secret: what the chart tells the service, and whether `helm test` works with it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.charts.charts import SHARED, environment, one, pod_specs, render, service_pod
from tests.support.process import ServiceProcess
from tests.support.tls import Authority

TLS: dict[str, Any] = {"tls": {"existingSecret": "shop-tls"}}
CLIENTS: dict[str, Any] = {"tls": {"existingSecret": "shop-tls", "clientCASecret": "clients"}}


def test_the_secrets_are_mounted_as_folders_where_the_settings_say(service_chart: Path) -> None:
    pod = service_pod(render(service_chart, CLIENTS))
    [service] = pod["containers"]
    told = environment(service)
    assert [told[f"DAEBUS_TLS_{name}"] for name in ("CERT", "KEY", "CLIENT_CA")] == [
        *("/run/tls/tls.crt", "/run/tls/tls.key", "/run/tls-client-ca/ca.crt"),
    ]
    mounts = {mount["name"]: mount for mount in service["volumeMounts"]}
    assert mounts["tls"] == {"name": "tls", "mountPath": "/run/tls", "readOnly": True}
    assert mounts["tls-client-ca"]["mountPath"] == "/run/tls-client-ca"
    assert {"name": "tls", "secret": {"secretName": "shop-tls"}} in pod["volumes"]
    assert {"name": "tls-client-ca", "secret": {"secretName": "clients"}} in pod["volumes"]


@pytest.mark.parametrize("values", [{}, {"tls": None}, {"tls": {"existingSecret": None}}])
def test_without_a_secret_there_is_no_tls(service_chart: Path, values: dict[str, Any]) -> None:
    pod = service_pod(render(service_chart, values))
    assert not [name for name in environment(pod["containers"][0]) if "TLS" in name]
    assert not [volume for volume in pod["volumes"] if "secret" in volume]


def test_the_probes_stay_plain(service_chart: Path) -> None:
    [service] = service_pod(render(service_chart, TLS))["containers"]
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        assert service[probe]["httpGet"]["port"] == "management"
        assert "scheme" not in service[probe]["httpGet"]
    assert {"name": "http", "containerPort": 8080} in service["ports"]


def test_helm_test_posts_over_https(service_chart: Path) -> None:
    [test] = pod_specs(render(service_chart, TLS))["cold-store-test"]["containers"]
    assert "--insecure" in test["command"]
    assert test["command"][-1].startswith("https://cold-store:8080/")


def test_helm_test_has_no_certificate_and_asks_for_health_then(service_chart: Path) -> None:
    pod = pod_specs(render(service_chart, CLIENTS))["cold-store-test"]
    assert pod["containers"][0]["command"][-1] == "http://cold-store:9000/readyz"
    assert pod["initContainers"][0]["command"][-1] == "https://cold-store:8080/"


@pytest.mark.parametrize("clients", [False, True])
def test_its_question_is_answered_by_a_service(
    service_chart: Path,
    tmp_path: Path,
    start_process: Callable[..., ServiceProcess],
    free_port: int,
    clients: bool,
) -> None:
    authority = Authority(tmp_path)
    settings = {**authority.environment, "DAEBUS_HTTP_PORT": str(free_port), "DAEBUS_EMBEDDED": "never"}
    if clients:
        settings["DAEBUS_TLS_CLIENT_CA"] = str(authority.ca_file)
    program = 'from daebus import Daebus, DaebusHttp\napp = Daebus("s")\napp.attach(DaebusHttp())\napp.run()\n'
    start_process(program, env=settings).wait_line("service s started")
    values = {**SHARED, **(CLIENTS if clients else TLS)}
    [asks] = pod_specs(render(service_chart, values))["cold-store-test"]["initContainers"]
    command = [sys.executable, *asks["command"][1:-1]]
    done = subprocess.run([*command, f"https://127.0.0.1:{free_port}/"], capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stdout.split()[-1:]) == (0, ["401" if clients else "404"]), done.stderr
    done = subprocess.run([*command, f"http://127.0.0.1:{free_port}/"], capture_output=True, text=True, timeout=30)
    assert done.stdout.split()[-1:] != ["404"]


def test_the_notes_say_https(service_chart: Path) -> None:
    from tests.charts.charts import notes

    assert "https://cold-store:8080" in notes(service_chart, TLS)
    assert one(render(service_chart, TLS), "Service")["spec"]["ports"][0]["name"] == "http"
