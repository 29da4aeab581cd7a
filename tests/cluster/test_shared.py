"""Two services on one bus: they call each other, and recover when the bus is upgraded, restarted or killed."""

from __future__ import annotations

import json
from collections.abc import Callable
from types import SimpleNamespace

import pytest

from tests.cluster.images import EARLIER, Service
from tests.cluster.kubernetes import Client, Namespace, is_ready, restarts
from tests.support.waiting import wait_until
from tests.template.rendering import REPOSITORY

pytestmark = pytest.mark.cluster

BUS = "daebus-bus"
BUS_CHART = REPOSITORY / "helm" / BUS


@pytest.fixture(scope="module")
def town(namespace: Namespace, services: SimpleNamespace) -> SimpleNamespace:
    """The bus and two services on it, one of them with two replicas."""
    namespace.install(BUS, BUS_CHART)
    namespace.install(services.north.objects, services.north.chart, "replicaCount=2")
    namespace.install(services.south.objects, services.south.chart)
    return services


@pytest.mark.parametrize("release", [BUS, "north-field", "south-field"])
def test_each_chart_passes_its_own_test(namespace: Namespace, town: SimpleNamespace, release: str) -> None:
    assert "Phase:          Succeeded" in namespace.helm("test", release, "--timeout", "60s")


def test_services_in_different_pods_call_each_other(namespace: Namespace, town: SimpleNamespace) -> None:
    assert len(namespace.pods(town.north.objects)) == 2
    assert call(namespace, town.south, town.north)["plant"] == "basil"
    assert call(namespace, town.north, town.south)["plant"] == "basil"


def test_an_upgrade_of_the_bus_keeps_its_password(
    namespace: Namespace, client: Client, town: SimpleNamespace, measured: Callable[[str], None]
) -> None:
    secret = namespace.get("secret", BUS)["data"]
    old = namespace.names(BUS)
    before = restarted(namespace, town)
    with client.flood("POST", f"{town.north.url}/plants/basil/water") as flood:
        namespace.install(BUS, BUS_CHART, "maxmemory=48mb", command="upgrade")
        everyone_is_back(namespace, town)
    measured(f"shared bus upgraded: no answers over it for {flood.gap:.1f} s")
    assert not namespace.names(BUS) & old
    assert namespace.get("secret", BUS)["data"] == secret
    assert call(namespace, town.south, town.north)["plant"] == "basil"
    assert restarted(namespace, town) == before


def test_services_go_on_when_the_bus_was_killed(
    namespace: Namespace, client: Client, town: SimpleNamespace, measured: Callable[[str], None]
) -> None:
    before = restarted(namespace, town)
    [killed] = namespace.names(BUS)
    with client.flood("POST", f"{town.south.url}/plants/basil/water") as flood:
        namespace.kubectl("delete", "pod", killed, "--grace-period=0", "--force")
        wait_until(lambda: killed not in namespace.names(BUS, ending=True), 60)
        everyone_is_back(namespace, town)
    measured(f"shared bus killed: no answers over it for {flood.gap:.1f} s")
    assert call(namespace, town.south, town.north)["plant"] == "basil"
    assert restarted(namespace, town) == before


def test_no_request_fails_while_a_service_is_upgraded(
    namespace: Namespace, client: Client, town: SimpleNamespace, measured: Callable[[str], None]
) -> None:
    old = namespace.names(town.north.objects)
    settings = ("replicaCount=2", "config.DAEBUS_LOG_LEVEL=debug")
    with client.flood("POST", f"{town.north.url}/plants/basil/water") as flood:
        namespace.install(town.north.objects, town.north.chart, *settings, command="upgrade")
        wait_until(lambda: not namespace.names(town.north.objects, ending=True) & old, 60, "the old pods are gone")
    measured(f"rolling upgrade: {flood.answers} requests answered, {len(flood.failures)} failed")
    assert flood.answers > 100
    assert flood.failures == []


def test_no_request_fails_during_an_upgrade_from_an_earlier_commit(
    namespace: Namespace, client: Client, town: SimpleNamespace, measured: Callable[[str], None]
) -> None:
    """While the pods are replaced, the earlier template, chart, image and runtime run beside today's."""
    if town.former is None:
        pytest.skip("this repository does not know the commit from which to upgrade: it is a shallow clone")
    north = town.north.objects
    namespace.install(north, town.former.chart, "replicaCount=2", f"image.tag={EARLIER}", command="upgrade")
    everyone_is_back(namespace, town)
    old = namespace.names(north)
    assert call(namespace, town.south, town.north)["plant"] == "basil"
    with client.flood("POST", f"{town.north.url}/plants/basil/water") as flood:
        namespace.install(north, town.north.chart, "replicaCount=2", "image.tag=0.1.0", command="upgrade")
        wait_until(lambda: not namespace.names(north, ending=True) & old, 60, "the old pods are gone")
    measured(f"upgrade from an earlier state: {flood.answers} requests answered, {len(flood.failures)} failed")
    assert flood.answers > 100
    assert flood.failures == []


def test_uninstalling_leaves_nothing(make_namespace: Callable[[str], Namespace], services: SimpleNamespace) -> None:
    space = make_namespace("uninstalled")
    south = services.south
    space.install(BUS, BUS_CHART)
    space.install(south.objects, south.chart)
    for release in (south.objects, BUS):
        space.helm("uninstall", release, "--wait", "--timeout", "120s")
    wait_until(lambda: not space.everything(), 60, lambda: f"nothing left, but there is {space.everything()}")


def call(namespace: Namespace, caller: Service, callee: Service) -> dict[str, object]:
    """Calls `water` of one service from a pod of the other; the answer."""
    inside = ("exec", f"deployment/{caller.objects}", "--container", "service", "--")
    answer = namespace.kubectl(*inside, "daebus", "call", callee.name, "water", '{"plant": "basil"}')
    found: dict[str, object] = json.loads(answer)
    return found


def restarted(namespace: Namespace, town: SimpleNamespace) -> dict[str, int]:
    """How often the service's container was restarted, by pod."""
    pods = [pod for service in (town.north, town.south) for pod in namespace.pods(service.objects)]
    return {pod["metadata"]["name"]: restarts(pod, "service") for pod in pods}


def everyone_is_back(namespace: Namespace, town: SimpleNamespace) -> None:
    """Waits until bus and services are ready, and each service says so itself."""

    def ready() -> bool:
        bus, *services = [namespace.pods(name) for name in (BUS, town.north.objects, town.south.objects)]
        if [len(pods) for pods in (bus, *services)] != [1, 2, 1]:
            return False
        # What Kubernetes knows of a pod is as old as its last probe: a service may have lost the bus since then.
        return all(is_ready(pod) for pod in bus) and all(
            is_ready(pod) and namespace.says_ready(pod) for pods in services for pod in pods
        )

    wait_until(ready, 60, "the bus and three pods of services are ready")
