"""Three replicas on a shared bus that keeps its data: each call runs once, also when a replica or the bus is killed."""

from __future__ import annotations

import json
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from types import SimpleNamespace

import pytest
import trustme

from tests.cluster.kubernetes import OWN, Client, Namespace, ctr, is_ready, statuses
from tests.cluster.test_bus import ask
from tests.support.waiting import wait_until
from tests.template.rendering import REPOSITORY

pytestmark = pytest.mark.cluster

BUS = "daebus-bus"
CALLS = 300
CALLER = f"""
import daebus
import gevent, gevent.pool, json
from daebus_runtime import DaebusCaller

north, answers = DaebusCaller("north_field"), {{}}


def call(number):
    try:
        answers[number] = north.send_request("count", number, timeout=90)
    except Exception as error:
        answers[number] = repr(error)


pool = gevent.pool.Pool({CALLS})
for number in range({CALLS}):
    pool.spawn(call, number)
    gevent.sleep(0.02)
    if number % 50 == 0:
        print(number, flush=True)
pool.join()
print(json.dumps([[number, answer] for number, answer in answers.items()]), flush=True)
"""


@pytest.fixture(scope="module")
def north(namespace: Namespace, services: SimpleNamespace) -> Iterator[SimpleNamespace]:
    namespace.install(BUS, REPOSITORY / "helm" / BUS, "persistence.enabled=true")
    namespace.install(services.north.objects, services.north.chart, "replicaCount=3", "image.tag=0.3.0")
    yield services.north
    ask(namespace, "FLUSHALL")
    ask(namespace, "BGREWRITEAOF")


def called(namespace: Namespace, north: SimpleNamespace, *harm: tuple[int, Callable[[], object]]) -> list[list[object]]:
    """Calls from one of the pods; each harm is done once so many have been sent. Returns [number, answer] of each."""
    # The pod whose name is the last one calls; none of the harm is done to it.
    pod = max(namespace.names(north.objects))
    words = ("exec", pod, "--container", "service", "--", "python", "-c", CALLER)
    process = subprocess.Popen(
        ["kubectl", "--namespace", namespace.name, *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    left, last = list(harm), ""
    for line in process.stdout:
        last = line
        if left and line.strip().isdigit() and int(line) >= left[0][0]:
            left.pop(0)[1]()
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    assert not left
    found: list[list[object]] = json.loads(last)
    return found


def kill(namespace: Namespace, pod: str) -> None:
    namespace.kubectl("delete", "pod", pod, "--grace-period=0", "--force")


def kill_bus(namespace: Namespace) -> None:
    """SIGKILL where this machine can reach its process; in any other cluster a SHUTDOWN that saves nothing. The pod
    stays: one that is deleted by force may still write to the volume when its successor has read it."""
    [container] = statuses(namespace.pod(BUS))
    if OWN:
        ctr("tasks", "kill", "--signal", "SIGKILL", container["containerID"].rpartition("//")[2])
        return
    with suppress(AssertionError):  # the server ends before kubectl gets an answer
        ask(namespace, "SHUTDOWN NOSAVE")


def counted(namespace: Namespace) -> tuple[Counter[str], int]:
    """How often the effect of each call is there, and how many runs were begun; forgotten afterwards."""
    counts = ask(namespace, "HGETALL counts").split()
    runs = int(ask(namespace, "LLEN runs"))
    ask(namespace, "DEL counts runs")
    return Counter(dict(zip(counts[::2], map(int, counts[1::2]), strict=True))), runs


def all_is_well(answers: list[list[object]]) -> None:
    wrong = [pair for pair in answers if pair[0] != pair[1]]
    assert not wrong, wrong[:5]
    assert len(answers) == CALLS


def everyone_is_back(namespace: Namespace, north: SimpleNamespace) -> None:
    def ready() -> bool:
        bus, pods = namespace.pods(BUS), namespace.pods(north.objects)
        return [len(bus), len(pods)] == [1, 3] and all(is_ready(pod) for pod in (*bus, *pods))

    wait_until(ready, 90, "the bus and three pods are ready")


def test_each_call_runs_once(namespace: Namespace, north: SimpleNamespace) -> None:
    all_is_well(called(namespace, north))
    counts, runs = counted(namespace)
    assert set(counts.values()) == {1}
    assert (len(counts), runs) == (CALLS, CALLS)


def test_a_replica_is_killed_and_then_the_bus(
    namespace: Namespace, north: SimpleNamespace, measured: Callable[[str], None]
) -> None:
    victim = min(namespace.names(north.objects))
    answers = called(namespace, north, (50, lambda: kill(namespace, victim)), (150, lambda: kill_bus(namespace)))
    all_is_well(answers)
    everyone_is_back(namespace, north)
    counts, runs = counted(namespace)
    assert set(counts.values()) == {1}, "the effects are there once"
    assert len(counts) == CALLS
    measured(f"{CALLS} calls to three replicas, one of them and the bus killed: {runs - CALLS} runs were repetitions")
    assert runs - CALLS < 50


def test_a_rolling_restart_fails_no_client_that_keeps_its_connection(
    namespace: Namespace, client: Client, north: SimpleNamespace, measured: Callable[[str], None]
) -> None:
    everyone_is_back(namespace, north)
    old = namespace.names(north.objects)
    with client.flood("POST", f"{north.url}/plants/basil/water", kept=True) as flood:
        namespace.kubectl("rollout", "restart", f"deployment/{north.objects}")
        namespace.kubectl("rollout", "status", f"deployment/{north.objects}", "--timeout=120s")
        wait_until(lambda: not namespace.names(north.objects, ending=True) & old, 60, "the old pods are gone")
    measured(
        f"rolling restart of three replicas, clients that keep their connections: {flood.answers} requests answered, "
        f"{len(flood.failures)} failed"
    )
    assert flood.answers > 100
    assert flood.failures == []


def test_with_tls_the_chart_passes_its_own_test_and_plain_requests_fail(
    namespace: Namespace, client: Client, north: SimpleNamespace
) -> None:
    authority = trustme.CA()
    issued = authority.issue_cert(north.objects)
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "north-tls"},
        "type": "kubernetes.io/tls",
        "stringData": {
            "tls.crt": b"".join(blob.bytes() for blob in issued.cert_chain_pems).decode(),
            "tls.key": issued.private_key_pem.bytes().decode(),
        },
    }
    namespace.kubectl("create", "--filename", "-", stdin=json.dumps(secret))
    settings = ("replicaCount=3", "image.tag=0.3.0", "tls.existingSecret=north-tls")
    namespace.install(north.objects, north.chart, *settings, command="upgrade")
    assert "Phase:          Succeeded" in namespace.helm("test", north.objects, "--timeout", "60s")
    with pytest.raises(AssertionError, match=r"RemoteDisconnected|ConnectionReset|BadStatusLine|400"):
        assert client.ask("GET", f"{north.url}/plants")[0] == 200
