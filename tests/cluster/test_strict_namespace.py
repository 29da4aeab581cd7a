"""A namespace whose quota counts everything, and whose policies deny all flows that docs/platforms.md does not name."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.cluster.kubernetes import OWN, OWN_SOCKET, Client, Namespace
from tests.support.waiting import wait_until
from tests.template.rendering import REPOSITORY

pytestmark = pytest.mark.cluster

BUS = "daebus-bus"
ENFORCES = OWN and (OWN_SOCKET.parent / "router.pid").exists()
BLOCKED = r"timed out|TimeoutError|refused|unreachable"
COUNTED = {
    f"{bound}.{what}": amount
    for what, amount in {"cpu": "4", "memory": "4Gi", "ephemeral-storage": "4Gi"}.items()
    for bound in ("requests", "limits")
}


def on_the_page(heading: str) -> str:
    """The first YAML block below a heading of docs/platforms.md."""
    page = (REPOSITORY / "docs" / "platforms.md").read_text()
    [block] = re.findall(rf"^## {heading}\n.*?^```yaml\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    return str(block)


@pytest.fixture(scope="module")
def strict(make_namespace: Callable[[str], Namespace]) -> Namespace:
    space = make_namespace("strict")
    quota = {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": "everything"},
        "spec": {"hard": COUNTED},
    }
    space.kubectl("create", "--filename", "-", stdin=json.dumps(quota))
    space.kubectl("create", "--filename", "-", stdin=on_the_page("Network flows"))
    wait_until(lambda: space.get("resourcequota", "everything")["status"].get("used"), 30, "the quota is counted")
    return space


@pytest.fixture(scope="module")
def values(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("strict") / "values.yaml"
    file.write_text(on_the_page("Quotas"))
    return file


@pytest.fixture(scope="module")
def installed(strict: Namespace, values: Path, services: SimpleNamespace) -> SimpleNamespace:
    """The shared bus with two services on it, and a service with its bus in the pod, with the page's values."""
    own = values.with_name("bus.yaml")
    own.write_text(values.read_text().partition("bus:\n")[0])
    for release, chart, file in [
        (BUS, REPOSITORY / "helm" / BUS, own),
        *((one.objects, one.chart, values) for one in (services.north, services.south, services.alone)),
    ]:
        strict.helm("install", release, chart, "--values", file, "--wait", "--timeout", "120s")
    return services


@pytest.fixture(scope="module")
def outsider(make_namespace: Callable[[str], Namespace], services: SimpleNamespace) -> Client:
    """A pod in another namespace."""
    return Client(make_namespace("outside"), services.north.image)


@pytest.fixture(scope="module")
def enforced(strict: Namespace, installed: SimpleNamespace, outsider: Client) -> None:
    """A user's own cluster may accept NetworkPolicy objects without enforcing them; ours must, if it can."""
    if not ENFORCES and not re.search(BLOCKED, answer_of_the_bus(outsider, strict)):
        pytest.skip("this cluster does not enforce NetworkPolicy objects")


def test_the_quota_refuses_what_sets_less(
    make_namespace: Callable[[str], Namespace], strict: Namespace, services: SimpleNamespace
) -> None:
    """Otherwise the next tests would prove nothing."""
    strict.helm("install", "careless", services.alone.chart, "--set", "nameOverride=careless")
    wait_until(lambda: any("must specify" in said for said in strict.refusals()), 30, "an event that says so")
    assert strict.pods("careless") == []
    strict.helm("uninstall", "careless", "--wait")


@pytest.mark.parametrize("release", [BUS, "north-field", "south-field", "cold-store"])
def test_each_chart_is_ready_and_passes_its_own_test(
    strict: Namespace, installed: SimpleNamespace, release: str
) -> None:
    assert "Phase:          Succeeded" in strict.helm("test", release, "--timeout", "60s")


def test_services_call_each_other(strict: Namespace, installed: SimpleNamespace) -> None:
    for caller, callee in [(installed.north, installed.south), (installed.south, installed.north)]:
        inside = ("exec", f"deployment/{caller.objects}", "--container", "service", "--")
        answer = strict.kubectl(*inside, "daebus", "call", callee.name, "water", '{"plant": "basil"}')
        assert json.loads(answer)["plant"] == "basil"


def test_an_upgrade_has_room(strict: Namespace, installed: SimpleNamespace, values: Path) -> None:
    north, changed = installed.north, "config.DAEBUS_LOG_LEVEL=debug"
    strict.helm(
        "upgrade", north.objects, north.chart, "--values", values, "--set", changed, "--wait", "--timeout", "120s"
    )


def test_others_reach_the_ports_of_a_service_only(
    strict: Namespace, installed: SimpleNamespace, outsider: Client, enforced: None
) -> None:
    north = f"{installed.north.objects}.{strict.name}"
    assert outsider.ask("GET", f"http://{north}:8080/plants/basil")[0] == 200
    assert outsider.ask("GET", f"http://{north}:9000/readyz")[0] == 200
    assert re.search(BLOCKED, answer_of_the_bus(outsider, strict))


def test_the_services_reach_nobody_else(strict: Namespace, installed: SimpleNamespace, enforced: None) -> None:
    inside = ("exec", f"deployment/{installed.north.objects}", "--container", "service", "--", "python", "-c")
    dial = "import os, socket; socket.create_connection((os.environ['KUBERNETES_SERVICE_HOST'], 443), 3)"
    with pytest.raises(AssertionError, match=BLOCKED):
        strict.kubectl(*inside, dial)


def answer_of_the_bus(outsider: Client, strict: Namespace) -> str:
    """What a client sees that speaks HTTP to the bus."""
    with pytest.raises(AssertionError) as failed:
        outsider.ask("GET", f"http://{BUS}.{strict.name}:6379/")
    return str(failed.value)
