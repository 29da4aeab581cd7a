"""The Docker client for the tests, a generated service built by its own Makefile, and containers of it."""

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
# What a cluster under Pod Security "restricted" leaves a container, and a root that nobody writes to.
RESTRICTED = ("--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges")


def docker(*words: str | Path) -> str:
    """Runs the Docker client and returns what it printed; its errors are in the failure's text."""
    command = [DOCKER, *map(str, words)]
    done = subprocess.run(command, env={**os.environ, "DOCKER_BUILDKIT": "1"}, capture_output=True, text=True)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stdout}{done.stderr}"
    return done.stdout.strip()


def logs(container: str) -> str:
    """What a container has said, on both of its outputs."""
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
    """How Compose is called here, None where it is not: the client's plugin, or Debian's program."""
    for words in ([DOCKER, "compose"], ["docker-compose"]):
        if shutil.which(words[0]) and not subprocess.run([*words, "version"], capture_output=True).returncode:
            return " ".join(words)
    return None


def inspected(image: str) -> dict[str, Any]:
    """What the engine knows of an image."""
    found: dict[str, Any] = json.loads(docker("image", "inspect", image))[0]
    return found


def versions(image: str) -> dict[str, str]:
    """What is installed in the image's environment, by normalized name."""
    program = (
        "import json; from importlib.metadata import distributions;"
        "from sysconfig import get_path;"
        "print(json.dumps({found.name: found.version for found in distributions(path=[get_path('purelib')])}))"
    )
    found: dict[str, str] = json.loads(docker("run", "--rm", image, "python", "-c", program))
    return {re.sub("[-_.]+", "-", name).lower(): version for name, version in found.items()}


def unique(name: str) -> str:
    """A name that no other run of the tests has."""
    return f"{name}-{uuid.uuid4().hex[:8]}"


@dataclasses.dataclass(frozen=True)
class Generated:
    """A repository made from the template, and the names of its images: `image` without a tag, `base` with one."""

    project: Path
    image: str
    base: str

    def make(self, *words: str, check: bool = True, **environment: str) -> str:
        """Runs the repository's own Makefile; returns what it and its programs said. Nothing is there to be typed."""
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
        """The base stays: other services may stand on it."""
        subprocess.run([DOCKER, "rmi", "--force", f"{self.image}:0.1.0", f"{self.image}:latest"], capture_output=True)


def generate(template: Path, target: Path, base_registry: str = "", **answers: Any) -> Generated:
    """Copies the template; its images get names of their own unless `image_registry` and `base_registry` are given.

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
    """A container of an image, started at once; `close` removes it, with what it left."""

    def __init__(self, image: str, *words: str, options: tuple[str, ...] = RESTRICTED) -> None:
        self.began = time.monotonic()
        self.name = docker("run", "--detach", *options, image, *words)

    def close(self) -> None:
        docker("rm", "--force", "--volumes", self.name)

    def state(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(docker("inspect", self.name))[0]["State"]
        return found

    def address(self, port: int) -> str:
        """Where a published port answers: host and port."""
        return docker("port", self.name, f"{port}/tcp").splitlines()[0]

    def run(self, *words: str) -> str:
        """What a command in the container printed."""
        return docker("exec", self.name, *words)

    def said(self) -> str:
        """Its state and its log, for the text of a failure."""
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
        """SIGTERM, then waits for its end; returns how long that took."""
        began = time.monotonic()
        docker("stop", "--time", str(seconds), self.name)
        return time.monotonic() - began
