"""`make image` and `make up` with other platforms, engines and builders than the usual ones."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.images.recorder import Recorder
from tests.support.docker import Generated
from tests.template.rendering import copy_project


def builds(docker: Recorder) -> list[str]:
    return [call for call in docker.calls if call.startswith("build ")]


@pytest.mark.parametrize("words", [{"PLATFORM": "linux/arm64"}, {"BUILD": "--platform linux/arm64 --no-cache"}])
def test_the_platform_is_looked_for_built_and_tagged(
    generated: Generated, recorder: Callable[..., Recorder], words: dict[str, Any]
) -> None:
    docker = recorder("docker", "image inspect")
    generated.make("image", DOCKER=str(docker.path), **words)
    assert f"image inspect {generated.base}-arm64" in docker.calls
    base, image = builds(docker)
    assert base.startswith("build --platform=linux/arm64 ")
    assert f"--tag {generated.base}-arm64 " in base
    assert image.startswith("build --platform=linux/arm64 ")
    assert f"BASE_TAG={generated.base.rsplit(':', 1)[1]}-arm64 " in image
    assert f"--tag {generated.image}:0.1.0-arm64 --tag {generated.image}:latest-arm64 ." in image
    assert all(call.count("--platform") == 1 for call in (base, image))
    assert all(("--no-cache" in call) == ("BUILD" in words) for call in (base, image))


def test_several_platforms_are_built_one_after_the_other(
    generated: Generated, recorder: Callable[..., Recorder]
) -> None:
    docker = recorder("docker", "image inspect")
    generated.make("image", DOCKER=str(docker.path), PLATFORM="linux/amd64,linux/arm/v7")
    tags = [re.findall(r"--tag (\S+)", call)[0] for call in builds(docker)]
    names = [
        f"{name}-{suffix}" for name in (generated.base, f"{generated.image}:0.1.0") for suffix in ("amd64", "arm-v7")
    ]
    assert set(tags) == set(names)


@pytest.mark.parametrize("is_here", [True, False])
def test_a_base_pulled_for_another_platform_takes_no_name_away(
    generated: Generated, recorder: Callable[..., Recorder], is_here: bool
) -> None:
    docker = recorder("docker", *(["image inspect"] if not is_here else []))
    release = f"{generated.base.rsplit(':', 1)[0]}:v1.2.3"
    if is_here:  # it answers with its id when asked for that, and has none for arm64
        answers = 'case "$*" in "image inspect "*arm64) exit 1;; *.Id*) echo sha256:abc;;'
        docker.path.write_text(docker.path.read_text().replace('case "$*" in', answers))
    generated.make("base", DOCKER=str(docker.path), BASE_TAG="v1.2.3", PLATFORM="linux/arm64")
    at = docker.calls.index(f"pull --quiet --platform linux/arm64 {release}")
    assert docker.calls[at + 1] == f"tag {release} {release}-arm64"
    assert docker.calls[at + 2] == (f"tag sha256:abc {release}" if is_here else f"rmi {release}")


@pytest.mark.parametrize(("driver", "loads"), [("docker", False), ("docker-container", True), ("kubernetes", True)])
def test_an_image_of_a_builder_of_ones_own_is_loaded(
    generated: Generated, recorder: Callable[..., Recorder], driver: str, loads: bool
) -> None:
    docker = recorder("docker")
    with docker.path.open("a") as script:
        script.write(f'[ "$1 $2" != "buildx inspect" ] || printf "Name: own\\nDriver:        {driver}\\n"\n')
    generated.make("image", DOCKER=str(docker.path))
    assert [("--load" in call) for call in builds(docker)] == [loads]


def test_the_engines_own_builder_is_taken_unless_another_is_named(
    generated: Generated, recorder: Callable[..., Recorder]
) -> None:
    """It alone sees the base that was built here."""
    docker = recorder("docker")
    with docker.path.open("a") as script:
        script.write(
            '[ "$1 $2" != "context show" ] || echo colima\n'
            '[ "$1" != build ] || echo "builder ${BUILDX_BUILDER}, kit ${DOCKER_BUILDKIT-none}" '
            f">> {docker.path}.log\n"
        )
    generated.make("image", DOCKER=str(docker.path))
    assert docker.calls[-1] == "builder colima, kit none", "a client without buildx builds too"
    generated.make("image", DOCKER=str(docker.path), BUILDX_BUILDER="own")
    assert docker.calls[-1] == "builder own, kit none"


def test_up_asks_inside_and_uses_the_engine_that_is_named(
    generated: Generated, recorder: Callable[..., Recorder]
) -> None:
    """The health that an engine reports is not asked: not every format of images carries a health check."""
    podman = recorder("podman")
    said = generated.make("up", DOCKER=str(podman.path))
    assert "answers at http://" in said
    assert "compose up --detach" in podman.calls
    assert "compose exec -T service python -m daebus_runtime.health" in podman.calls
    assert not any("Health.Status" in call for call in podman.calls)


def test_up_says_what_ended(generated: Generated, recorder: Callable[..., Recorder]) -> None:
    nerdctl = recorder("nerdctl", "compose exec")
    said = generated.make("up", check=False, DOCKER=str(nerdctl.path))
    assert "It is not: ended" in said
    assert "compose logs --tail 20 service" in nerdctl.calls


def test_compose_alone_builds_nothing_and_asks_no_registry_for_a_name_without_one(
    template: Path, tmp_path: Path
) -> None:
    for registry, policy in {"": "never", "registry.local:5000/team": "if_not_present"}.items():
        target = copy_project(template, tmp_path / f"with {policy}", image_registry=registry)
        service = yaml.safe_load((target / "compose.yaml").read_text())["services"]["service"]
        assert service["pull_policy"] == policy
        assert service["healthcheck"]["test"] == ["CMD", "python", "-m", "daebus_runtime.health"]
