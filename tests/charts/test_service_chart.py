"""The chart of a generated service: it renders what a service needs, and each bus mode connects it to the right bus."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.charts.charts import DIGEST, SHARED, environment, notes, one, pod_specs, render, service_pod


def test_by_default_the_bus_runs_beside_the_service_and_starts_first(service_chart: Path) -> None:
    pod = service_pod(render(service_chart))
    [bus], [service] = pod["initContainers"], pod["containers"]
    assert bus["restartPolicy"] == "Always"
    for probe in ("startupProbe", "livenessProbe"):
        assert bus[probe]["exec"]["command"] == ["valkey-cli", "-s", "/run/bus/bus.sock", "-e", "ping"]
    assert environment(service)["DAEBUS_REDIS_URL"] == "unix:///run/bus/bus.sock"
    assert {"name": "bus", "mountPath": "/run/bus"} in bus["volumeMounts"]
    assert {"name": "bus", "mountPath": "/run/bus"} in service["volumeMounts"]


def test_the_bus_inside_the_pod_has_no_port(service_chart: Path) -> None:
    [bus] = service_pod(render(service_chart))["initContainers"]
    assert "ports" not in bus
    assert bus["command"][:3] == ["valkey-server", "--port", "0"]


def test_the_bus_inside_the_pod_may_be_redis(service_chart: Path) -> None:
    values = {"bus": {"sidecar": {"server": "redis", "image": "redis:8.2-alpine"}}}
    [bus] = service_pod(render(service_chart, values))["initContainers"]
    assert (bus["image"], bus["command"][0]) == ("redis:8.2-alpine", "redis-server")
    assert bus["livenessProbe"]["exec"]["command"][0] == "redis-cli"


def test_with_a_shared_bus_there_is_none_in_the_pod(service_chart: Path) -> None:
    pod = service_pod(render(service_chart, {**SHARED, "replicaCount": 3}))
    assert "initContainers" not in pod
    assert {volume["name"] for volume in pod["volumes"]} == {"tmp"}


def test_the_shared_bus_is_found_by_the_secret_that_its_chart_makes(service_chart: Path) -> None:
    [service] = service_pod(render(service_chart, SHARED))["containers"]
    assert environment(service)["DAEBUS_REDIS_URL"] == {"secretKeyRef": {"name": "daebus-bus", "key": "url"}}


def test_an_address_wins_over_the_secret(service_chart: Path) -> None:
    values = {"bus": {"mode": "shared", "shared": {"url": "rediss://bus.example:6380"}}}
    objects = render(service_chart, values)
    [service], [test] = service_pod(objects)["containers"], pod_specs(objects)["cold-store-test"]["containers"]
    assert environment(service)["DAEBUS_REDIS_URL"] == "rediss://bus.example:6380"
    assert environment(test)["DAEBUS_REDIS_URL"] == "rediss://bus.example:6380"


def test_the_service_gets_its_name_and_never_starts_a_bus_of_its_own(service_chart: Path) -> None:
    [service] = service_pod(render(service_chart))["containers"]
    told = environment(service)
    assert told["DAEBUS_SERVICE"] == "cold_store"
    assert told["DAEBUS_EMBEDDED"] == "never"
    assert (told["DAEBUS_HTTP_PORT"], told["DAEBUS_MANAGEMENT_PORT"]) == ("8080", "9000")


def test_the_names_of_objects_are_the_services_in_kubernetes_letters(service_chart: Path) -> None:
    values = {"config": {"GREETING": "hello"}}
    names = {item["metadata"]["name"] for item in render(service_chart, values, name="whatever")}
    assert names == {"cold-store", "cold-store-test"}
    names = {item["metadata"]["name"] for item in render(service_chart, {**values, "nameOverride": "second"})}
    assert names == {"second", "second-test"}


def test_the_probes_ask_the_management_port(service_chart: Path) -> None:
    [service] = service_pod(render(service_chart))["containers"]
    assert {"name": "management", "containerPort": 9000} in service["ports"]
    for probe, path in (("startupProbe", "/livez"), ("livenessProbe", "/livez"), ("readinessProbe", "/readyz")):
        assert service[probe]["httpGet"] == {"path": path, "port": "management"}


def test_the_grace_period_is_longer_than_the_drain(service_chart: Path) -> None:
    pod = service_pod(render(service_chart, {"drainSeconds": 40}))
    assert environment(pod["containers"][0])["DAEBUS_DRAIN_SECONDS"] == "40"
    assert pod["terminationGracePeriodSeconds"] == 52


def test_with_http_a_terminating_pod_answers_until_all_nodes_know(service_chart: Path) -> None:
    [service] = service_pod(render(service_chart, {"port": 8123}))["containers"]
    assert service["lifecycle"]["preStop"]["exec"]["command"] == ["python", "-c", "import time; time.sleep(3)"]
    [service] = service_pod(render(service_chart, {"port": 0, "test": {"route": ""}}))["containers"]
    assert "lifecycle" not in service


def test_the_service_object_has_both_ports(service_chart: Path) -> None:
    management = {"name": "management", "port": 9000, "targetPort": "management"}
    http = {"name": "http", "port": 8123, "targetPort": "http"}
    assert one(render(service_chart, {"port": 8123}), "Service")["spec"]["ports"] == [http, management]


def test_a_service_without_http_has_the_management_port_alone(service_chart: Path) -> None:
    objects = render(service_chart, {"port": 0, "test": {"route": ""}})
    assert [port["name"] for port in one(objects, "Service")["spec"]["ports"]] == ["management"]
    [service] = service_pod(objects)["containers"]
    assert [port["name"] for port in service["ports"]] == ["management"]
    assert "DAEBUS_HTTP_PORT" not in environment(service)


def test_config_reaches_the_service_and_a_change_replaces_the_pods(service_chart: Path) -> None:
    sums = set()
    for greeting in ("hello", "good evening"):
        objects = render(service_chart, {"config": {"GREETING": greeting, "NUMBER": "1"}})
        assert one(objects, "ConfigMap")["data"] == {"GREETING": greeting, "NUMBER": "1"}
        [service] = service_pod(objects)["containers"]
        assert service["envFrom"] == [{"configMapRef": {"name": "cold-store"}}]
        sums.add(one(objects, "Deployment")["spec"]["template"]["metadata"]["annotations"]["checksum/config"])
    assert len(sums) == 2


def test_without_config_there_is_no_config_map(service_chart: Path) -> None:
    objects = render(service_chart)
    assert "ConfigMap" not in {item["kind"] for item in objects}
    assert "envFrom" not in service_pod(objects)["containers"][0]


def test_existing_secrets_become_variables(service_chart: Path) -> None:
    objects = render(service_chart, {"secrets": ["water-meter", "second"], "config": {"A": "b"}})
    [service] = service_pod(objects)["containers"]
    assert [next(iter(source.values()))["name"] for source in service["envFrom"]] == [
        "cold-store",
        "water-meter",
        "second",
    ]


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        ({}, "r/s:0.1.0"),
        ({"tag": "7"}, "r/s:7"),
        ({"digest": DIGEST}, f"r/s@{DIGEST}"),
        ({"tag": "7", "digest": DIGEST}, f"r/s@{DIGEST}"),
    ],
    ids=["the chart's appVersion", "a tag", "a digest", "the digest wins"],
)
def test_the_image_by_tag_or_by_digest(service_chart: Path, image: dict[str, str], expected: str) -> None:
    pods = pod_specs(render(service_chart, {"image": {"repository": "r/s", **image}}))
    assert {pod["containers"][0]["image"] for pod in pods.values()} == {expected}


def test_images_are_pulled_with_the_registrys_credentials(service_chart: Path) -> None:
    for pod in pod_specs(render(service_chart, {"image": {"pullSecrets": ["registry"]}})).values():
        assert pod["imagePullSecrets"] == [{"name": "registry"}]


ROUTE = "http://cold-store:8080/plants/basil/water"
READY = ["python", "-m", "daebus_runtime.health", "--url", "http://cold-store:9000/readyz"]


@pytest.mark.parametrize(
    ("values", "command"),
    [
        (SHARED, ["daebus", "call", "cold_store", "water", '{"plant":"basil"}']),
        ({}, ["python", "-m", "daebus_runtime.health", "--post", "--url", ROUTE]),
        ({"port": 0, "test": {"route": ""}}, READY),
        ({**SHARED, "test": {"action": "", "payload": None, "route": ""}}, READY),
    ],
    ids=["shared", "sidecar", "sidecar without HTTP", "nothing to call"],
)
def test_helm_test_calls_the_service_over_the_bus_where_it_can(
    service_chart: Path, values: dict[str, Any], command: list[str]
) -> None:
    objects = render(service_chart, values)
    test = one(objects, "Pod")
    assert test["metadata"]["annotations"] == {
        "helm.sh/hook": "test",
        "helm.sh/hook-delete-policy": "before-hook-creation,hook-succeeded",
    }
    [container] = test["spec"]["containers"]
    assert container["command"] == command
    assert container["image"] == service_pod(objects)["containers"][0]["image"]
    assert test["spec"]["restartPolicy"] == "Never"


def test_a_single_resource_may_be_changed_alone(service_chart: Path) -> None:
    [service] = service_pod(render(service_chart, {"resources": {"limits": {"memory": "1Gi"}}}))["containers"]
    assert service["resources"] == {"requests": {"cpu": "25m", "memory": "64Mi"}, "limits": {"memory": "1Gi"}}


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({}, ["service/cold-store 8080", "inside the pod; no other service", "helm test -n garden release"]),
        (SHARED, ["the one in the Secret daebus-bus, with every service"]),
        ({"bus": {"mode": "shared", "shared": {"url": "redis://bus:1"}}}, ["redis://bus:1, with every service"]),
        ({"port": 0, "test": {"route": ""}}, ["over its bus only", "http://cold-store:9000"]),
    ],
    ids=["sidecar", "shared by Secret", "shared by address", "no port"],
)
def test_the_notes_say_how_to_reach_it_and_what_its_bus_reaches(
    service_chart: Path, values: dict[str, Any], expected: list[str]
) -> None:
    text = notes(service_chart, values)
    for words in expected:
        assert words in text
    assert len(text.splitlines()) <= 10
