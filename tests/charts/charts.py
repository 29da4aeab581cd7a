"""For the tests of the charts: where the charts are, their modes, and what they render."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

helm = pytest.importorskip("helm_python", reason="the Helm SDK has no wheel for this platform")

REPOSITORY = Path(__file__).resolve().parents[2]
LIBRARY = REPOSITORY / "helm" / "daebus"
BUS = REPOSITORY / "helm" / "daebus-bus"

DIGEST = "sha256:" + "0123456789abcdef" * 4
SHARED: dict[str, Any] = {"bus": {"mode": "shared"}}

# Every way to install a service and the shared bus; each promise is tested in all of them.
SERVICE_MODES: dict[str, dict[str, Any]] = {
    "sidecar": {},
    "sidecar, no port": {"port": 0, "test": {"route": ""}},
    "sidecar, redis": {"bus": {"sidecar": {"server": "redis", "image": "redis:8.2-alpine"}}},
    "shared, its Secret": {**SHARED, "replicaCount": 3},
    "shared, an address": {"bus": {"mode": "shared", "shared": {"url": "redis://bus.other:6379/1"}}},
    "shared, no test": {**SHARED, "port": 0, "test": {"action": "", "payload": None, "route": ""}},
    "with TLS": {"tls": {"existingSecret": "shop-tls"}},
    "with certificates of clients": {"tls": {"existingSecret": "shop-tls", "clientCASecret": "clients"}},
    "everything set": {
        "nameOverride": "second",
        "image": {"digest": DIGEST, "pullPolicy": "Always", "pullSecrets": ["registry", "other.registry"]},
        "command": ["daebus", "run", "some.app:app"],
        "config": {"DAEBUS_LOG_LEVEL": "debug", "GREETING": 'a "quoted" word: yes'},
        "secrets": ["water-meter"],
        "resources": {"limits": {"cpu": 2, "memory": "1Gi"}, "requests": {"cpu": "0.5"}},
        "drainSeconds": 3600,
    },
}
BUS_MODES: dict[str, dict[str, Any]] = {
    "valkey": {},
    "redis": {"server": "redis", "image": {"repository": "redis", "tag": "8.2-alpine"}},
    "on a volume": {"persistence": {"enabled": True, "storageClass": "local-path"}},
    "everything set": {
        "nameOverride": "second",
        "image": {"digest": DIGEST, "pullSecrets": ["registry"]},
        "existingSecret": "my-bus",
        "maxmemory": "1gb",
        "persistence": {"enabled": True, "size": "20Gi"},
        "resources": {"limits": {"cpu": 2, "memory": "2Gi"}},
    },
}

Object = dict[str, Any]
# libyaml reads what is rendered nine times as fast as Python does; not every machine has it.
LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def render(chart: Path, values: dict[str, Any] | None = None, name: str = "release") -> list[Object]:
    """Every object that a chart renders from these values. HelmError when it refuses them."""
    texts = helm.Chart.load(str(chart)).render(values or {}, name=name, namespace="garden")
    found = [yaml.load_all(text, LOADER) for path, text in texts.items() if not path.endswith("NOTES.txt")]
    return [item for documents in found for item in documents if item]


def notes(chart: Path, values: dict[str, Any] | None = None) -> str:
    """What Helm prints after an installation."""
    texts: dict[str, str] = helm.Chart.load(str(chart)).render(values or {}, name="release", namespace="garden")
    [text] = [text for path, text in texts.items() if path.endswith("NOTES.txt")]
    return text


def refusal(chart: Path, values: dict[str, Any]) -> str:
    """The text with which a chart refuses these values; fails when it accepts them."""
    with pytest.raises(helm.HelmError) as caught:
        render(chart, values)
    return str(caught.value)


def one(objects: list[Object], kind: str) -> Object:
    """The only object of a kind."""
    [found] = [item for item in objects if item["kind"] == kind]
    return found


def pod_specs(objects: list[Object]) -> dict[str, Object]:
    """Every pod's spec, by the name of its object: the Deployment's and that of `helm test`."""
    specs = {item["metadata"]["name"]: item["spec"] for item in objects if item["kind"] == "Pod"}
    for item in objects:
        if item["kind"] == "Deployment":
            specs[item["metadata"]["name"]] = item["spec"]["template"]["spec"]
    return specs


def containers_of(pod: Object) -> list[Object]:
    """All containers of a pod, init containers included."""
    return [*pod.get("initContainers", []), *pod["containers"]]


def service_pod(objects: list[Object]) -> Object:
    found: Object = one(objects, "Deployment")["spec"]["template"]["spec"]
    return found


def environment(container: Object) -> dict[str, Any]:
    """Each variable with its value, or with the reference to it."""
    return {entry["name"]: entry.get("value", entry.get("valueFrom")) for entry in container.get("env", [])}
