"""The shared bus alone: with a volume its data outlives its pod and its release."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.cluster.kubernetes import Namespace
from tests.support.waiting import wait_until
from tests.template.rendering import REPOSITORY

pytestmark = pytest.mark.cluster

BUS = "daebus-bus"
CHART = REPOSITORY / "helm" / BUS


@pytest.fixture(scope="module")
def lasting_bus(namespace: Namespace) -> Iterator[Namespace]:
    """A bus with a volume. At the end the volume is emptied, since some clusters reuse it with its data."""
    namespace.install(BUS, CHART, "persistence.enabled=true")
    yield namespace
    ask(namespace, "FLUSHALL")
    ask(namespace, "BGREWRITEAOF")


def test_its_data_outlives_its_pod_and_its_release(lasting_bus: Namespace) -> None:
    assert ask(lasting_bus, "XADD harvest 1-1 basil 7") == "1-1"
    old = lasting_bus.pod(BUS)["metadata"]["name"]
    lasting_bus.kubectl("delete", "pod", old, "--wait")
    lasting_bus.kubectl("rollout", "status", f"deployment/{BUS}", "--timeout=60s")
    assert ask(lasting_bus, "XLEN harvest") == "1"

    lasting_bus.helm("uninstall", BUS, "--wait", "--timeout", "120s")
    claim = {f"persistentvolumeclaim/{BUS}"}  # kept by the chart on purpose
    wait_until(lambda: lasting_bus.everything() == claim, 60, lambda: f"only {claim}: {lasting_bus.everything()}")

    lasting_bus.install(BUS, CHART, "persistence.enabled=true")
    assert ask(lasting_bus, "XRANGE harvest - +").split() == ["1-1", "basil", "7"]


def test_without_the_password_it_answers_nothing(namespace: Namespace, lasting_bus: Namespace) -> None:
    server = ("exec", f"deployment/{BUS}", "--", "valkey-cli")
    assert "NOAUTH" in namespace.kubectl(*server, "GET", "harvest")
    assert "NOPERM" in namespace.kubectl(
        *server, "--user", "probe", "--pass", "none", "--no-auth-warning", "GET", "harvest"
    )


def ask(namespace: Namespace, command: str) -> str:
    """Runs a command on the server from inside its pod, with the password from its configuration."""
    script = f'REDISCLI_AUTH=$(sed "s/requirepass //" /etc/bus/server.conf) valkey-cli {command}'
    return namespace.kubectl("exec", f"deployment/{BUS}", "--", "sh", "-c", script).strip()
