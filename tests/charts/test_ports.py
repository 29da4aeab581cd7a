"""The port that the chart tells a service, and whether `helm test` notices that nobody answers there."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.charts.charts import SHARED, environment, one, pod_specs, render, service_pod
from tests.support.ports import free_port
from tests.template.rendering import COMBINATIONS, copy_project, title


@pytest.mark.parametrize("features", [some for some in COMBINATIONS if {"http", "websocket"} & set(some)], ids=title)
def test_every_set_of_features_with_a_port_listens_where_the_service_object_points(
    template: Path, tmp_path: Path, features: list[str]
) -> None:
    chart = copy_project(template, tmp_path / "p", service_name="a", features=features, port="9443") / "helm" / "a"
    for port in (9443, 9555):
        objects = render(chart, {"port": port})
        [container] = service_pod(objects)["containers"]
        told = environment(container)
        assert (told["DAEBUS_HTTP_PORT"], told["DAEBUS_WEBSOCKET_PORT"]) == (str(port), str(port))
        assert {"name": "http", "containerPort": port} in container["ports"]
        assert {"name": "http", "port": port, "targetPort": "http"} in one(objects, "Service")["spec"]["ports"]


@pytest.mark.parametrize("values", [{}, SHARED], ids=["sidecar", "shared"])
def test_helm_test_asks_the_port_where_no_route_does(template: Path, tmp_path: Path, values: dict[str, Any]) -> None:
    project = copy_project(template, tmp_path / "p", service_name="a", features=["websocket"], port="9443")
    [asks] = pod_specs(render(project / "helm" / "a", values))["a-test"]["initContainers"]
    *command, url = asks["command"]
    assert url == "http://a:9443/"
    assert command[:2] == ["python", "-c"]


def test_its_question_fails_where_nobody_listens(service_chart: Path) -> None:
    [asks] = pod_specs(render(service_chart, SHARED))["cold-store-test"]["initContainers"]
    done = subprocess.run(
        [sys.executable, *asks["command"][1:-1], f"http://127.0.0.1:{free_port()}/"], capture_output=True, timeout=30
    )
    assert done.returncode == 1


def test_both_families_are_listened_on_unless_somebody_says_otherwise(service_chart: Path) -> None:
    def hosts(values: dict[str, Any]) -> list[Any]:
        told = environment(service_pod(render(service_chart, values))["containers"][0])
        return [told.get(f"DAEBUS_{which}_HOST") for which in ("HTTP", "MANAGEMENT")]

    assert hosts({}) == ["::", "::"]
    assert hosts({"config": {"DAEBUS_HTTP_HOST": "0.0.0.0"}}) == [None, "::"]
    assert hosts({"extraEnv": [{"name": "DAEBUS_MANAGEMENT_HOST", "value": "0.0.0.0"}]}) == ["::", "0.0.0.0"]


def test_the_grace_period_is_one_sum_with_time_to_spare(service_chart: Path) -> None:
    def grace(**values: Any) -> int:
        found: int = service_pod(render(service_chart, values))["terminationGracePeriodSeconds"]
        return found

    hooks, spare = 5, 4
    assert grace() == 3 + 25 + hooks + spare
    assert grace(drainSeconds=60, preStopSeconds=10) == 10 + 60 + hooks + spare
    assert grace(port=0, test={"route": ""}) == 25 + hooks + spare
    assert grace(terminationGracePeriodSeconds=300) == 300
    compose = (service_chart.parents[1] / "compose.yaml").read_text()
    seconds = int(compose.partition("stop_grace_period: ")[2].partition("s")[0])
    assert seconds >= 25 + hooks + spare
