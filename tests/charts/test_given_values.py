"""Values as people give them: each form of a quantity, each type that --set, --set-string and -f make, and null."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.charts.charts import BUS, SHARED, Object, environment, helm, one, refusal, render, service_pod

# Every form of Kubernetes' grammar: signs, dots, exponents and suffixes of both kinds.
QUANTITIES = [
    *("1", "+1", "1.5", ".5", "5.", "0", "0.1", "1e3", "1E3", "1.5e-2", "1e+2", "128974848000m"),
    *("64Ki", "64Mi", "0.5Gi", "1Ti", "1Pi", "1Ei", "100n", "100u", "100m", "5k", "5M", "5G", "5T", "5P", "5E"),
    *(1, 0.5, 134217728, 1e9),
]
NO_QUANTITIES = ["", "lots", "-1", -1, "1 Gi", "1gi", "1KB", "1K", "1mi", "Gi", ".", "1e", "1.2.3", True, ["1"]]


@pytest.mark.parametrize("amount", QUANTITIES, ids=str)
def test_every_form_of_a_quantity_is_taken(service_chart: Path, amount: Any) -> None:
    """As it was given: as a limit of each resource, and where else one stands."""
    limits = dict.fromkeys(("cpu", "ephemeral-storage", "hugepages-2Mi", "example.org/sensor"), amount)
    objects = render(
        service_chart, {"resources": {"limits": limits, "requests": {"cpu": 0}}, "tmp": {"sizeLimit": amount}}
    )
    [service] = service_pod(objects)["containers"]
    assert limits.items() <= service["resources"]["limits"].items()
    assert service_pod(objects)["volumes"][0]["emptyDir"]["sizeLimit"] == amount
    values = {"resources": {"limits": {"ephemeral-storage": amount}}, "persistence": {"enabled": True, "size": amount}}
    claim = one(render(BUS, values), "PersistentVolumeClaim")
    assert float(claim["spec"]["resources"]["requests"]["storage"].strip("+.KMGTPEiknum") or 0) >= 0


@pytest.mark.parametrize("amount", NO_QUANTITIES, ids=repr)
def test_what_is_no_quantity_is_refused_with_its_place(service_chart: Path, amount: Any) -> None:
    assert "'/resources/limits/memory'" in refusal(service_chart, {"resources": {"limits": {"memory": amount}}})
    assert "'/resources/requests/cpu'" in refusal(BUS, {"resources": {"requests": {"cpu": amount}}})


@pytest.mark.parametrize(
    ("less", "more"),
    list(
        itertools.pairwise(["1m", "62Ki", "64k", "64Ki", 1e6, "1Mi", "0.5Gi", "1G", "1Gi", "1e10", "1Ti", "1Pi", "1E"])
    ),
)
def test_quantities_are_compared_by_what_they_amount_to(service_chart: Path, less: Any, more: Any) -> None:
    def resources(requested: Any, limit: Any) -> Object:
        return {"resources": {"requests": {"memory": requested}, "limits": {"memory": limit}}}

    assert render(service_chart, resources(less, more))
    assert render(service_chart, resources(more, more))
    assert "more than the limit of" in refusal(service_chart, resources(more, less))


@pytest.mark.parametrize("amount", ["32mb", "32MB", "32m", "32M", "33554432", "33554432b", 33554432, "1gb", "10kb"])
def test_the_servers_memory_is_written_as_the_server_takes_it(service_chart: Path, amount: Any) -> None:
    limits = {"resources": {"limits": {"memory": "2Gi"}}}
    [bus] = service_pod(render(service_chart, {"bus": {"sidecar": {"maxmemory": amount, **limits}}}))["initContainers"]
    [server] = service_pod(render(BUS, {"maxmemory": amount, **limits}))["containers"]
    for container in (bus, server):
        assert container["command"][container["command"].index("--maxmemory") + 1] == str(amount)
    tight = {"resources": {"limits": {"memory": "9Ki"}, "requests": {"memory": 1}}, "maxmemory": amount}
    assert "killed before it is full" in refusal(BUS, tight)


SET = {
    "4": "4",
    "true": "true",
    "1000000": "1000000",
    "12345678901": "12345678901",
    "1.10": "1.10",
    "0123": "0123",
    "1e3": "1e3",
    "-5": "-5",
    "off": "off",
    "": "",
}


@pytest.mark.parametrize(("typed", "told"), SET.items())
def test_set_gives_a_variable_what_was_typed(service_chart: Path, typed: str, told: str) -> None:
    for parsed in (helm.parse_set_string, helm.parse_set_string_values):
        objects = render(service_chart, parsed(f"config.X={typed}"))
        assert one(objects, "ConfigMap")["data"] == {"X": told}


@pytest.mark.parametrize(
    ("written", "told"),
    [
        *(("4", "4"), ("true", "true"), ("1000000", "1000000"), ("1e6", "1000000"), ("12345678901", "12345678901")),
        *(("0.5", "0.5"), ("1.5e-3", "0.0015"), ("-1", "-1"), ("'1.10'", "1.10"), ("''", ""), ("a: b", None)),
        *(("[1]", None), ("{}", None)),
    ],
)
def test_a_file_of_values_gives_a_variable_a_text(service_chart: Path, written: str, told: str | None) -> None:
    values = helm.values_from_yaml(f"config:\n  X: {written}\n") if told is not None else {"config": {"X": [1]}}
    if told is None:
        assert "'/config/X'" in refusal(service_chart, values)
        return
    assert one(render(service_chart, values), "ConfigMap")["data"] == {"X": told}
    extra = {"extraEnv": [{"name": "X", "value": values["config"]["X"]}]}
    assert environment(service_pod(render(service_chart, extra))["containers"][0])["X"] == told


def test_null_leaves_a_variable_a_label_and_a_limit_out(service_chart: Path) -> None:
    values = helm.parse_set_string("config.X=null,podLabels.a=null,resources.limits.memory=null,nodeSelector.b=null")
    objects = render(service_chart, values)
    pod = service_pod(objects)
    assert "memory" not in pod["containers"][0]["resources"]["limits"]
    assert "nodeSelector" not in pod
    assert "a" not in one(objects, "Deployment")["spec"]["template"]["metadata"]["labels"]
    assert "ConfigMap" not in {item["kind"] for item in objects}


def paths(values: Object, above: str = "") -> list[str]:
    found = []
    for name, value in values.items():
        found.append(f"{above}{name}")
        if isinstance(value, dict):
            found += paths(value, f"{above}{name}.")
    return found


def nested(path: str, value: Any) -> Object:
    for name in reversed(path.split(".")):
        value = {name: value}
    return dict(value)


def refused_null(chart: Path, path: str) -> str | None:
    """Renders with null there: the text with which the chart refuses it; None when it takes it."""
    try:
        objects = render(chart, nested(path, None))
    except helm.HelmError as error:
        return str(error)
    assert "null" not in json.dumps(objects), path
    return None


@pytest.mark.parametrize("each", [5, pytest.param(1, marks=pytest.mark.long)], ids=["one in five", "all"])
def test_null_is_taken_for_every_value_or_refused_with_its_name(service_chart: Path, each: int) -> None:
    """Never half: nothing of it is rendered, and what is needed is named."""
    defaults = service_chart / "charts" / "daebus" / "defaults.yaml"
    needed = ("is null, but nothing works without it", "but has to be", "set test.action, or leave out test.payload")
    for chart, values in ((service_chart, defaults), (BUS, BUS / "values.yaml")):
        refused = {path: refused_null(chart, path) for path in paths(yaml.safe_load(values.read_text()))[::each]}
        assert any(refused.values()), chart
        for path, text in refused.items():
            assert text is None or path.split(".")[0] in text
            assert text is None or any(words in text for words in needed), path


@pytest.mark.parametrize("tag", [7, 20240101123456, "7", "_x", "1.10"])
def test_a_tag_of_digits_is_a_tag(service_chart: Path, tag: Any) -> None:
    for chart in (service_chart, BUS):
        [container] = service_pod(render(chart, {"image": {"tag": tag}}))["containers"]
        assert container["image"].endswith(f":{tag}")


@pytest.mark.parametrize(
    "url",
    [
        "rediss://bus.example:6380",
        "rediss://bus.example:6380/2?ssl_ca_certs=/etc/ca/ca.crt&ssl_check_hostname=false",
        "redis://bus?db=3",
        "redis://[fd00::1]:6379/0?client_name=a",
    ],
)
def test_the_address_of_a_bus_may_have_options(service_chart: Path, url: str) -> None:
    objects = render(service_chart, {"bus": {"mode": "shared", "shared": {"url": url}}})
    assert environment(service_pod(objects)["containers"][0])["DAEBUS_REDIS_URL"] == url


def test_numbers_stay_numbers_and_names_stay_texts(service_chart: Path) -> None:
    values = {**SHARED, "replicaCount": 1000, "secrets": ["1e3"], "nameOverride": "on", "image": {"pullSecrets": ["7"]}}
    deployment = one(render(service_chart, values), "Deployment")
    assert deployment["spec"]["replicas"] == 1000
    assert deployment["metadata"]["name"] == "on"
    pod = deployment["spec"]["template"]["spec"]
    assert pod["imagePullSecrets"] == [{"name": "7"}]
    assert pod["containers"][0]["envFrom"] == [{"secretRef": {"name": "1e3"}}]
