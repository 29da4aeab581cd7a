"""The chart daebus-bus: one server, a password that is never shown, and data that is kept on request."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.charts.charts import BUS, BUS_MODES, containers_of, environment, notes, one, pod_specs, render, service_pod
from tests.template.readme import program


def test_there_is_never_a_second_server() -> None:
    deployment = one(render(BUS), "Deployment")["spec"]
    assert deployment["replicas"] == 1
    assert deployment["strategy"] == {"type": "Recreate"}


@pytest.mark.parametrize("values", BUS_MODES.values(), ids=BUS_MODES)
def test_the_password_is_in_no_argument_and_not_in_the_servers_environment(values: dict[str, Any]) -> None:
    objects = render(BUS, values)
    [server] = service_pod(objects)["containers"]
    assert "env" not in server
    assert "envFrom" not in server
    [volume] = [volume for volume in service_pod(objects)["volumes"] if volume["name"] == "config"]
    assert volume["secret"]["items"] == [{"key": "server.conf", "path": "server.conf"}]


def test_the_probes_need_no_password_and_accept_an_authentication_error() -> None:
    [server] = service_pod(render(BUS))["containers"]
    ping = ["valkey-cli", "--no-auth-warning", "--user", "probe", "--pass", "none", "-e", "ping"]
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        assert server[probe]["exec"]["command"] == ping
    user = server["command"][server["command"].index("--user") + 1 :]
    assert user == ["probe", "on", "nopass", "resetkeys", "resetchannels", "-@all", "+ping"]


def test_helm_test_pings_over_the_service_with_the_password() -> None:
    [test] = pod_specs(render(BUS))["daebus-bus-test"]["containers"]
    assert test["command"][-2:] == ["valkey-cli", "daebus-bus"]
    assert environment(test)["REDISCLI_AUTH"] == {"secretKeyRef": {"name": "daebus-bus", "key": "password"}}


@pytest.mark.parametrize(("reached_at", "code"), [(1, 0), (3, 0), (99, 1)])
def test_helm_test_waits_for_a_way_that_opens_late(tmp_path: Path, reached_at: int, code: int) -> None:
    """The command of the pod, with a client that reaches the server at a later try."""
    calls = tmp_path / "calls"
    program(tmp_path, "valkey-cli", f'echo "$@" >> {calls}\n[ "$(wc -l < {calls})" -ge {reached_at} ]')
    program(tmp_path, "sleep", "")
    [test] = pod_specs(render(BUS))["daebus-bus-test"]["containers"]
    done = subprocess.run(test["command"], env={"PATH": f"{tmp_path}:{os.environ['PATH']}"}, check=False)
    assert done.returncode == code
    assert set(calls.read_text().splitlines()) == {"-h daebus-bus -e ping"}


def test_an_existing_secret_replaces_the_generated_one() -> None:
    objects = render(BUS, {"existingSecret": "my-bus"})
    assert "Secret" not in {item["kind"] for item in objects}
    [test] = pod_specs(objects)["daebus-bus-test"]["containers"]
    assert environment(test)["REDISCLI_AUTH"]["secretKeyRef"]["name"] == "my-bus"
    assert service_pod(objects)["volumes"][0]["secret"]["secretName"] == "my-bus"


def test_by_default_nothing_is_kept() -> None:
    objects = render(BUS)
    assert "PersistentVolumeClaim" not in {item["kind"] for item in objects}
    command = service_pod(objects)["containers"][0]["command"]
    assert command[command.index("--appendonly") + 1] == "no"


def test_with_a_volume_the_append_only_file_outlives_pod_and_release() -> None:
    objects = render(BUS, {"persistence": {"enabled": True, "size": "5Gi", "storageClass": "local-path"}})
    claim = one(objects, "PersistentVolumeClaim")
    assert claim["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}
    assert claim["spec"]["resources"] == {"requests": {"storage": "5Gi"}}
    assert claim["spec"]["storageClassName"] == "local-path"
    pod = service_pod(objects)
    assert {"name": "data", "persistentVolumeClaim": {"claimName": "daebus-bus"}} in pod["volumes"]
    command = pod["containers"][0]["command"]
    assert command[command.index("--appendonly") + 1] == "yes"
    assert command[command.index("--dir") + 1] == "/data"


def test_a_full_server_refuses_writes_and_evicts_nothing() -> None:
    command = service_pod(render(BUS))["containers"][0]["command"]
    assert command[command.index("--maxmemory-policy") + 1] == "noeviction"
    assert command[command.index("--maxmemory") + 1] == "64mb"


def test_the_server_may_be_redis() -> None:
    pods = pod_specs(render(BUS, BUS_MODES["redis"]))
    assert {container["image"] for pod in pods.values() for container in containers_of(pod)} == {"redis:8.2-alpine"}
    assert pods["daebus-bus"]["containers"][0]["command"][:2] == ["redis-server", "/etc/bus/server.conf"]


def test_all_objects_may_have_another_name() -> None:
    objects = render(BUS, {"nameOverride": "second", "persistence": {"enabled": True}})
    assert {item["metadata"]["name"] for item in objects} == {"second", "second-test"}
    assert service_pod(objects)["volumes"][0]["secret"]["secretName"] == "second"


def test_the_notes_say_how_to_use_it_and_not_the_password() -> None:
    assert "the Secret daebus-bus holds its address" in notes(BUS)
    assert "bus.shared.existingSecret" not in notes(BUS)
    assert "bus.shared.existingSecret=second" in notes(BUS, {"nameOverride": "second"})
    assert "uninstalling leaves behind" in notes(BUS, {"persistence": {"enabled": True}})
