"""Generated services and their images, built by their own Makefiles, for the tests in a cluster."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scripts.snapshot import git
from tests.cluster.kubernetes import LOAD, OWN, ctr, run
from tests.support.docker import Generated, docker, generate, unique
from tests.template.rendering import REPOSITORY

BUS = "valkey/valkey:8.1-alpine"
EARLIER = "0.0.1"


def extract(commit: str, target: Path) -> None:
    """The files of a commit, without git."""
    target.mkdir()
    archive = target.with_suffix(".tar")
    git("archive", "--output", archive, commit, at=REPOSITORY)
    run("tar", "--extract", "--file", archive, "--directory", target)


@dataclass(frozen=True)
class Service:
    """A generated service, with its name on the bus."""

    name: str
    generated: Generated

    @property
    def objects(self) -> str:
        """The name of its chart, its release and its Kubernetes objects."""
        return self.name.replace("_", "-")

    @property
    def chart(self) -> Path:
        return self.generated.project / "helm" / self.objects

    @property
    def image(self) -> str:
        return f"{self.generated.image}:0.1.0"

    @property
    def url(self) -> str:
        """Its HTTP address inside the namespace."""
        return f"http://{self.objects}:8080"


class Images:
    """Images of services in the Docker engine, all on one base, with names that nothing else uses.

    `load` copies them into the cluster, `remove` deletes them.
    """

    def __init__(self, folder: Path, template: Path) -> None:
        self.folder, self.template = folder, template
        self.registry = f"test.invalid/{unique('cluster')}"
        self.built: list[str] = []
        self.bases: set[str] = set()

    def service(self, name: str, **answers: Any) -> Service:
        """Copies the template and builds the image, tagged 0.1.0."""
        generated = self._generate(name, self.template, self.folder / name, self.registry, REPOSITORY, answers)
        return self._built(Service(name, generated), "0.1.0")

    def earlier(self, name: str, commit: str, **answers: Any) -> Service:
        """The service from an earlier commit: its template, its chart, its runtime. The image's tag is `EARLIER`."""
        tree = self.folder / commit
        extract(commit, tree)
        target, registry = self.folder / f"{name}-{commit}", f"{self.registry}/{commit}"
        return self._built(Service(name, self._generate(name, tree, target, registry, tree, answers)), EARLIER)

    def _generate(
        self, name: str, template: Path, target: Path, base_registry: str, repository: Path, answers: dict[str, Any]
    ) -> Generated:
        names = {"service_name": name, "image_registry": self.registry}
        generated = generate(template, target, base_registry, **names, **answers)
        if generated.base not in self.bases:
            docker("build", "--quiet", "--file", repository / "Dockerfile.base", "--tag", generated.base, repository)
            self.bases.add(generated.base)
        return generated

    def _built(self, service: Service, version: str) -> Service:
        self.build(service, version)
        return service

    def build(self, service: Service, version: str) -> None:
        """Builds the image of this version, as the service's team would."""
        project = service.generated.project / "pyproject.toml"
        text, found = re.subn(r'^version = ".*"$', f'version = "{version}"', project.read_text(), flags=re.MULTILINE)
        assert found == 1
        project.write_text(text)
        service.generated.make("image")
        self.built.append(f"{service.generated.image}:{version}")

    def load(self) -> None:
        """Copies the built images and that of the bus into the cluster."""
        if not docker("images", "--quiet", BUS):
            docker("pull", "--quiet", BUS)
        run(*LOAD, *self.built, BUS, timeout=600)

    def remove(self) -> None:
        """A user's own cluster keeps its copies until it cleans up: no command works on every cluster."""
        if OWN:
            ctr("images", "rm", *self.built)
        latest = {f"{image.rpartition(':')[0]}:latest" for image in self.built}
        docker("rmi", "--force", *self.built, *latest, *self.bases)
