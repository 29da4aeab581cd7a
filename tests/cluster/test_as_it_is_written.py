"""The README of a service and the page on Kubernetes, followed word by word: their blocks run as they stand.

`docker push` copies an image into the cluster. `sudo` takes a folder of the test for the node's, and what gets into its
folder of images is copied into the cluster, as k3s does. Only names differ: those of the test are like no others.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator
from types import SimpleNamespace

import pytest

from tests.cluster.images import BUS, Service
from tests.cluster.kubernetes import KUBECONFIG, LOAD, OWN, Namespace, ctr, kubectl
from tests.docs.drivers.kubernetes import IN_A_CLUSTER
from tests.docs.pages import runnable
from tests.docs.stage import commands
from tests.support.docker import DOCKER, docker, unique
from tests.support.process import ServiceProcess
from tests.template.readme import SHELLS, Desk, missing, program
from tests.template.rendering import REPOSITORY, copy_project, plain_template

pytestmark = pytest.mark.cluster

PAGE = "kubernetes.md"
MINUTES = 400.0
SUDO = """
for word; do
  shift
  case $word in
    /var/lib/rancher/*) word={node}$word ;;
    /etc/rancher/k3s/k3s.yaml) word={kubeconfig} ;;
  esac
  set -- "$@" "$word"
done
"$@"
case $1 in install | mv) {load} {image} {bus} ;; esac
"""
DOCKER_HERE = """
case $1 in
  pull) exec {docker} image inspect --format '{{{{.Id}}}}' "$2" ;;
  push) exec {load} "$2" ;;
esac
DOCKER_BUILDKIT=1 exec {docker} "$@"
"""


class Reader:
    """Somebody who follows what is written, for a service that has its own name and a namespace."""

    def __init__(
        self, service: Service, start: Callable[..., ServiceProcess], namespace: Namespace, shell: str
    ) -> None:
        self.service, self.namespace = service, namespace
        registry, _, base = service.generated.base.rpartition("/")
        env = {"BASE_REGISTRY": registry, "BASE_TAG": base.partition(":")[2], "HELM_NAMESPACE": namespace.name}
        self.desk = Desk(service.generated.project, start, shell, env)
        names = {
            "docker": DOCKER,
            "load": shlex.join(LOAD),
            "image": service.image,
            "bus": BUS,
            "node": str(service.generated.project.parent / "node"),
            "kubeconfig": KUBECONFIG,
        }
        program(self.desk.programs, "docker", DOCKER_HERE.format_map(names))
        program(self.desk.programs, "sudo", SUDO.format_map(names))

    def page(self, beginning: str) -> str:
        """Runs the page's console block whose first command begins like this; its output."""
        assert beginning in IN_A_CLUSTER, "tests/docs looks there for what is run"
        [text] = [found for found in on_the_page() if found.startswith(f"$ {beginning}")]
        script = "\n".join(command for command, _ in commands(text))
        script = script.replace("registry.local:5000/team/my-service", self.service.generated.image)
        return self.desk.run_text(script.replace("my-service", self.service.objects), MINUTES)


def on_the_page() -> list[str]:
    """The blocks of the page that need a cluster; tests/docs checks that all are run here."""
    return [block.text for block in runnable() if block.page == PAGE and block.excuse is not None]


@pytest.fixture(scope="module")
def made(services: SimpleNamespace, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Service]]:
    """A function that copies the template with a registry, or with an empty one. All stand on one base."""
    folder, built = tmp_path_factory.mktemp("written"), list[Service]()
    template = plain_template(folder / "template")

    def make(registry: str) -> Service:
        name = unique("written")
        project = copy_project(template, folder / name / name, service_name=name, image_registry=registry)
        image = f"{registry}/{name}" if registry else name
        generated = type(services.alone.generated)(project, image, services.alone.generated.base)
        (project / "helm" / "daebus-bus").symlink_to(REPOSITORY / "helm" / "daebus-bus")  # the page's other folder
        built.append(Service(name, generated))
        return built[-1]

    yield make
    for service in built:
        images = docker("images", "--format", "{{.Repository}}:{{.Tag}}", service.generated.image).split()
        if images:
            docker("rmi", "--force", *images)
        if OWN:
            ctr("images", "rm", *(image for image in images if not image.endswith(":latest")))


@pytest.mark.parametrize("shell", SHELLS)
def test_the_readme(
    made: Callable[[str], Service],
    start_process: Callable[..., ServiceProcess],
    make_namespace: Callable[[str], Namespace],
    shell: str,
) -> None:
    if reason := missing(shell):
        pytest.skip(reason)
    reader = Reader(made(""), start_process, make_namespace("readme"), shell)
    reader.desk.run("make image chart", MINUTES)
    [install] = [first for first in reader.desk.blocks if first.startswith("helm upgrade --install")]
    for _ in ("the first time", "every time"):
        assert "Phase:          Succeeded" in reader.desk.run(install, MINUTES)


def test_the_page_with_a_registry(
    made: Callable[[str], Service],
    start_process: Callable[..., ServiceProcess],
    make_namespace: Callable[[str], Namespace],
) -> None:
    reader = Reader(made(f"test.invalid/{unique('team')}"), start_process, make_namespace("page"), "bash")
    assert "Phase:          Succeeded" in reader.page("make image chart")
    reader.desk.run_text(f"make image chart TAG=0.2.0\ndocker push {reader.service.generated.image}:0.2.0", MINUTES)
    reader.page("helm upgrade")
    assert reader.namespace.helm("list", "--short") == "", "the last command removes it"
    reader.page("helm install daebus-bus")
    reader.namespace.kubectl("rollout", "status", f"deployment/{reader.service.objects}", "--timeout=120s")
    assert len(reader.namespace.pods(reader.service.objects)) == 2


def test_the_page_on_a_node_that_reaches_no_registry(
    made: Callable[[str], Service],
    start_process: Callable[..., ServiceProcess],
    make_namespace: Callable[[str], Namespace],
) -> None:
    reader = Reader(made(""), start_process, make_namespace("node"), "bash")
    chart = f"{reader.service.objects}-0.1.0.tgz"
    reader.desk.run_text(f"make image chart && cp dist/{chart} .", MINUTES)
    reader.page("docker pull")
    reader.namespace.kubectl("rollout", "status", f"deployment/{reader.service.objects}", "--timeout=120s")


def test_the_pages_namespace(
    made: Callable[[str], Service],
    start_process: Callable[..., ServiceProcess],
    make_namespace: Callable[[str], Namespace],
) -> None:
    reader = Reader(made(""), start_process, make_namespace("restricted"), "bash")
    try:
        reader.page("kubectl create namespace")
        assert '"restricted"' in kubectl("get", "namespace", "garden", "--output=jsonpath={.metadata.labels}")
    finally:
        kubectl("delete", "namespace", "garden", "--ignore-not-found")
