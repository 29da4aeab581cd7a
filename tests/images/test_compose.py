"""`make up` and `make down`: the service and a bus beside it."""

from __future__ import annotations

import json
import re
import shutil
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.support.docker import REQUIRED, Generated, compose_command, docker, logs, unique
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.docker]


@pytest.fixture
def make(service: Generated) -> Iterator[Callable[..., str]]:
    """Runs a target of the service's Makefile with a separate Compose project and a free port."""
    compose = compose_command()
    if compose is None and not REQUIRED:
        pytest.skip("neither `docker compose` nor docker-compose is here")
    assert compose, "DAEBUS_REQUIRE_DOCKER is set, but neither `docker compose` nor docker-compose is here"
    names: dict[str, Any] = {"COMPOSE": compose, "COMPOSE_PROJECT_NAME": unique("up"), "PORT": "0"}
    used = [service]

    def make(target: str, other: Generated | None = None, check: bool = True) -> str:
        used.append(other or service)
        return used[-1].make(target, check=check, IMAGE=used[-1].image, **names)

    yield make
    used[-1].make("down", **names)
    assert left_of(names["COMPOSE_PROJECT_NAME"]) == {}


def left_of(project: str) -> dict[str, str]:
    """What is left of a Compose project in the engine, by kind."""
    label = f"label=com.docker.compose.project={project}"
    found = {
        "containers": docker("ps", "--all", "--quiet", "--filter", label),
        "networks": docker("network", "ls", "--quiet", "--filter", label),
        "volumes": docker("volume", "ls", "--quiet", "--filter", label),
    }
    return {kind: names for kind, names in found.items() if names}


def containers(service: Generated) -> dict[str, dict[str, Any]]:
    """The containers of `make up`, by the name of their service in compose.yaml."""
    ids = docker("ps", "--quiet", "--filter", f"label=com.docker.compose.project.working_dir={service.project}").split()
    found = json.loads(docker("inspect", *ids)) if ids else []
    return {each["Config"]["Labels"]["com.docker.compose.service"]: each for each in found}


def health(service: Generated) -> dict[str, str]:
    """What the engine says of each container of the service."""
    return {name: each["State"]["Health"]["Status"] for name, each in containers(service).items()}


def test_up_ends_when_both_are_healthy_and_prints_the_address(service: Generated, make: Callable[..., str]) -> None:
    said = make("up")
    running = containers(service)
    assert running.keys() == {"service", "bus"}
    # `make up` asks the service itself; the engine looks every few seconds only.
    wait_until(lambda: set(health(service).values()) == {"healthy"}, 60, lambda: f"both healthy: {health(service)}")
    address = re.search(r"cold_store answers at (http://\S+:\d+); 'make down' ends it", said)
    assert address, said
    with urllib.request.urlopen(f"{address[1]}/plants/mint/water", data=b"", timeout=10) as answer:
        assert 60 < json.load(answer)["moisture"] <= 70  # it dries a little every ten seconds

    for name, each in running.items():
        assert each["HostConfig"]["ReadonlyRootfs"], name
        assert each["HostConfig"]["CapDrop"] == ["ALL"], name
        assert each["HostConfig"]["SecurityOpt"] == ["no-new-privileges:true"], name
        assert each["Config"]["User"] == "65532:65532", name
    assert not any(running["bus"]["NetworkSettings"]["Ports"].values()), "the bus is for this service only"
    log = logs(running["service"]["Id"])
    assert "redis://bus:6379/0" in log
    assert "private" not in log
    make("down")
    assert containers(service) == {}


def test_a_service_that_does_not_start_fails_make_up_and_its_log_is_shown(
    service: Generated, make: Callable[..., str], tmp_path: Path
) -> None:
    project = shutil.copytree(service.project, tmp_path / "cold_store")
    broken = replace(service, project=project, image=f"test.invalid/{unique('broken')}")
    (project / "src" / "cold_store" / "app.py").write_text("raise RuntimeError('the gate is locked')\n")
    said = make("up", broken, check=False)
    broken.remove_image()
    assert "the gate is locked" in said
    assert "It is not: ended" in said
