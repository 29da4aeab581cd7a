"""A committed copy of the template, the image of a generated service on a freshly built base, and containers of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from scripts.snapshot import snapshot
from tests.images.recorder import Recorder, make_recorder
from tests.support.docker import RESTRICTED, Container, Generated, docker, generate, need_engine, unique
from tests.template.rendering import REPOSITORY


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A git repository whose last commit is the work tree: `make image` builds the base from a clone of it."""
    return snapshot(REPOSITORY, tmp_path_factory.mktemp("images") / "daebus-template")


@pytest.fixture(scope="session")
def build(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Generated]]:
    """A function that generates a service and builds its image with `make image`; all share one base."""
    need_engine()
    registry = f"test.invalid/{unique('base')}"
    made: list[Generated] = []

    def build(**answers: object) -> Generated:
        target = tmp_path_factory.mktemp("service") / str(answers.get("service_name", "cold_store"))
        made.append(generate(template, target, registry, **answers))
        made[-1].make("image")
        return made[-1]

    yield build
    for service in made:
        service.remove_image()
    if made:
        docker("rmi", "--force", made[0].base)


@pytest.fixture(scope="session")
def service(build: Callable[..., Generated]) -> Generated:
    """A service with every feature."""
    return build(service_name="cold_store", description="Keeps what's cold: 24 h a day", author="The Garden & Co")


@pytest.fixture
def start() -> Iterator[Callable[..., Container]]:
    """A function that starts containers with the rights that a cluster gives them; all are removed at the end."""
    started: list[Container] = []

    def start(image: str, *words: str) -> Container:
        ports = ("--publish", "127.0.0.1::8080", "--publish", "127.0.0.1::9000")
        started.append(Container(image, *words, options=(*RESTRICTED, *ports)))
        return started[-1]

    yield start
    for container in started:
        container.close()


@pytest.fixture
def recorder(tmp_path: Path) -> Callable[..., Recorder]:
    return lambda name, *fails: make_recorder(tmp_path / name, *fails)


@pytest.fixture(scope="session")
def generated(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Generated:
    """From a git repository. The tests share it and change nothing in it."""
    return generate(template, tmp_path_factory.mktemp("generated") / "cold_store")
