"""Generated services with the image that their own Makefile builds, for the tests in a cluster."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.cluster.kubernetes import LOAD, OWN, ctr, run
from tests.template.rendering import REPOSITORY, copy_project

# Debian's client understands BuildKit; another one on the PATH may not.
DOCKER = next((path for path in ("/usr/bin/docker", shutil.which("docker")) if path and Path(path).exists()), "docker")
REQUIRED = bool(os.environ.get("DAEBUS_REQUIRE_DOCKER"))  # the tests themselves see no `DAEBUS_*` variable
BUS = "valkey/valkey:8.1-alpine"


@dataclass(frozen=True)
class Service:
    """A generated service: its name on the bus, its repository, and the tag of its image."""

    name: str
    project: Path
    tag: str

    @property
    def chart(self) -> Path:
        return self.project / "helm" / self.objects

    @property
    def objects(self) -> str:
        """How its Kubernetes objects are called, and its image."""
        return self.name.replace("_", "-")

    @property
    def image(self) -> str:
        return f"{self.objects}:{self.tag}"

    @property
    def url(self) -> str:
        """Where its HTTP is, from inside the namespace."""
        return f"http://{self.objects}:8080"


class Images:
    """Builds services' images in the Docker engine and brings them to the cluster; `remove` takes them away again."""

    def __init__(self, folder: Path, template: Path, tag: str) -> None:
        self.folder, self.template, self.tag = folder, template, tag
        self.base = f"daebus-base:{tag}"
        self.built: list[str] = []
        docker("build", "--quiet", "--file", REPOSITORY / "Dockerfile.base", "--tag", f"local/{self.base}", REPOSITORY)

    def service(self, name: str, **answers: Any) -> Service:
        """Copies the template and builds the image."""
        project = copy_project(self.template, self.folder / name, service_name=name, **answers)
        return self.image(Service(name, project, self.tag))

    def image(self, service: Service) -> Service:
        """Builds a service's image by its own Makefile, on the base that is being tested."""
        base = ("BASE_REGISTRY=local", "BASE_IMAGE=daebus-base", f"BASE_TAG={self.tag}")
        words = ("image", f"DOCKER={DOCKER}", f"TAG={service.tag}", *base)
        run("make", "--directory", service.project, *words)
        self.built += [service.image, f"{service.objects}:latest"]
        return service

    def load(self) -> None:
        """Brings what was built, and the bus's image, into the cluster."""
        if not docker("images", "--quiet", BUS):
            docker("pull", "--quiet", BUS)
        run(*LOAD, *(image for image in self.built if not image.endswith(":latest")), BUS, timeout=600)

    def remove(self) -> None:
        """A cluster of the user's keeps its copies, until it cleans up by itself: there is no command that all have."""
        if OWN:
            ctr(
                "images", "rm", *(f"docker.io/library/{image}" for image in self.built if not image.endswith(":latest"))
            )
        docker("rmi", "--force", *self.built, f"local/{self.base}")


def docker(*words: str | Path) -> str:
    """Runs the Docker client and returns what it printed."""
    return run("env", "DOCKER_BUILDKIT=1", DOCKER, *words, timeout=600)


def no_engine() -> str | None:
    """Why images cannot be built here; None when they can."""
    try:
        done = subprocess.run([DOCKER, "info"], capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"no Docker client: {error}"
    return f"no Docker engine: {done.stderr.strip().splitlines()[-1:]}" if done.returncode else None
