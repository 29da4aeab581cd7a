"""kubectl and helm for the tests: their own namespaces, and the state of the cluster for the report of a failure."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support.waiting import wait_until

# Read at import: later a fixture removes all `DAEBUS_*` variables.
KUBECONFIG = os.environ.get("KUBECONFIG", "")
NO_CLUSTER = os.environ.get("DAEBUS_NO_CLUSTER") or (
    "" if KUBECONFIG else "KUBECONFIG names no cluster; `make test-cluster` makes one"
)
LOAD = shlex.split(os.environ.get("DAEBUS_CLUSTER_LOAD", ""))

# The cluster of .ci/offline-cluster runs on this machine, so its containers can be reached from outside.
OWN_STATE, OWN_SOCKET = Path("/var/lib/offline-cluster/admin.kubeconfig"), Path("/run/offline-cluster/containerd.sock")
OWN = Path(KUBECONFIG) == OWN_STATE and OWN_SOCKET.exists()

IN_POD = (Path(__file__).parent / "in_pod.py").read_text()
RESTRICTED = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "warn")}
# Objects that Kubernetes itself creates in each namespace.
ALWAYS_THERE = {"configmap/kube-root-ca.crt", "serviceaccount/default"}
Object = dict[str, Any]


def run(*command: str | Path, stdin: str | None = None, timeout: float = 180) -> str:
    """Runs a command and returns its output. When it fails, raises AssertionError with its output and errors."""
    words = [str(word) for word in command]
    try:
        done = subprocess.run(words, input=stdin, capture_output=True, text=True, timeout=timeout)
    except subprocess.TimeoutExpired as error:
        raise AssertionError(f"{shlex.join(words)}: nothing after {timeout:g} s: {error.stdout!r}") from error
    said = f"{shlex.join(words)[:2000]}:\n{done.stdout}{done.stderr}"
    assert done.returncode == 0, said
    assert "would violate PodSecurity" not in done.stderr, said
    return done.stdout


def kubectl(*words: str | Path, stdin: str | None = None, timeout: float = 180) -> str:
    """kubectl without a namespace; like `run`."""
    return run("kubectl", *words, stdin=stdin, timeout=timeout)


def ctr(*words: str) -> str:
    """containerd's own client, on the cluster of .ci/offline-cluster."""
    return run("ctr", "--address", OWN_SOCKET, "--namespace", "k8s.io", *words)


class Namespace:
    """A namespace under Pod Security "restricted". `delete` removes it with all its objects."""

    def __init__(self, name: str) -> None:
        self.name = name
        labels = {**RESTRICTED, "app.kubernetes.io/part-of": "daebus-tests"}
        manifest = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}
        kubectl("create", "--filename", "-", stdin=json.dumps(manifest))
        wait_until(lambda: "default" in self.kubectl("get", "serviceaccounts", "-o", "name"), 30)

    def delete(self, wait: bool) -> None:
        kubectl("delete", "namespace", self.name, "--ignore-not-found", f"--wait={str(wait).lower()}", "--timeout=120s")

    def kubectl(self, *words: str | Path, stdin: str | None = None, timeout: float = 180) -> str:
        return kubectl("--namespace", self.name, *words, stdin=stdin, timeout=timeout)

    def helm(self, *words: str | Path) -> str:
        return run("helm", "--namespace", self.name, *words)

    def install(self, release: str, chart: Path, *settings: str, command: str = "install") -> str:
        """Installs or upgrades a chart with settings like `image.tag=7`, and waits until everything is ready."""
        words = [word for setting in settings for word in ("--set", setting)]
        return self.helm(command, release, chart, "--wait", "--timeout", "120s", *words)

    def get(self, *words: str) -> Object:
        found: Object = json.loads(self.kubectl("get", *words, "--output", "json"))
        return found

    def pods(self, name: str, ending: bool = False) -> list[Object]:
        """The pods of a service or a bus, by default without those that are terminating."""
        items = self.get("pods", "--selector", f"app.kubernetes.io/name={name}")["items"]
        return [pod for pod in items if ending or "deletionTimestamp" not in pod["metadata"]]

    def pod(self, name: str) -> Object:
        [pod] = self.pods(name)
        found: Object = pod
        return found

    def says_ready(self, pod: Object) -> bool:
        """Whether the service in a pod passes its readiness probe at this moment."""
        inside = ("exec", pod["metadata"]["name"], "--container", "service", "--")
        try:
            self.kubectl(*inside, "python", "-m", "daebus_runtime.health", timeout=20)
        except AssertionError:
            return False
        return True

    def names(self, name: str, ending: bool = False) -> set[str]:
        """The names of those pods."""
        return {pod["metadata"]["name"] for pod in self.pods(name, ending)}

    def everything(self) -> set[str]:
        """Kind and name of all objects here except events and those that Kubernetes creates in each namespace."""
        listed = kubectl("api-resources", "--namespaced", "--verbs=list", "--output=name").split()
        kinds = ",".join(
            kind for kind in listed if not kind.startswith("events") and not kind.endswith("metrics.k8s.io")
        )
        return set(self.kubectl("get", kinds, "--output", "name", "--ignore-not-found").split()) - ALWAYS_THERE

    def refusals(self) -> list[str]:
        """The events that report something as forbidden."""
        events = self.get("events")["items"]
        return [
            f"{event['reason']}: {event['message']}"
            for event in events
            if event["reason"] == "FailedCreate" or "PodSecurity" in event.get("message", "")
        ]

    def state(self) -> str:
        """Pods, events and logs, for the report of a failure."""
        warnings = ("get", "events", "--field-selector=type!=Normal", "--sort-by=.lastTimestamp")
        parts = [self.shown("get", "pods,pvc", "--output=wide"), self.shown(*warnings)]
        for pod in self.get("pods")["items"]:
            name = pod["metadata"]["name"]
            parts.append(self.shown("logs", name, "--all-containers", "--prefix", "--tail=30"))
        return "\n".join(parts)

    def shown(self, *words: str) -> str:
        try:
            return f"--- kubectl {shlex.join(words)}\n{self.kubectl(*words, timeout=20)}"
        except AssertionError as error:
            return f"--- {error}"


