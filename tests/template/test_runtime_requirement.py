"""How a service that was made from a folder of this machine finds the runtime there, at the commit that it was copied
from. Addresses of hosts are in test_sources.py.
"""

from __future__ import annotations

import os
from pathlib import Path

from copier import run_copy

from scripts.snapshot import git
from tests.template.rendering import copier, copy_project


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
