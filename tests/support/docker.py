"""The Docker client, generated services that are built by their own Makefiles, and containers of them."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shutil
import subprocess
import time
import uuid
from pathlib import Path
from typing import Any

import pytest

from tests.support.waiting import wait_until
from tests.template.rendering import copy_project

# Debian's client understands BuildKit; another one on the PATH may not.
DOCKER = next((path for path in ("/usr/bin/docker", shutil.which("docker")) if path and Path(path).exists()), "docker")
REQUIRED = bool(os.environ.get("DAEBUS_REQUIRE_DOCKER"))  # the tests themselves see no `DAEBUS_*` variable
LABEL = "org.opencontainers.image"
# The rights that Pod Security "restricted" leaves to a container, and a read-only root.
RESTRICTED = ("--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges")


def docker(*words: str | Path) -> str:
    """Runs the Docker client and returns its output; an error is in the text of the failure."""
    command = [DOCKER, *map(str, words)]
    done = subprocess.run(command, env={**os.environ, "DOCKER_BUILDKIT": "1"}, capture_output=True, text=True)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stdout}{done.stderr}"
    return done.stdout.strip()


def logs(container: str) -> str:
    """The log of a container: standard output and error."""
    return subprocess.run(
        [DOCKER, "logs", container], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ).stdout


def no_engine() -> str | None:
    """Why images cannot be built here; None when they can."""
    try:
        done = subprocess.run([DOCKER, "info"], capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"no Docker client: {error}"
    return f"no Docker engine: {done.stderr.strip().splitlines()[-1:]}" if done.returncode else None


def need_engine() -> None:
    """Skips the test where there is no engine; fails it there if `DAEBUS_REQUIRE_DOCKER` is set."""
    reason = no_engine()
    if reason and not REQUIRED:
        pytest.skip(reason)
    assert reason is None, f"DAEBUS_REQUIRE_DOCKER is set, but there is {reason}"


def compose_command() -> str | None:
    """The command for Compose on this machine: the client's plugin or Debian's program; None without either."""
    for words in ([DOCKER, "compose"], ["docker-compose"]):
        if shutil.which(words[0]) and not subprocess.run([*words, "version"], capture_output=True).returncode:
            return " ".join(words)
    return None


def inspected(image: str) -> dict[str, Any]:
    """The engine's description of an image."""
    found: dict[str, Any] = json.loads(docker("image", "inspect", image))[0]
    return found


def versions(image: str) -> dict[str, str]:
    """The versions of the packages in the image's environment, by normalized name."""
    program = (
        "import json; from importlib.metadata import distributions;"
        "from sysconfig import get_path;"
        "print(json.dumps({found.name: found.version for found in distributions(path=[get_path('purelib')])}))"
    )
    found: dict[str, str] = json.loads(docker("run", "--rm", image, "python", "-c", program))
    return {re.sub("[-_.]+", "-", name).lower(): version for name, version in found.items()}


def unique(name: str) -> str:
    """A name that no other run of the tests uses."""
    return f"{name}-{uuid.uuid4().hex[:8]}"


@dataclasses.dataclass(frozen=True)
class Generated:
    """A generated repository, and the names of its images: `image` without a tag, `base` with one."""

    project: Path
    image: str
    base: str

    def make(self, *words: str, check: bool = True, **environment: str) -> str:
        """Runs the repository's own Makefile with an empty standard input; returns all output."""
        registry, name = self.base.rsplit("/", 1)
        base, tag = name.split(":")
        names = {"BASE_REGISTRY": registry, "BASE_IMAGE": base, "BASE_TAG": tag, "DOCKER": DOCKER, **environment}
        outer = ("MAKEFLAGS", "MFLAGS", "MAKELEVEL", "IMAGE", "TAG")
        settings = {name: value for name, value in os.environ.items() if name not in outer}
        done = subprocess.run(
            ["make", *words],
            cwd=self.project,
            env={**settings, **names},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert not check or done.returncode == 0, f"make {' '.join(words)}: {done.stdout}"
        return done.stdout

    def remove_image(self) -> None:
        """Removes the service's image. The base stays: other services may be built on it."""
        subprocess.run([DOCKER, "rmi", "--force", f"{self.image}:0.1.0", f"{self.image}:latest"], capture_output=True)


def generate(template: Path, target: Path, base_registry: str = "", **answers: Any) -> Generated:
    """Copies the template. Its images get unique names unless `image_registry` and `base_registry` are given.

    Services with one `base_registry`, made from one commit of the template, share their base.
    """
    answers = {"service_name": "cold_store", "image_registry": f"test.invalid/{unique('t')}", **answers}
    project = copy_project(template, target, **answers)
    chart = answers["service_name"].replace("_", "-")
    image = "/".join(part for part in (answers["image_registry"], chart) if part)
    lines = (project / "Dockerfile").read_text().splitlines()
    tag = next(line.split("=")[1] for line in lines if line.startswith("ARG BASE_TAG="))
    return Generated(project, image, f"{base_registry or 'test.invalid/' + unique('b')}/daebus-base:{tag}")


class Container:
    """A container of an image, started by the constructor; `close` removes it and its volumes."""

    def __init__(self, image: str, *words: str, options: tuple[str, ...] = RESTRICTED) -> None:
        self.began = time.monotonic()
        self.name = docker("run", "--detach", *options, image, *words)

    def close(self) -> None:
        docker("rm", "--force", "--volumes", self.name)

    def state(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(docker("inspect", self.name))[0]["State"]
        return found

    def address(self, port: int) -> str:
        """Host and port at which a published port can be reached."""
        return docker("port", self.name, f"{port}/tcp").splitlines()[0]

    def run(self, *words: str) -> str:
        """Runs a command in the container; its output."""
        return docker("exec", self.name, *words)

    def said(self) -> str:
        """The container's state and log, for the text of a failure."""
        return f"{self.state()}\n{logs(self.name)}"

    def wait_ready(self, seconds: float = 60) -> float:
        """Waits until its readiness probe passes; returns the seconds since it was started."""
        wait_until(self._settled, seconds, self.said)
        assert self.state()["Running"], self.said()
        return time.monotonic() - self.began

    def _settled(self) -> bool:
        command = [DOCKER, "exec", self.name, "python", "-m", "daebus_runtime.health"]
        return not subprocess.run(command, capture_output=True).returncode or not self.state()["Running"]

    def stop(self, seconds: int = 30) -> float:
        """SIGTERM, then waits for the end; the seconds that this took."""
        began = time.monotonic()
        docker("stop", "--time", str(seconds), self.name)
        return time.monotonic() - began
