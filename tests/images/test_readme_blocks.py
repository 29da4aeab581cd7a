"""The blocks of a generated README that need Docker, pasted as they stand."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from scripts.snapshot import snapshot
from tests.support.docker import DOCKER, compose_command, docker, need_engine, unique
from tests.support.ports import free_port
from tests.support.process import ServiceProcess
from tests.template.readme import SHELLS, Desk, missing, program
from tests.template.rendering import REPOSITORY, copy_project

pytestmark = [pytest.mark.long, pytest.mark.docker]
MINUTES = 400.0  # seconds for a block that builds an image


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A service without a registry, as the defaults make it. Its images have names that nothing else uses."""
    need_engine()
    folder = tmp_path_factory.mktemp("readme")
    template = snapshot(REPOSITORY, folder / "daebus-template")
    name = unique("readme")
    made = copy_project(template, folder / name, port=str(free_port()), service_name=name)
    yield made
    base = next(line for line in docker("images", "--format", "{{.Repository}}:{{.Tag}}").splitlines() if name in line)
    docker("rmi", "--force", f"{name}:0.1.0", f"{name}:latest", base)


@pytest.fixture
def desk(project: Path, start_process: Callable[..., ServiceProcess], shell: str) -> Desk:
    if reason := missing(shell):
        pytest.skip(reason)
    compose = compose_command()
    if compose is None:
        pytest.skip("neither `docker compose` nor docker-compose is here")
    names = {"COMPOSE": compose, "BASE_REGISTRY": f"test.invalid/{project.name}"}
    made = Desk(project, start_process, shell, names)
    program(made.programs, "docker", f'DOCKER_BUILDKIT=1 exec {DOCKER} "$@"')
    return made


@pytest.mark.parametrize("shell", SHELLS)
def test_in_a_container(desk: Desk) -> None:
    told = desk.run("make up", MINUTES)
    assert f"{desk.project.name} answers at http://" in told
    plants = [json.loads(line) for line in told.splitlines() if line.startswith('{"plants"')]
    assert plants == [{"plants": {"basil": 60, "mint": 45, "tomato": 30}, "thirsty": []}]
    assert not containers(desk.project.name), "make down leaves nothing"

    told = desk.run("make image", MINUTES)
    assert told.rstrip().endswith(desk.project.name), "the name of the container that was removed"
    assert not containers(desk.project.name)


def containers(name: str) -> str:
    return docker("ps", "--all", "--quiet", "--filter", f"name={name}")
