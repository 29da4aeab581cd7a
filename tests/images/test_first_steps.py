"""From a clean clone of this repository to a service that answers in Docker."""

from __future__ import annotations

import json
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest

from scripts.snapshot import git
from tests.support.docker import RESTRICTED, Container, Generated, docker, need_engine, unique
from tests.support.waiting import wait_until
from tests.template.rendering import copier_process

pytestmark = [pytest.mark.slow, pytest.mark.docker]
MINUTES = 5


def answer(container: Container) -> object:
    try:
        with urllib.request.urlopen(f"http://{container.address(8080)}/plants", timeout=5) as answer:
            return json.load(answer)
    except OSError:
        return None


def test_from_a_clean_clone_to_an_answer_inside_docker(
    template: Path, tmp_path: Path, measured: Callable[[str], None]
) -> None:
    """Starts with the public base images only: clone, copy, build base and image, run, send a request."""
    need_engine()
    began = time.monotonic()
    git("clone", "--quiet", template, tmp_path / "daebus-template", at=tmp_path)
    answers = ("--defaults", "--vcs-ref", "HEAD", "--data", f"image_registry=test.invalid/{unique('first')}")
    done = copier_process("copy", *answers, tmp_path / "daebus-template", tmp_path / "first_service", at=tmp_path)
    assert done.returncode == 0, done.stdout
    commit = git("rev-parse", "HEAD", at=template)
    service = Generated(
        tmp_path / "first_service",
        image=f"{answers[-1].partition('=')[2]}/first-service",
        base=f"test.invalid/{unique('base')}/daebus-base:{commit}",
    )
    container = None
    try:
        service.make("image", BUILD="--no-cache")
        container = Container(f"{service.image}:0.1.0", options=(*RESTRICTED, "--publish", "127.0.0.1::8080"))
        plants = wait_until(lambda: answer(container), 60, container.said)
        seconds = time.monotonic() - began
        assert plants == {"plants": {"basil": 60, "mint": 45, "tomato": 30}, "thirsty": []}
    finally:
        if container:
            container.close()
        service.remove_image()
        docker("rmi", "--force", service.base)
    measured(f"from a clean clone to an answer inside Docker: {seconds:.0f} s")
    assert seconds < MINUTES * 60
