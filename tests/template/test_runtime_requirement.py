"""How a generated service finds the runtime: in the repository and at the commit that it was copied from."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import yaml
from copier import run_copy
from jinja2 import Environment, StrictUndefined

from scripts.snapshot import git
from tests.template.rendering import REPOSITORY, copier, copy_project

COMMIT = "0123456789abcdef0123456789abcdef01234567"
REMOTE = {
    "gh:org/daebus-template": "git+https://github.com/org/daebus-template.git",
    "gh:/org/daebus-template.git": "git+https://github.com/org/daebus-template.git",
    "gl:org/daebus-template": "git+https://gitlab.com/org/daebus-template.git",
    "https://github.com/org/daebus-template": "git+https://github.com/org/daebus-template",
    "https://git.example.org/daebus-template.git": "git+https://git.example.org/daebus-template.git",
    "git+https://git.example.org/daebus-template": "git+https://git.example.org/daebus-template",
    "git@github.com:org/daebus-template.git": "git+ssh://git@github.com/org/daebus-template.git",
    "git+ssh://git@example.org/daebus-template": "git+ssh://git@example.org/daebus-template",
    "ssh://git@example.org/daebus-template.git": "git+ssh://git@example.org/daebus-template.git",
}


@pytest.mark.parametrize(("typed", "url"), REMOTE.items())
def test_a_remote_address_in_the_words_of_pip(typed: str, url: str) -> None:
    """These cannot be copied from here, so the answer and the file are rendered by themselves."""
    environment = Environment(
        extensions=["jinja2_ansible_filters.AnsibleCoreFiltersExtension"],
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    question = yaml.safe_load((REPOSITORY / "copier.yml").read_text())["template_url"]
    template_url = environment.from_string(question["default"]).render(_copier_answers={"_src_path": typed})
    file = environment.from_string((REPOSITORY / "template" / "requirements" / "dev.txt.jinja").read_text())
    text = file.render(template_url=template_url, template_ref=COMMIT)
    assert requirements(text)[0] == f"daebus-runtime[dev] @ {url}@{COMMIT}#subdirectory=runtime"


def test_a_local_repository_by_its_path(repository: Path, tmp_path: Path) -> None:
    project = copy_project(repository, tmp_path / "target")
    commit = git("rev-parse", "HEAD", at=repository)
    assert requirements((project / "requirements" / "dev.txt").read_text())[:2] == [
        f"git+file://{repository.resolve()}@{commit}#subdirectory=runtime",
        "daebus-runtime[dev]",
    ]


def test_a_local_repository_by_a_relative_path(repository: Path, tmp_path: Path) -> None:
    done = copier(
        "copy", "--defaults", "--vcs-ref", "HEAD", os.path.relpath(repository, tmp_path), "target", at=tmp_path
    )
    assert done.returncode == 0, done.stdout
    first = requirements((tmp_path / "target" / "requirements" / "dev.txt").read_text())[0]
    assert first.startswith(f"git+file://{repository.resolve()}@")


def test_a_file_address_of_a_repository(repository: Path, tmp_path: Path) -> None:
    run_copy(f"git+file://{repository}", tmp_path / "target", defaults=True, quiet=True, vcs_ref="HEAD")
    first = requirements((tmp_path / "target" / "requirements" / "dev.txt").read_text())[0]
    assert first.startswith(f"git+file://{repository}@")


def test_a_folder_without_git_by_its_path(plain: Path, tmp_path: Path) -> None:
    project = copy_project(plain, tmp_path / "target")
    first = requirements((project / "requirements" / "dev.txt").read_text())[0]
    assert first == f"daebus-runtime[dev] @ file://{plain.resolve()}/runtime"


def test_an_odd_path_is_quoted(repository: Path, tmp_path: Path) -> None:
    odd = tmp_path / "my templates #1 é"
    git("clone", "--quiet", "--no-tags", repository, odd, at=tmp_path)
    project = copy_project(odd, tmp_path / "target")
    first = requirements((project / "requirements" / "dev.txt").read_text())[0]
    assert "/my%20templates%20%231%20%C3%A9@" in first


def requirements(text: str) -> list[str]:
    return [line for line in text.splitlines() if line and not line.startswith("#")]
