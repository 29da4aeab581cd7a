"""A cluster, images in it, and namespaces that leave nothing behind."""

from __future__ import annotations

import shutil
import subprocess
import uuid
from collections.abc import Callable, Generator, Iterator
from types import SimpleNamespace

import pytest

from tests.cluster.images import Images, Service
from tests.cluster.kubernetes import (
    KUBECONFIG,
    LOAD,
    NO_CLUSTER,
    Client,
    Namespace,
    cluster_wide,
    give_back_volumes,
    kubectl,
)
from tests.support.docker import need_engine
from tests.template.rendering import REPOSITORY, plain_template

# Until there is a release, running services are upgraded from this commit: the one before the runtime's restructuring.
FORMER = "67fe023"


@pytest.fixture(scope="session")
def cluster() -> None:
    """A cluster that answers. With a reason in `DAEBUS_NO_CLUSTER` the tests are skipped."""
    if NO_CLUSTER:
        pytest.skip(NO_CLUSTER)
    missing = [program for program in ("kubectl", "helm") if not shutil.which(program)]
    assert not missing, f"KUBECONFIG names a cluster, but these programs are not here: {', '.join(missing)}"
    assert LOAD, 'DAEBUS_CLUSTER_LOAD must say how images get into the cluster, for example "kind load docker-image"'
    kubectl("--request-timeout=20s", "get", "--raw", "/readyz")
    print(f"the cluster of {KUBECONFIG}")


@pytest.fixture(scope="session")
def services(cluster: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimpleNamespace]:
    """Generated services whose images are in the cluster.

    `alone` has its bus in the pod; its image also exists as version 0.2.0, which has one more plant. Version 0.3.0 of
    `north` counts the calls of its action `count`.
    `north` and `south` are on a shared bus. `former` is `north` as it was at the commit `FORMER`, or None when this
    repository does not have that commit.
    """
    need_engine()
    folder = tmp_path_factory.mktemp("services")
    images = Images(folder, plain_template(folder / "template"))
    try:
        found = SimpleNamespace(
            alone=images.service("cold_store", bus_mode="sidecar"),
            north=images.service("north_field", bus_mode="shared"),
            south=images.service("south_field", bus_mode="shared"),
            former=images.earlier("north_field", FORMER, bus_mode="shared") if knows(FORMER) else None,
        )
        plant_fern(found.alone)
        images.build(found.alone, "0.2.0")
        count_calls(found.north)
        images.build(found.north, "0.3.0")
        images.load()
        yield found
    finally:
        images.remove()


def knows(commit: str) -> bool:
    """Whether the repository has a commit; a shallow clone has no old ones."""
    return not subprocess.run(
        ["git", "cat-file", "-e", f"{commit}^{{commit}}"], cwd=REPOSITORY, capture_output=True
    ).returncode


def plant_fern(service: Service) -> None:
    [garden] = service.generated.project.glob("src/*/garden.py")
    text = garden.read_text()
    assert '"basil": 60' in text
    garden.write_text(text.replace('"basil": 60', '"fern": 80, "basil": 60'))


COUNTING = """

@watering.action("count")
def count() -> Any:
    cache.rpush("runs", request.payload)
    time.sleep(0.05)
    pipe = cache.pipeline()
    pipe.hincrby("counts", request.payload, 1)
    request.commit(pipe)
    return request.payload
"""


def count_calls(service: Service) -> None:
    [watering] = service.generated.project.glob("src/*/watering.py")
    imports = "import time\n\nfrom daebus_runtime import cache\n"
    watering.write_text(
        watering.read_text().replace("from typing import Any\n", f"{imports}from typing import Any\n") + COUNTING
    )


@pytest.fixture(scope="session")
def make_namespace(services: SimpleNamespace) -> Iterator[Callable[[str], Namespace]]:
    """A function that creates namespaces. At the end they are deleted, their volumes free, and nothing else is left."""
    made: list[Namespace] = []

    def make(purpose: str) -> Namespace:
        made.append(Namespace(f"daebus-test-{purpose}-{uuid.uuid4().hex[:6]}"))
        return made[-1]

    yield make
    for wait in (False, True):
        for namespace in made:
            namespace.delete(wait)
    give_back_volumes({namespace.name for namespace in made})
    assert cluster_wide() == set()


@pytest.fixture(scope="module")
def namespace(request: pytest.FixtureRequest, make_namespace: Callable[[str], Namespace]) -> Iterator[Namespace]:
    """One namespace for all tests of a module. At the end nothing in it may have been refused."""
    space = make_namespace(request.module.__name__.rpartition("test_")[2].replace("_", "-"))
    yield space
    refusals = space.refusals()
    space.delete(wait=False)
    assert refusals == []


@pytest.fixture(scope="module")
def client(namespace: Namespace, services: SimpleNamespace) -> Client:
    """A pod in the namespace that sends requests to the services there."""
    return Client(namespace, services.north.image)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add the state of the namespace to the report of a failure."""
    report = yield
    space = getattr(item, "funcargs", {}).get("namespace")
    if report.failed and isinstance(space, Namespace) and call.when != "teardown":
        report.sections.append((f"namespace {space.name}", space.state()))
    return report
