"""Rules for every chart in every mode: lint, the schemas of three Kubernetes versions, "restricted", limits."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.charts.charts import BUS, BUS_MODES, LIBRARY, SERVICE_MODES, Object, containers_of, helm, pod_specs, render
from tests.charts.restricted import CHECKS, violations

kubernetes = pytest.importorskip("kubernetes_validate")

VERSIONS = ("1.29", "1.33", "1.37")
MODES = [
    *(pytest.param("service", values, id=f"service: {mode}") for mode, values in SERVICE_MODES.items()),
    *(pytest.param("bus", values, id=f"bus: {mode}") for mode, values in BUS_MODES.items()),
]


@pytest.fixture
def objects(which: str, values: dict[str, Any], service_chart: Path) -> list[Object]:
    return render(service_chart if which == "service" else BUS, values)


def test_every_chart_lints_strictly(service_chart: Path) -> None:
    for chart in (service_chart, LIBRARY, BUS):
        result = helm.lint(str(chart), strict=True)
        assert result["errors"] == []
        # The library's defaults are in defaults.yaml.
        assert {message["error"] for message in result["messages"]} <= {"icon is recommended", "file does not exist"}


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(("which", "values"), MODES)
def test_the_rendered_objects_are_valid_for_kubernetes(objects: list[Object], version: str) -> None:
    assert len(objects) >= 4
    for item in objects:
        kubernetes.validate(item, version, strict=True)


@pytest.mark.parametrize("version", VERSIONS)
def test_the_check_for_kubernetes_finds_a_field_that_is_not_there(version: str) -> None:
    item = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "x"}, "automountToken": False}
    with pytest.raises(kubernetes.ValidationError):
        kubernetes.validate(item, version, strict=True)


@pytest.mark.parametrize(("which", "values"), MODES)
def test_no_pod_breaks_the_profile_restricted(objects: list[Object]) -> None:
    specs = pod_specs(objects)
    assert len(specs) == 2
    assert {name: violations(spec) for name, spec in specs.items()} == {name: [] for name in specs}


@pytest.mark.parametrize(("which", "values"), MODES)
def test_every_container_has_limits_and_a_read_only_root(objects: list[Object]) -> None:
    for pod in pod_specs(objects).values():
        assert pod["securityContext"]["runAsUser"] == 65532
        for container in containers_of(pod):
            assert container["securityContext"]["readOnlyRootFilesystem"] is True
            assert container["resources"]["requests"].keys() == {"cpu", "memory"}
            assert "memory" in container["resources"]["limits"]


@pytest.mark.parametrize(("which", "values"), MODES)
def test_every_long_running_container_has_probes(objects: list[Object]) -> None:
    [deployment] = [item for item in objects if item["kind"] == "Deployment"]
    for container in containers_of(deployment["spec"]["template"]["spec"]):
        assert {"startupProbe", "livenessProbe"} <= container.keys()
    for container in deployment["spec"]["template"]["spec"]["containers"]:
        assert "readinessProbe" in container


@pytest.mark.parametrize(("which", "values"), MODES)
def test_no_pod_has_a_service_account_token(objects: list[Object]) -> None:
    [account] = [item for item in objects if item["kind"] == "ServiceAccount"]
    assert account["automountServiceAccountToken"] is False
    for pod in pod_specs(objects).values():
        assert pod["serviceAccountName"] == account["metadata"]["name"]
        assert pod["automountServiceAccountToken"] is False


@pytest.mark.parametrize(("which", "values"), MODES)
def test_the_service_object_leads_to_its_pods_and_not_to_the_test(objects: list[Object]) -> None:
    by_kind = {item["kind"]: item for item in objects}
    selector = by_kind["Service"]["spec"]["selector"].items()
    deployment, test = by_kind["Deployment"], by_kind["Pod"]
    assert selector <= deployment["spec"]["template"]["metadata"]["labels"].items()
    assert selector == deployment["spec"]["selector"]["matchLabels"].items()
    assert not selector <= test["metadata"]["labels"].items()


@pytest.mark.parametrize(("which", "values"), MODES)
def test_no_pod_gets_variables_about_other_services(objects: list[Object]) -> None:
    """Otherwise a Service named daebus-bus would set DAEBUS_BUS_PORT and others, which look like settings."""
    assert [pod["enableServiceLinks"] for pod in pod_specs(objects).values()] == [False, False]


# One change to a valid pod for each check of the profile, to show that the check finds it.
BAD: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("Host Namespaces", {"hostNetwork": True}, {}),
    ("HostProcess", {}, {"windowsOptions": {"hostProcess": True}}),
    ("Privileged Containers", {}, {"privileged": True}),
    ("HostPath Volumes", {"volumes": [{"name": "root", "hostPath": {"path": "/"}}]}, {}),
    ("AppArmor", {}, {"appArmorProfile": {"type": "Unconfined"}}),
    ("SELinux", {}, {"seLinuxOptions": {"type": "spc_t"}}),
    ("/proc Mount Type", {}, {"procMount": "Unmasked"}),
    ("Sysctls", {"securityContext": {"sysctls": [{"name": "kernel.msgmax", "value": "1"}]}}, {}),
    ("Volume Types", {"volumes": [{"name": "files", "nfs": {"server": "s", "path": "/"}}]}, {}),
    ("Privilege Escalation", {}, {"allowPrivilegeEscalation": True}),
    ("Running as Non-root", {}, {"runAsNonRoot": False}),
    ("Running as Non-root user", {}, {"runAsUser": 0}),
    ("Seccomp", {}, {"seccompProfile": {"type": "Unconfined"}}),
    ("Capabilities, dropped", {}, {"capabilities": {}}),
    ("Capabilities, added", {}, {"capabilities": {"drop": ["ALL"], "add": ["SYS_ADMIN"]}}),
]


def good_pod() -> Object:
    context = {
        "allowPrivilegeEscalation": False,
        "runAsNonRoot": True,
        "seccompProfile": {"type": "RuntimeDefault"},
        "capabilities": {"drop": ["ALL"]},
    }
    sorts = ("initContainers", "containers")
    return {sort: [{"name": sort, "securityContext": copy.deepcopy(context)}] for sort in sorts}


def bad_pods() -> Iterator[tuple[str, Object]]:
    for check, of_the_pod, of_a_container in BAD:
        for sort in ("initContainers", "containers"):
            pod = {**good_pod(), **of_the_pod}
            pod[sort][0]["securityContext"].update(of_a_container)
            yield check, pod
    for step in ({"livenessProbe": {"httpGet": {"host": "10.0.0.1"}}}, {"ports": [{"hostPort": 80}]}):
        pod = good_pod()
        pod["containers"][0].update(step)
        yield "Host Ports" if "ports" in step else "Host Probes / Lifecycle Hooks", pod


def test_the_check_for_restricted_finds_each_violation() -> None:
    assert violations(good_pod()) == []
    found = {check for check, pod in bad_pods() if any(text.startswith(f"{check}: ") for text in violations(pod))}
    assert found == set(CHECKS)
    assert all(violations(pod) for _, pod in bad_pods())
    assert len(violations({"containers": [{"name": "bare"}]})) == 4
