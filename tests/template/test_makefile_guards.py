"""What the generated Makefile refuses, each with its cure: conflicts, versions that not everything takes, CRLF."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from scripts.snapshot import AUTHOR, git
from tests.template.hosts import calls, stand_in
from tests.template.rendering import copy_project
from tests.template.updating import commit_all, replace

GOOD_VERSIONS = ["0.2.0", "10.20.30", "0.2.0-rc1", "0.2.0-rc.1", "1.0.0-alpha2", "1.0.0-dev0"]
BAD_VERSIONS = ["0.2.0rc1", "0.2.0.dev1", "1.0.0.post1", "1.0.0-post1", "1.0", "1", "v1.0.0", "2024.01.05", "1.0.0+x"]


@pytest.fixture(scope="module")
def service(plain: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copy_project(plain, tmp_path_factory.mktemp("guards") / "service", service_name="cold_store")


@pytest.fixture
def project(service: Path, tmp_path: Path) -> Path:
    return shutil.copytree(service, tmp_path / "service")


def make(project: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["make", *words], cwd=project, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def test_a_service_is_settled_with_git_and_without(project: Path) -> None:
    assert make(project, "settled").returncode == 0
    commit_all(project, "from the template")
    assert make(project, "settled").returncode == 0


@pytest.mark.parametrize("tracked", [True, False])
@pytest.mark.parametrize("marker", ["<<<<<<< before updating", ">>>>>>> after updating", "<<<<<<< HEAD"])
def test_conflict_markers_fail_the_check(project: Path, marker: str, tracked: bool) -> None:
    (project / "notes.txt").write_text(f"ours\n{marker}\n")
    if tracked:
        commit_all(project, "with markers")
    assert_in_conflict(make(project, "settled"), "notes.txt")


def test_the_check_looks_for_conflicts_before_anything_else(project: Path) -> None:
    (project / "requirements" / "dev.txt").write_text("<<<<<<< before updating\n")
    assert_in_conflict(make(project, "check"), "requirements/dev.txt")


def test_rejected_hunks_fail_the_check(project: Path) -> None:
    (project / "helm" / "values.yaml.rej").write_text("@@ -1 +1 @@\n")
    assert_in_conflict(make(project, "settled"), "./helm/values.yaml.rej")


def test_an_unmerged_index_fails_the_check(project: Path) -> None:
    """Also where the markers are gone: nobody has said which lines are right."""
    commit_all(project, "from the template")
    git("checkout", "-q", "-b", "ours", at=project)
    git("branch", "other", at=project)
    for branch, text in (("other", "theirs\n"), ("ours", "ours\n")):
        git("checkout", "-q", branch, at=project)
        (project / "README.md").write_text(text)
        commit_all(project, text)
    subprocess.run(["git", *AUTHOR, "merge", "--quiet", "other"], cwd=project, capture_output=True)
    (project / "README.md").write_text("ours\n")
    assert_in_conflict(make(project, "settled"), "README.md")


def test_what_is_ignored_is_not_looked_at(project: Path) -> None:
    for folder in (".venv", "build"):
        (project / folder).mkdir()
        (project / folder / "x.txt").write_text("<<<<<<< HEAD\n")
        (project / folder / "x.rej").touch()
    assert make(project, "settled").returncode == 0


def assert_in_conflict(done: subprocess.CompletedProcess[str], name: str) -> None:
    assert done.returncode != 0
    assert f"In conflict since an update or a merge:\n{name}\nChoose the right lines, then 'git add'" in done.stdout
    assert "git reset --hard && git clean -d --force" in done.stdout


@pytest.mark.parametrize("version", GOOD_VERSIONS)
def test_a_version_that_everything_takes(project: Path, tmp_path: Path, version: str) -> None:
    replace(project / "pyproject.toml", r"^version = .*$", f'version = "{version}"')
    helm = stand_in(tmp_path / "helm")
    assert make(project, "chart", f"HELM={helm}").returncode == 0
    assert f"--version {version} --app-version {version} " in calls(helm)[-1]


@pytest.mark.parametrize("target", ["image", "chart"])
@pytest.mark.parametrize("version", BAD_VERSIONS)
def test_another_version_is_refused_before_anything_is_made(
    project: Path, tmp_path: Path, version: str, target: str
) -> None:
    replace(project / "pyproject.toml", r"^version = .*$", f'version = "{version}"')
    program = stand_in(tmp_path / "program")
    done = make(project, target, f"DOCKER={program}", f"HELM={program}")
    assert done.returncode != 0
    assert f"is '{version}', which pip, an image and a chart do not all take. Write it as X.Y.Z" in done.stdout
    assert not [call for call in calls(program) if call.startswith(("build", "package"))]


@pytest.mark.parametrize("name", ["pyproject.toml", "requirements/service.txt"])
def test_windows_line_ends_are_named(project: Path, tmp_path: Path, name: str) -> None:
    path = project / name
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    done = make(project, "image", f"DOCKER={stand_in(tmp_path / 'docker')}", "TAG=1", "VERSION=1.0.0")
    assert done.returncode != 0
    assert f"{name}\nIt has Windows' line ends (CRLF)" in done.stdout
    assert "make lock" not in done.stdout
