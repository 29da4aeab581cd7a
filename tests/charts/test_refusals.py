"""Values that a chart refuses, and the text of the error: it names the value and what would be accepted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.charts.charts import BUS, refusal

SERVICE: list[tuple[dict[str, Any], str]] = [
    # Combinations of values that would not work together.
    ({"replicaCount": 2}, "Set replicaCount to 1, or install the chart daebus-bus and set bus.mode to"),
    (
        {"bus": {"mode": "shared", "shared": {"existingSecret": ""}}},
        "set bus.shared.existingSecret (the chart daebus-bus makes the Secret daebus-bus), or bus.shared.url",
    ),
    (
        {"bus": {"mode": "shared", "shared": {"url": "redis://:secret@bus:6379"}}},
        "put the whole address into a Secret, name it in bus.shared.existingSecret",
    ),
    (
        {"bus": {"mode": "shared", "shared": {"url": "rediss://bus:1/0?password=x"}}},
        "put the whole address into a Secret",
    ),
    ({"bus": {"shared": {"url": "redis://bus:6379"}}}, 'set bus.mode to "shared", or leave bus.shared.url empty'),
    ({"bus": {"sidecar": {"server": "redis"}}}, "set both to the same server, for example redis and redis:8.2-alpine"),
    ({"bus": {"sidecar": {"image": "redis:8"}}}, "for example valkey and valkey/valkey:8.1-alpine"),
    ({"bus": {"sidecar": {"maxmemory": "64mb"}}}, "set bus.sidecar.resources.limits.memory to about twice"),
    ({"bus": {"sidecar": {"resources": {"requests": {"memory": "1Gi"}}}}}, "set bus.sidecar.resources.limits.memory"),
    ({"resources": {"requests": {"memory": "200Mi"}}}, "more than the limit of 192Mi: set resources.limits.memory too"),
    ({"port": 0}, "test.route needs HTTP, and port is 0: set port, or leave test.route empty"),
    ({"test": {"action": ""}}, "set test.action, or leave out test.payload"),
    ({"tls": {"existingSecret": "x"}, "port": 0, "test": {"route": ""}}, "set port, or leave tls.existingSecret empty"),
    ({"tls": {"clientCASecret": "x"}}, "set tls.existingSecret, or leave tls.clientCASecret empty"),
    ({"tls": {"existingSecret": "x"}, "config": {"DAEBUS_TLS_KEY": "/k"}}, "tls.existingSecret has it"),
    ({"tls": {"existingSecret": "x"}, "extraVolumes": [{"name": "tls"}]}, 'the name "tls" is there already'),
    ({"config": {"DAEBUS_SERVICE": "other"}}, "the chart sets that variable itself: set service instead"),
    ({"config": {"DAEBUS_REDIS_URL": "redis://bus"}}, 'set bus.mode to "shared" and bus.shared instead'),
    ({"config": {"DAEBUS_EMBEDDED": "always"}}, "bus.mode says which bus there is"),
    ({"config": {"DAEBUS_HTTP_PORT": "8081"}}, "set port instead"),
    ({"config": {"DAEBUS_WEBSOCKET_PORT": "8081"}}, "HTTP and WebSocket share the value port"),
    ({"config": {"DAEBUS_MANAGEMENT_PORT": "9001"}}, "it is 9000, which the probes and the Service rely on"),
    ({"config": {"DAEBUS_DRAIN_SECONDS": "60"}}, "set drainSeconds instead"),
    # Values of the wrong type or form.
    ({"service": "Cold Store"}, 'service is "Cold Store", but has to be at most 40 lower-case letters'),
    ({"service": "cold_store\n"}, "but has to be at most 40 lower-case letters"),
    ({"nameOverride": "cold_store"}, "but has to be at most 53 lower-case letters, digits and -"),
    ({"port": 80}, "which only root may open: choose one from 1024 to 65535"),
    ({"port": 9000}, "where health and metrics are served: choose another one"),
    ({"port": 65536}, "'/port': maximum: got 65,536, want 65,535"),
    ({"port": "8080"}, "'/port': got string, want null or integer"),
    ({"image": {"repository": "cold-store:0.1.0"}}, "without tag or digest, which have values of their own"),
    ({"image": {"repository": "Cold-Store"}}, "has to be a name such as registry.local:5000/team/my-service"),
    ({"image": {"repository": ""}}, "has to be a name such as registry.local:5000/team/my-service"),
    ({"image": {"tag": "0.1.0+local"}}, "has to be at most 128 letters, digits, ., _ and -"),
    ({"image": {"tag": 0.1}}, "'/image/tag': got number, want null or integer or string"),
    ({"image": {"digest": "latest"}}, "has to be sha256: and 64 hexadecimal digits"),
    ({"image": {"pullPolicy": "Sometimes"}}, "must be one of 'Always', 'IfNotPresent', 'Never'"),
    ({"image": {"pullSecrets": "registry"}}, "'/image/pullSecrets': got string, want null or array"),
    ({"bus": {"mode": "cluster"}}, "must be one of 'sidecar', 'shared'"),
    ({"bus": {"sidecar": {"maxmemory": "64Mi"}}}, "an amount as the server writes it, such as 32mb"),
    ({"bus": {"sidecar": {"server": "keydb"}}}, "must be one of 'valkey', 'redis'"),
    ({"bus": {"mode": "shared", "shared": {"url": "daebus-bus:6379"}}}, "an address such as redis://daebus-bus:6379/0"),
    ({"bus": {"mode": "shared", "shared": {"url": "unix:///bus"}}}, "an address such as redis://daebus-bus:6379/0"),
    ({"config": {"A": [1]}}, "'/config/A': got array, want null or boolean or number or string"),
    ({"config": {"A-B": "1"}}, "A-B"),
    ({"secrets": ["Water Meter"]}, "'/secrets/0': 'Water Meter' does not match"),
    ({"resources": {"limits": {"memory": "lots"}}}, "'/resources/limits/memory': 'lots' does not match pattern"),
    ({"drainSeconds": 0}, "'/drainSeconds': minimum: got 0, want 1"),
    ({"test": {"route": "plants"}}, "a path such as /plants/basil/water"),
    ({"test": {"action": "water plants"}}, "the name of an action, without white space"),
    # Values that do not exist, at every level.
    ({"replicas": 1}, "additional properties 'replicas' not allowed"),
    ({"image": {"name": "x"}}, "'/image': additional properties 'name' not allowed"),
    ({"bus": {"url": "redis://x"}}, "'/bus': additional properties 'url' not allowed"),
    ({"bus": {"sidecar": {"port": 1}}}, "'/bus/sidecar': additional properties 'port' not allowed"),
    ({"bus": {"shared": {"secret": "x"}}}, "'/bus/shared': additional properties 'secret' not allowed"),
    ({"resources": {"limit": {}}}, "'/resources': additional properties 'limit' not allowed"),
    ({"resources": {"limits": {"disk": "1Gi"}}}, 'resources.limits: "disk" is no resource that Kubernetes has'),
    ({"serviceObject": {"ports": []}}, "'/serviceObject': additional properties 'ports' not allowed"),
    ({"probes": {"liveness": {"path": "/"}}}, "'/probes/liveness': additional properties 'path' not allowed"),
    ({"extraEnv": [{"name": "A", "from": {}}]}, "'/extraEnv/0': additional properties 'from' not allowed"),
    ({"test": {"path": "/"}}, "'/test': additional properties 'path' not allowed"),
    # Values under the library's name would be hidden by the chart's own, so they are refused.
    *(
        ({"daebus": {name: value}}, f"daebus.{name} would be ignored: values stand at the top level, so set {name}")
        for name, value in (("port", 9999), ("drainSeconds", 7), ("resources", None), ("bus", {"mode": "shared"}))
    ),
    # Required values cannot be removed.
    ({"service": None}, 'service is "", but has to be'),
    ({"image": None}, 'image.repository is "", but has to be'),
    ({"drainSeconds": None}, "drainSeconds is null, but nothing works without it"),
    ({"bus": {"sidecar": None}}, "bus.sidecar.image is null, but nothing works without it"),
    # Values that Kubernetes would refuse or misunderstand.
    ({"autoscaling": {"kind": "external"}}, "would never hear each other. Leave autoscaling.kind as"),
    ({"commonLabels": {"app.kubernetes.io/name": "x"}}, "finds the pods, and the chart sets it: set nameOverride"),
    ({"podLabels": {"team": "a b"}}, 'podLabels.team is "a b", but the value of a label is'),
    ({"serviceObject": {"labels": {"a b": "c"}}}, 'serviceObject.labels: "a b" cannot be the name of a label'),
    ({"serviceObject": {"nodePort": 30080}}, "set serviceObject.type to NodePort or LoadBalancer"),
    (
        {"serviceObject": {"type": "NodePort"}, "port": 0, "test": {"route": ""}},
        "set port, or leave serviceObject.type",
    ),
    ({"extraVolumes": [{"name": "tmp", "emptyDir": {}}]}, 'extraVolumes: the name "tmp" is there already'),
    ({"extraContainers": [{"name": "service"}]}, 'extraContainers: the name "service" is there already'),
    ({"extraEnv": [{"name": "A"}, {"name": "A"}]}, 'extraEnv: the name "A" is there already'),
    ({"extraEnv": [{"name": "DAEBUS_HTTP_PORT", "value": 1}]}, "extraEnv: DAEBUS_HTTP_PORT is set by the chart itself"),
    ({"terminationGracePeriodSeconds": 30}, "the end of this service may take 37: set drainSeconds to at most 18"),
    ({"resources": {"requests": {"cpu": 2}, "limits": {"cpu": "500m"}}}, "resources.requests.cpu is 2, more than"),
]
SHARED_BUS: list[tuple[dict[str, Any], str]] = [
    ({"replicaCount": 2}, "additional properties 'replicaCount' not allowed"),
    ({"server": "keydb"}, "must be one of 'valkey', 'redis'"),
    ({"server": "redis"}, 'set server to "valkey" too, or take an image of redis'),
    ({"maxmemory": "128Mi"}, "an amount as the server writes it, such as 64mb"),
    ({"maxmemory": "160mb"}, "killed before it is full: set resources.limits.memory to about twice maxmemory"),
    ({"resources": {"requests": {"memory": "1Gi"}}}, "set resources.limits.memory too"),
    ({"daebus": {"port": 1}}, "daebus.port would be ignored"),
    ({"maxmemory": None}, "maxmemory is null, but nothing works without it"),
    ({"extraVolumes": [{"name": "data"}]}, 'extraVolumes: the name "data" is there already'),
    ({"podLabels": {"a": "-"}}, 'podLabels.a is "-", but the value of a label is'),
    ({"image": {"repository": "valkey/valkey:8"}}, "without tag or digest, which have values of their own"),
    ({"image": {"tag": ""}}, "has to be 1 to 128 letters"),
    ({"image": {"digest": "sha256:1"}}, "has to be sha256: and 64 hexadecimal digits"),
    ({"nameOverride": "Bus"}, "has to be at most 53 lower-case letters"),
    ({"existingSecret": "My Bus"}, "'/existingSecret'"),
    ({"password": "1234"}, "additional properties 'password' not allowed"),
    ({"persistence": {"enabled": "yes"}}, "'/persistence/enabled': got string, want null or boolean"),
    ({"persistence": {"size": "big"}}, "'/persistence/size': 'big' does not match pattern"),
]


@pytest.mark.parametrize(("values", "text"), SERVICE, ids=[json.dumps(values) for values, _ in SERVICE])
def test_the_services_chart_refuses(service_chart: Path, values: dict[str, Any], text: str) -> None:
    assert text in refusal(service_chart, values)


@pytest.mark.parametrize(("values", "text"), SHARED_BUS, ids=[json.dumps(values) for values, _ in SHARED_BUS])
def test_the_shared_bus_refuses(values: dict[str, Any], text: str) -> None:
    assert text in refusal(BUS, values)
