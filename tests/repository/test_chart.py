"""The chart: it lints, renders what a service needs, is restricted by default, and refuses what would be mis-wired."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

helm = pytest.importorskip("helm_python", reason="the Helm SDK has no wheel for this platform")

CHART = Path(__file__).resolve().parents[2] / "helm" / "daebus"
SHARED = {"bus": {"mode": "shared", "url": "redis://daebus-bus:6379"}}


def test_it_lints_strictly() -> None:
    result = helm.lint(str(CHART), strict=True)
    assert result["errors"] == []
    assert {message["error"] for message in result["messages"]} <= {"icon is recommended"}


def test_by_default_the_bus_runs_beside_the_service_and_is_up_first() -> None:
    pod = pod_of(render({}))
    [bus] = pod["initContainers"]
    assert bus["restartPolicy"] == "Always"
    assert bus["startupProbe"]["exec"]["command"] == ["valkey-cli", "-s", "/run/bus/bus.sock", "ping"]
    assert environment_of(pod)["DAEBUS_REDIS_URL"] == "unix:///run/bus/bus.sock"
    mounts = {mount["name"] for mount in bus["volumeMounts"]} & {
        mount["name"] for mount in service_of(pod)["volumeMounts"]
    }
    assert mounts == {"bus"}


def test_with_a_shared_bus_there_is_none_in_the_pod() -> None:
    pod = pod_of(render({**SHARED, "replicaCount": 3}))
    assert "initContainers" not in pod
    assert environment_of(pod)["DAEBUS_REDIS_URL"] == "redis://daebus-bus:6379"


def test_an_address_with_a_password_comes_from_a_secret() -> None:
    pod = pod_of(render({"bus": {"mode": "shared", "existingSecret": "bus-address"}}))
    [address] = [entry for entry in service_of(pod)["env"] if entry["name"] == "DAEBUS_REDIS_URL"]
    assert address["valueFrom"]["secretKeyRef"] == {"name": "bus-address", "key": "url"}


def test_the_service_is_told_its_name_and_never_starts_a_bus_of_its_own() -> None:
    environment = environment_of(pod_of(render({"service": "cold_store", "env": {"DAEBUS_LOG_LEVEL": "debug"}})))
    assert environment["DAEBUS_SERVICE"] == "cold_store"
    assert environment["DAEBUS_EMBEDDED"] == "never"
    assert environment["DAEBUS_MANAGEMENT_PORT"] == "9000"
    assert environment["DAEBUS_LOG_LEVEL"] == "debug"


def test_the_grace_period_is_longer_than_the_drain() -> None:
    pod = pod_of(render({"drainSeconds": 40}))
    assert environment_of(pod)["DAEBUS_DRAIN_SECONDS"] == "40"
    assert pod["terminationGracePeriodSeconds"] == 45


def test_the_service_object_leads_to_the_pod() -> None:
    objects = render({"service": "cold_store", "port": 8123})
    deployment, service = objects["Deployment"], objects["Service"]
    assert service["metadata"]["name"] == "cold-store"
    assert service["spec"]["ports"] == [{"name": "http", "port": 8123, "targetPort": "http"}]
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    assert service["spec"]["selector"].items() <= labels.items()
    assert deployment["spec"]["selector"]["matchLabels"].items() <= labels.items()


def test_without_a_port_there_is_no_service_object() -> None:
    objects = render({"port": 0})
    assert "Service" not in objects
    assert "DAEBUS_HTTP_PORT" not in environment_of(pod_of(objects))


@pytest.mark.parametrize("values", [{}, SHARED], ids=["sidecar", "shared"])
def test_every_container_is_restricted_probed_and_bounded(values: dict[str, Any]) -> None:
    pod = pod_of(render(values))
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] == 65532
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    for container in [*pod.get("initContainers", []), *pod["containers"]]:
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert container["resources"]["requests"].keys() == {"cpu", "memory"}
        assert "memory" in container["resources"]["limits"]
        assert "startupProbe" in container
    probes = service_of(pod)
    assert probes["livenessProbe"]["httpGet"] == {"path": "/livez", "port": "management"}
    assert probes["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": "management"}


def test_the_image_by_tag_or_by_digest() -> None:
    digest = "sha256:" + "0" * 64
    assert service_of(pod_of(render({"image": {"repository": "r/s"}})))["image"] == "r/s:0.1.0"
    assert service_of(pod_of(render({"image": {"repository": "r/s", "tag": "7"}})))["image"] == "r/s:7"
    assert service_of(pod_of(render({"image": {"repository": "r/s", "digest": digest}})))["image"] == f"r/s@{digest}"


@pytest.mark.parametrize(
    ("values", "cure"),
    [
        ({"replicaCount": 2}, 'Set replicaCount to 1, or bus.mode to "shared"'),
        ({"bus": {"mode": "shared"}}, "set bus.url, for example redis://daebus-bus:6379"),
        ({"bus": {"mode": "cluster"}}, "must be one of 'sidecar', 'shared'"),
        ({"bus": {"mode": "shared", "url": "daebus-bus:6379"}}, "/bus/url"),
        ({"replicas": 1}, "additional properties 'replicas' not allowed"),
        ({"service": "Cold Store"}, "/service"),
        ({"port": 80}, "/port"),
        ({"port": 9000}, "/port"),
        ({"env": {"A": 1}}, "/env/A"),
        ({"image": {"repository": "r", "digest": "latest"}}, "/image/digest"),
    ],
    ids=json.dumps,
)
def test_wrong_values_are_refused_with_the_cure(values: dict[str, Any], cure: str) -> None:
    with pytest.raises(helm.HelmError) as refusal:
        render(values)
    assert cure in str(refusal.value)


def render(values: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """What the chart makes of some values, by kind."""
    documents = helm.Chart.load(str(CHART)).render(values, name="release").values()
    objects = [yaml.safe_load(text) for text in documents]
    return {item["kind"]: item for item in objects if item}


def pod_of(objects: dict[str, dict[str, Any]]) -> dict[str, Any]:
    pod: dict[str, Any] = objects["Deployment"]["spec"]["template"]["spec"]
    return pod


def service_of(pod: dict[str, Any]) -> dict[str, Any]:
    [container] = pod["containers"]
    found: dict[str, Any] = container
    return found


def environment_of(pod: dict[str, Any]) -> dict[str, str]:
    return {entry["name"]: entry.get("value", "") for entry in service_of(pod)["env"]}
