"""The generated Makefile's targets for images and charts: what they call, their errors when a program is missing."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from copier.errors import DirtyLocalWarning

from scripts.snapshot import AUTHOR, git
from tests.images.recorder import Recorder, copied
from tests.support.docker import Generated, generate
from tests.template.rendering import plain_template

TARGETS = ["help", "install", "run", "test", "check", "format", "lock", "base", "image", "up", "down", "chart"]


def test_help_has_every_target(generated: Generated) -> None:
    said = generated.make("help")
    assert re.findall(r"^(\w+)  +\S", said, re.MULTILINE) == TARGETS
    assert max(map(len, said.splitlines())) <= 100


@pytest.mark.parametrize(
    ("target", "variable", "program"),
    [("image", "DOCKER", "docker"), ("up", "COMPOSE", "compose"), ("chart", "HELM", "helm")],
)
def test_a_missing_program_is_named(
    generated: Generated, recorder: Callable[..., Recorder], target: str, variable: str, program: str
) -> None:
    there = {"DOCKER": str(recorder("docker").path), variable: f"/nowhere/{program}"}
    said = generated.make(target, check=False, **there)
    assert f"This needs '/nowhere/{program}'" in said
    assert f"make {target} {variable}=" in said  # the cure


def test_the_image_gets_its_names_from_the_repository(generated: Generated, recorder: Callable[..., Recorder]) -> None:
    docker = recorder("docker")
    said = generated.make("image", DOCKER=str(docker.path))
    [build] = [call for call in docker.calls if call.startswith("build ")]
    registry, tag = generated.base.removesuffix("/daebus-base").split("/daebus-base:")
    assert (
        f"--build-arg BASE_REGISTRY={registry} --build-arg BASE_IMAGE=daebus-base --build-arg BASE_TAG={tag}" in build
    )
    assert f"--tag {generated.image}:0.1.0 --tag {generated.image}:latest" in build
    assert "VERSION=0.1.0" in build
    assert f"Building {generated.image}:0.1.0 on {generated.base}" in said


def test_the_image_has_the_commit_it_was_built_from(
    generated: Generated, tmp_path: Path, recorder: Callable[..., Recorder]
) -> None:
    generated, docker = copied(generated, tmp_path), recorder("docker")
    git("init", "--quiet", at=generated.project)
    git("add", "--all", at=generated.project)
    git(*AUTHOR, "commit", "--quiet", "--message", "as generated", at=generated.project)
    commit = git("rev-parse", "HEAD", at=generated.project)
    generated.make("image", DOCKER=str(docker.path))
    assert f"REVISION={commit} " in docker.calls[-1]
    (generated.project / "README.md").write_text("changed\n")
    generated.make("image", DOCKER=str(docker.path))
    assert f"REVISION={commit}-dirty " in docker.calls[-1]


def test_an_existing_base_is_used(generated: Generated, recorder: Callable[..., Recorder]) -> None:
    docker = recorder("docker")
    generated.make("base", DOCKER=str(docker.path))
    assert docker.calls == ["--version", f"image inspect {generated.base}"]


def test_a_missing_base_is_built_from_the_templates_commit(
    generated: Generated, recorder: Callable[..., Recorder]
) -> None:
    docker = recorder("docker", "image inspect")
    generated.make("base", DOCKER=str(docker.path))
    commit = generated.base.rsplit(":", 1)[1]
    [build] = [call for call in docker.calls if call.startswith("build ")]
    assert f"--tag {generated.base} " in build
    assert f"VERSION={commit} --tag" in build
    assert build.endswith("--file build/template/Dockerfile.base build/template")
    clone = generated.project / "build" / "template"
    assert git("rev-parse", "HEAD", at=clone) == commit
    assert (clone / "Dockerfile.base").exists()
    assert not any(call.startswith("pull") for call in docker.calls)


def test_a_released_base_is_pulled(generated: Generated, recorder: Callable[..., Recorder]) -> None:
    docker = recorder("docker", "image inspect")
    generated.make("base", DOCKER=str(docker.path), BASE_TAG="v1.2.3")
    assert docker.calls[-1] == f"pull --quiet {generated.base.rsplit(':', 1)[0]}:v1.2.3"


def test_a_released_base_that_no_registry_has_is_built(
    template: Path, tmp_path: Path, recorder: Callable[..., Recorder]
) -> None:
    released = tmp_path / "template"
    git("clone", "--quiet", template, released, at=tmp_path)
    git("tag", "v1.2.3", at=released)
    generated, docker = generate(released, tmp_path / "cold_store"), recorder("docker", "image inspect", "pull")
    assert generated.base.endswith(":v1.2.3")
    generated.make("base", DOCKER=str(docker.path))
    words = [call.split()[0] for call in docker.calls]
    assert [word for word in words if word not in ("context", "buildx")] == ["--version", "image", "pull", "build"]
    assert "--build-arg VERSION=v1.2.3 " in docker.calls[-1]


def test_without_a_base_for_uncommitted_changes_the_reason_is_given(
    template: Path, tmp_path: Path, recorder: Callable[..., Recorder]
) -> None:
    dirty = tmp_path / "template"
    git("clone", "--quiet", template, dirty, at=tmp_path)
    (dirty / "template" / "README.md.jinja").write_text("changed\n")
    with pytest.warns(DirtyLocalWarning):
        generated = generate(dirty, tmp_path / "cold_store")
    said = generated.make("base", check=False, DOCKER=str(recorder("docker", "image inspect").path))
    assert "Was this service made from changes that were not committed? Commit them there" in said


def test_a_template_that_is_a_plain_folder_builds_its_base_from_there(
    tmp_path: Path, recorder: Callable[..., Recorder]
) -> None:
    plain, docker = plain_template(tmp_path / "the template's $folder"), recorder("docker", "image inspect")
    generated = generate(plain, tmp_path / "cold_store")
    assert generated.base.endswith(":local")
    said = generated.make("base", check=False, DOCKER=str(docker.path))
    assert "The template is a plain folder, and it has no Dockerfile.base." in said
    (plain / "Dockerfile.base").touch()
    generated.make("base", DOCKER=str(docker.path))
    assert docker.calls[-1].endswith(f"--file {plain}/Dockerfile.base {plain}")


def test_the_chart_is_checked_and_has_the_services_version(
    generated: Generated, recorder: Callable[..., Recorder]
) -> None:
    helm = recorder("helm")
    generated.make("chart", HELM=str(helm.path))
    assert helm.calls[-2:] == [
        "lint --strict helm/cold-store",
        "package helm/cold-store --version 0.1.0 --app-version 0.1.0 --destination dist",
    ]


def test_no_recipe_needs_more_than_a_posix_shell(generated: Generated) -> None:
    """dash accepts the syntax of every recipe as make would run it."""
    targets = ("image", "up", "down", "chart", "lock", "install")
    planned = generated.make("--dry-run", "--always-make", *targets, DOCKER="true")
    done = subprocess.run(["sh", "-n"], input=planned, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