def is_ready(pod: Object) -> bool:
    conditions = {one["type"]: one["status"] for one in pod["status"].get("conditions", [])}
    return conditions.get("Ready") == "True"


def statuses(pod: Object) -> list[Object]:
    """The status of each container, sidecars included."""
    status = pod["status"]
    return [*status.get("initContainerStatuses", []), *status.get("containerStatuses", [])]


def restarts(pod: Object, container: str) -> int:
    [count] = [one["restartCount"] for one in statuses(pod) if one["name"] == container]
    found: int = count
    return found


class Client:
    """A pod that sends HTTP requests from inside the cluster, through the Kubernetes Service."""

    def __init__(self, namespace: Namespace, image: str) -> None:
        self.namespace = namespace
        restricted = {
            "allowPrivilegeEscalation": False,
            "runAsNonRoot": True,
            "capabilities": {"drop": ["ALL"]},
            "seccompProfile": {"type": "RuntimeDefault"},
        }
        container = {
            "name": "client",
            "image": image,
            "command": ["python", "-c", "import signal; signal.pause()"],
            "securityContext": restricted,
        }
        spec = {"containers": [container], "terminationGracePeriodSeconds": 0, "automountServiceAccountToken": False}
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "client"}, "spec": spec}
        namespace.kubectl("create", "--filename", "-", stdin=json.dumps(pod))
        namespace.kubectl("wait", "--for=condition=Ready", "pod/client", "--timeout=60s")

    def command(self, *words: str) -> list[str]:
        inside = ("exec", "--stdin", "client", "--", "python", "-c", IN_POD)
        return ["kubectl", "--namespace", self.namespace.name, *inside, *words]

    def ask(self, method: str, url: str) -> tuple[int, str]:
        """Status and body."""
        answer = json.loads(run(*self.command("ask", method, url)))
        return answer["status"], answer["body"]

    @contextmanager
    def flood(self, method: str, url: str, clients: int = 4, kept: bool = False) -> Iterator[Flood]:
        """Sends requests without a pause while the block runs; the results are known after it. kept: each client keeps
        its connection until an answer ends it."""
        command = self.command("kept" if kept else "flood", method, url, str(clients))
        pipe = subprocess.PIPE
        process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True)
        result = Flood()
        try:
            yield result
        finally:
            said, errors = process.communicate(timeout=60)
        assert process.returncode == 0, errors
        result.__dict__.update(json.loads(said))


@dataclass
class Flood:
    """The number of answers with status 200, the failures, and the longest time in seconds without an answer."""

    answers: int = 0
    failures: list[str] = field(default_factory=list)
    gap: float = 0.0


def cluster_wide() -> set[str]:
    """The objects that the charts created outside of namespaces."""
    kinds = kubectl("api-resources", "--namespaced=false", "--verbs=list", "--output=name").split()
    listed = ",".join(kind for kind in kinds if not kind.endswith("metrics.k8s.io"))
    made = ("--selector=app.kubernetes.io/part-of=daebus", "--output=name", "--ignore-not-found")
    return set(kubectl("get", listed, *made).split())


def volumes_of(namespaces: set[str]) -> list[Object]:
    """The volumes that are, or were, bound to claims in these namespaces."""
    volumes = json.loads(kubectl("get", "persistentvolumes", "--output", "json"))["items"]
    return [one for one in volumes if one["spec"].get("claimRef", {}).get("namespace") in namespaces]


def give_back_volumes(namespaces: set[str]) -> None:
    """Waits until the volumes of deleted namespaces are gone; those with policy Retain become available again."""

    def unsettled() -> list[str]:
        return [
            f"{one['metadata']['name']}: {one['status']['phase']}"
            for one in volumes_of(namespaces)
            if (one["spec"]["persistentVolumeReclaimPolicy"], one["status"]["phase"]) != ("Retain", "Released")
        ]

    wait_until(lambda: not unsettled(), 60, lambda: f"volumes gone or released, but there are {unsettled()}")
    for volume in volumes_of(namespaces):
        patch = json.dumps([{"op": "remove", "path": "/spec/claimRef"}])
        kubectl("patch", "persistentvolume", volume["metadata"]["name"], "--type=json", "--patch", patch)
