"""Values for what platforms require of pods, Services and ServiceAccounts; they are the same in both charts."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from scripts import values_table
from tests.charts.charts import (
    BUS,
    LIBRARY,
    SHARED,
    Object,
    containers_of,
    environment,
    one,
    pod_specs,
    render,
    service_pod,
)
from tests.charts.restricted import violations
from tests.charts.test_every_mode import kubernetes

EXTRA: Object = {
    "commonLabels": {"team": "garden", "app.kubernetes.io/part-of": "shop"},
    "commonAnnotations": {"owner": "garden@example.org", "cost-centre": 4711},
    "podLabels": {"tier": "edge", "canary": True},
    "podAnnotations": {"prometheus.io/port": 9000, "left-out": None},
    "serviceObject": {
        "type": "LoadBalancer",
        "labels": {"lb": 1},
        "annotations": {"cloud/lb": True},
        "nodePort": 30080,
    },
    "serviceAccount": {"name": "workers", "annotations": {"iam.example.org/role": "garden"}, "automount": True},
    "nodeSelector": {"disk": "ssd", "edge": True},
    "tolerations": [{"key": "edge", "operator": "Exists", "tolerationSeconds": 3000000}],
    "affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [{"topologyKey": "zone"}]}},
    "topologySpreadConstraints": [
        {"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "ScheduleAnyway", "labelSelector": {}}
    ],
    "priorityClassName": "high",
    "runtimeClassName": "gvisor",
    "schedulerName": "other",
    "hostAliases": [{"ip": "10.0.0.1", "hostnames": ["meter"]}],
    "dnsPolicy": "None",
    "dnsConfig": {"nameservers": ["10.0.0.53"]},
    "extraEnv": [
        {"name": "NODE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
        {"name": "N", "value": 1},
    ],
    "extraEnvFrom": [{"configMapRef": {"name": "site"}}],
    "extraVolumes": [{"name": "ca", "secret": {"secretName": "ca"}}],
    "extraVolumeMounts": [{"name": "ca", "mountPath": "/etc/ca", "readOnly": True}],
    "extraInitContainers": [{"name": "migrate", "image": "migrate:1"}],
    "extraContainers": [{"name": "proxy", "image": "proxy:1"}],
    "podSecurityContext": {"runAsUser": 1000680000, "supplementalGroups": [5]},
    "securityContext": {"seccompProfile": {"type": "Localhost", "localhostProfile": "a.json"}},
    "probes": {"startup": {"failureThreshold": 600}, "liveness": {"timeoutSeconds": 9}, "readiness": None},
    "revisionHistoryLimit": 0,
    "terminationGracePeriodSeconds": 120,
    "args": ["--verbose", 1],
    "fullnameOverride": "whole",
    "extra": {"anything": {"at": ["all"]}},
}


@pytest.fixture(params=["service", "bus"])
def chart(request: pytest.FixtureRequest, service_chart: Path) -> Path:
    return service_chart if request.param == "service" else BUS


@pytest.fixture
def objects(chart: Path) -> list[Object]:
    return render(chart, EXTRA if chart == BUS else {**EXTRA, **SHARED})


def main_container(objects: list[Object]) -> Object:
    found: Object = service_pod(objects)["containers"][0]
    return found


def test_all_of_it_together_is_valid_for_kubernetes(objects: list[Object]) -> None:
    for item in objects:
        kubernetes.validate(item, "1.33", strict=True)


def test_labels_and_annotations_are_texts_and_go_where_they_belong(objects: list[Object]) -> None:
    for item in objects:
        labels, annotations = item["metadata"]["labels"], item["metadata"]["annotations"]
        assert (labels["team"], labels["app.kubernetes.io/part-of"]) == ("garden", "shop")
        assert annotations["cost-centre"] == "4711"
    template = one(objects, "Deployment")["spec"]["template"]["metadata"]
    assert {"team": "garden", "tier": "edge", "canary": "true"}.items() <= template["labels"].items()
    assert template["annotations"]["prometheus.io/port"] == "9000"
    assert "left-out" not in template["annotations"]
    assert "tier" not in one(objects, "Pod")["metadata"]["labels"], "others may look for the pods by it"
    assert "tier" not in one(objects, "Deployment")["spec"]["selector"]["matchLabels"]


def test_the_type_and_fields_of_the_service_object_can_be_chosen(objects: list[Object]) -> None:
    service = one(objects, "Service")
    assert service["metadata"]["labels"]["lb"] == "1"
    assert service["metadata"]["annotations"]["cloud/lb"] == "true"
    assert service["spec"]["type"] == "LoadBalancer"
    [port] = service["spec"]["ports"]  # health and metrics stay inside the cluster
    assert port["nodePort"] == 30080


def test_addresses_of_both_families_are_a_value(chart: Path) -> None:
    values = {
        "serviceObject": {"ipFamilyPolicy": "PreferDualStack", "ipFamilies": ["IPv6", "IPv4"], "clusterIP": "None"}
    }
    spec = one(render(chart, values), "Service")["spec"]
    assert {**values["serviceObject"], "type": "ClusterIP"}.items() <= spec.items()
    assert not {"ipFamilyPolicy", "ipFamilies", "clusterIP"} & one(render(chart), "Service")["spec"].keys()


def test_the_service_account_may_have_another_name_or_exist_already(chart: Path, objects: list[Object]) -> None:
    account = one(objects, "ServiceAccount")
    assert account["metadata"]["name"] == "workers"
    assert account["metadata"]["annotations"]["iam.example.org/role"] == "garden"
    assert account["automountServiceAccountToken"] is True
    for pod in pod_specs(objects).values():
        assert (pod["serviceAccountName"], pod["automountServiceAccountToken"]) == ("workers", True)
    for given, expected in (({"create": False}, "default"), ({"create": False, "name": "mine"}, "mine")):
        others = render(chart, {"serviceAccount": given})
        assert "ServiceAccount" not in {item["kind"] for item in others}
        assert {pod["serviceAccountName"] for pod in pod_specs(others).values()} == {expected}


def test_every_pod_is_scheduled_as_the_values_say(objects: list[Object]) -> None:
    for pod in pod_specs(objects).values():
        assert pod["nodeSelector"] == {"disk": "ssd", "edge": "true"}
        for name in (
            "tolerations",
            "affinity",
            "topologySpreadConstraints",
            "priorityClassName",
            "runtimeClassName",
            "schedulerName",
            "hostAliases",
            "dnsPolicy",
            "dnsConfig",
        ):
            assert pod[name] == EXTRA[name]


def test_the_container_gets_variables_volumes_and_arguments(objects: list[Object]) -> None:
    container = main_container(objects)
    told = environment(container)
    assert (told["NODE"], told["N"]) == ({"fieldRef": {"fieldPath": "spec.nodeName"}}, "1")
    assert {"configMapRef": {"name": "site"}} in container["envFrom"]
    assert EXTRA["extraVolumeMounts"][0] in container["volumeMounts"]
    assert EXTRA["extraVolumes"][0] in service_pod(objects)["volumes"]
    assert container["args"] == ["--verbose", "1"]


def test_extra_containers_comply_with_restricted_by_default(objects: list[Object]) -> None:
    pod = service_pod(objects)
    assert [one["name"] for one in pod["initContainers"]] == ["migrate"]
    assert [one["name"] for one in pod["containers"]][1:] == ["proxy"]
    assert violations(pod) == []


def test_a_security_context_in_the_values_is_not_merged(chart: Path) -> None:
    own = {"name": "proxy", "image": "proxy:1", "securityContext": {"runAsUser": 7}}
    assert service_pod(render(chart, {"extraContainers": [own]}))["containers"][1] == own


def test_extra_init_containers_run_while_the_bus_is_up(service_chart: Path) -> None:
    pod = service_pod(render(service_chart, {"extraInitContainers": EXTRA["extraInitContainers"]}))
    assert [one["name"] for one in pod["initContainers"]] == ["bus", "migrate"]


def test_ids_can_be_left_out_and_the_pod_stays_restricted(chart: Path) -> None:
    ids = {"runAsUser": None, "runAsGroup": None, "fsGroup": None}
    for pod in pod_specs(render(chart, {"podSecurityContext": ids})).values():
        assert pod["securityContext"] == {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
        assert violations(pod) == []
        assert not any("runAsUser" in container["securityContext"] for container in containers_of(pod))


def test_ids_as_large_as_openshift_has_them_stay_numbers(objects: list[Object]) -> None:
    for pod in pod_specs(objects).values():
        assert pod["securityContext"]["runAsUser"] == 1000680000
        assert pod["securityContext"]["runAsGroup"] == 65532


def test_probe_times_and_the_number_of_old_versions_can_be_set(objects: list[Object]) -> None:
    container = main_container(objects)
    assert container["startupProbe"]["failureThreshold"] == 600
    assert container["livenessProbe"]["timeoutSeconds"] == 9
    assert container["livenessProbe"]["periodSeconds"] == 10
    assert "readinessProbe" not in container
    assert service_pod(objects)["terminationGracePeriodSeconds"] == 120
    assert one(objects, "Deployment")["spec"]["revisionHistoryLimit"] == 0


def test_both_values_for_a_name_work(objects: list[Object], chart: Path) -> None:
    assert {item["metadata"]["name"] for item in objects} == {"whole", "whole-test", "workers"}
    both = render(chart, {"nameOverride": "one", "fullnameOverride": "two"})
    assert one(both, "Deployment")["metadata"]["name"] == "two"


def test_the_pod_of_helm_test_has_labels_and_annotations_of_its_own(chart: Path) -> None:
    test = {"labels": {"sidecar.istio.io/inject": False}, "annotations": {"linkerd.io/inject": "disabled"}}
    found = one(render(chart, {"test": test}), "Pod")["metadata"]
    assert found["labels"]["sidecar.istio.io/inject"] == "false"
    assert found["annotations"]["linkerd.io/inject"] == "disabled"


def test_helm_test_reaches_a_bus_with_certificates_as_the_service_does(service_chart: Path) -> None:
    values = {**EXTRA, "bus": {"mode": "shared", "shared": {"url": "rediss://bus:1/0?ssl_ca_certs=/etc/ca/ca.crt"}}}
    pod = pod_specs(render(service_chart, values))["whole-test"]
    assert pod["volumes"] == EXTRA["extraVolumes"]
    assert pod["containers"][0]["volumeMounts"] == EXTRA["extraVolumeMounts"]
    assert environment(pod["containers"][0])["N"] == "1"


def test_a_strategy_is_a_value_and_recreate_needs_nothing_taken_away(service_chart: Path) -> None:
    def strategy(values: Object) -> Any:
        return one(render(service_chart, {"strategy": values}), "Deployment")["spec"]["strategy"]

    assert strategy({}) == {"rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}
    assert strategy({"type": "Recreate"}) == {"type": "Recreate"}
    assert strategy({"rollingUpdate": {"maxSurge": "50%"}})["rollingUpdate"] == {"maxSurge": "50%", "maxUnavailable": 0}


def test_the_volume_at_tmp_has_a_size_and_a_place(service_chart: Path) -> None:
    def tmp(values: Any) -> Any:
        return service_pod(render(service_chart, {"tmp": values}))["volumes"][0]["emptyDir"]

    assert tmp({"sizeLimit": "1Gi"}) == {"medium": "Memory", "sizeLimit": "1Gi"}
    assert tmp({"medium": ""}) == {"medium": "", "sizeLimit": "16Mi"}
    assert tmp({"medium": None}) == {"sizeLimit": "16Mi"}


def test_an_external_autoscaler_keeps_its_number(service_chart: Path) -> None:
    def spec(values: Object) -> Object:
        found: Object = one(render(service_chart, values), "Deployment")["spec"]
        return found

    assert spec({**SHARED, "replicaCount": 3})["replicas"] == 3
    assert spec({**SHARED, "replicaCount": 0})["replicas"] == 0
    assert "replicas" not in spec({**SHARED, "replicaCount": 3, "autoscaling": {"kind": "external"}})
    assert "replicas" not in spec({"replicaCount": None})


def test_extra_templates_have_values_of_their_own(service_chart: Path, tmp_path: Path) -> None:
    """As docs/kubernetes.md shows."""
    chart = shutil.copytree(service_chart, tmp_path / "chart")
    page = (LIBRARY.parents[1] / "docs" / "kubernetes.md").read_text()
    template = page.partition("{{- $service :=")[2].partition("```")[0]
    (chart / "templates" / "ingress.yaml").write_text("{{- $service :=" + template)
    ingress = one(render(chart, {"extra": {"host": "garden.example.org"}, "commonLabels": {"team": "a"}}), "Ingress")
    kubernetes.validate(ingress, "1.33", strict=True)
    [rule] = ingress["spec"]["rules"]
    assert rule["host"] == "garden.example.org"
    assert rule["http"]["paths"][0]["backend"]["service"] == {"name": "cold-store", "port": {"name": "http"}}
    assert ingress["metadata"]["labels"]["team"] == "a"


# Values whose comments differ: one chart says "service" where the other says "server".
OWN_WORDS = {"extraEnv", "extraEnvFrom", "extraInitContainers", "extraContainers", "serviceObject.type", "extra"}


def test_both_charts_have_the_same_ways_out() -> None:
    """The same values, defaults, comments and schema, except for the times of the probes."""
    schemas, texts = [], []
    for chart in (LIBRARY, BUS):
        schemas.append(json.loads((chart / "values.schema.json").read_text()))
        texts.append((chart / values_table.VALUES[chart]).read_text().partition("# The ways out:")[2])
    assert schemas[0]["definitions"] == schemas[1]["definitions"]
    ours, theirs = (yaml.safe_load("#" + text) for text in texts)
    assert {**ours, "probes": None} == {**theirs, "probes": None}
    assert ours["probes"].keys() == theirs["probes"].keys()
    ours_said, theirs_said = (values_table.described(text) for text in texts)
    assert {path for path in ours_said if ours_said[path] != theirs_said[path]} == OWN_WORDS
    for name in ours:
        assert schemas[0]["properties"][name] == schemas[1]["properties"][name]
