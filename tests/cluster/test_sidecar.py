"""A service with its bus in the pod: installed, killed in two ways, upgraded, rolled back, uninstalled."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from types import SimpleNamespace

import pytest

from tests.cluster.images import Service
from tests.cluster.kubernetes import OWN, Client, Namespace, Object, ctr, is_ready, restarts, statuses
from tests.support.waiting import wait_until

pytestmark = pytest.mark.cluster


@pytest.fixture(scope="module")
def garden(namespace: Namespace, services: SimpleNamespace) -> Service:
    """The service, installed as its README says, with default values."""
    service: Service = services.alone
    namespace.install(service.objects, service.chart)
    return service


def test_installed_it_is_ready_and_its_own_test_passes(namespace: Namespace, garden: Service) -> None:
    pod = namespace.pod(garden.objects)
    assert is_ready(pod)
    assert [restarts(pod, container) for container in ("bus", "service")] == [0, 0]
    assert "Phase:          Succeeded" in namespace.helm("test", garden.objects, "--timeout", "60s")


def test_the_service_object_leads_to_it(client: Client, garden: Service) -> None:
    status, body = client.ask("GET", f"{garden.url}/plants/basil")
    assert (status, json.loads(body)["plant"]) == (200, "basil")
    status, body = client.ask("POST", f"{garden.url}/plants/mint/water")
    assert (status, json.loads(body)["plant"]) == (200, "mint"), "an action, over the bus in the pod"
    status, body = client.ask("GET", f"http://{garden.objects}:9000/readyz")
    assert (status, json.loads(body)) == (200, {"ready": True, "reasons": []})
    status, _ = client.ask("GET", f"{garden.url}/plants/fern")
    assert status == 404


def test_a_killed_pod_is_replaced(
    namespace: Namespace, client: Client, garden: Service, measured: Callable[[str], None]
) -> None:
    killed = namespace.pod(garden.objects)["metadata"]["name"]

    def replaced() -> bool:
        return any(pod["metadata"]["name"] != killed and is_ready(pod) for pod in namespace.pods(garden.objects))

    with client.flood("POST", f"{garden.url}/plants/basil/water") as flood:
        namespace.kubectl("delete", "pod", killed, "--grace-period=0", "--force")
        wait_until(replaced, 60)
    wait_until(lambda: client.ask("POST", f"{garden.url}/plants/basil/water")[0] == 200, 10)
    measured(f"pod killed, bus in it: no answers over the bus for {flood.gap:.1f} s")


def test_a_killed_sidecar_comes_back_and_the_service_goes_on(
    namespace: Namespace, client: Client, garden: Service, measured: Callable[[str], None]
) -> None:
    before = namespace.pod(garden.objects)
    assert is_ready(before)

    def recovered() -> bool:
        pod = namespace.pod(garden.objects)
        return restarts(pod, "bus") == restarts(before, "bus") + 1 and is_ready(pod)

    with client.flood("POST", f"{garden.url}/plants/basil/water") as flood:
        kill_bus(namespace, before)
        wait_until(recovered, 60)
        # The pod may still be ready from before the kill, and the way to it opens some moments after it is ready.
        wait_until(lambda: client.ask("POST", f"{garden.url}/plants/basil/water")[0] == 200, 10)
    assert flood.failures, "the bus was gone for a moment"
    assert not [one for one in flood.failures if "no such service" in one], "a bus without data knows no service"
    measured(f"sidecar killed: no answers over the bus for {flood.gap:.1f} s")
    after = namespace.pod(garden.objects)
    assert after["metadata"]["name"] == before["metadata"]["name"]
    assert restarts(after, "service") == restarts(before, "service"), "the service itself had no reason to restart"


def test_upgrade_rollback_and_uninstall(
    namespace: Namespace, client: Client, services: SimpleNamespace, measured: Callable[[str], None]
) -> None:
    before = namespace.everything()
    name, chart = "cellar", services.alone.chart
    plant = f"http://{name}:8080/plants/fern"
    namespace.install(name, chart, f"nameOverride={name}")
    assert client.ask("GET", plant)[0] == 404

    settings = (f"nameOverride={name}", "image.tag=0.2.0", "config.DAEBUS_LOG_LEVEL=debug")
    [old] = namespace.names(name)
    with client.flood("POST", f"http://{name}:8080/plants/basil/water") as flood:
        namespace.install(name, chart, *settings, command="upgrade")
        wait_until(lambda: old not in namespace.names(name, ending=True), 60, "the old pod is gone")
    measured(f"upgrade, bus in the pod: {flood.answers} requests answered, {len(flood.failures)} failed")
    assert flood.failures == []
    assert client.ask("GET", plant)[0] == 200
    inside = ("exec", f"deployment/{name}", "--container", "service", "--")
    assert namespace.kubectl(*inside, "printenv", "DAEBUS_LOG_LEVEL").strip() == "debug"

    [upgraded] = namespace.names(name)
    namespace.helm("rollback", name, "1", "--wait", "--timeout", "120s")
    # Helm waits for the new pod only. The old one may get requests until every node has learnt that it is going.
    wait_until(lambda: upgraded not in namespace.names(name, ending=True), 60, "the upgraded pod is gone")
    assert client.ask("GET", plant)[0] == 404
    assert f"configmap/{name}" not in namespace.everything()

    namespace.helm("uninstall", name, "--wait", "--timeout", "120s")

    def left() -> set[str]:
        return namespace.everything() - before

    wait_until(lambda: not left(), 60, lambda: f"nothing left, but there is {left()}")


def kill_bus(namespace: Namespace, pod: Object) -> None:
    """SIGKILL where this machine can reach its process; in any other cluster a SHUTDOWN that saves nothing."""
    [container] = [one for one in statuses(pod) if one["name"] == "bus"]
    if OWN:
        ctr("tasks", "kill", "--signal", "SIGKILL", container["containerID"].rpartition("//")[2])
        return
    [bus] = [one for one in pod["spec"]["initContainers"] if one["name"] == "bus"]
    *words, ping = bus["startupProbe"]["exec"]["command"]
    assert ping == "ping"
    inside = ("exec", pod["metadata"]["name"], "--container", "bus", "--")
    with suppress(AssertionError):  # the server and its container end before kubectl gets an answer
        namespace.kubectl(*inside, *words, "shutdown", "nosave")
