"""`copier update` brings the template's improvements and leaves the owner's own code alone."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from scripts.snapshot import git
from tests.template.rendering import copier, files_of
from tests.template.updating import (
    append,
    commit_all,
    copy_today,
    data,
    edit_own_code,
    edit_surroundings,
    owners_files,
    replace,
    templates_files,
    update,
)

pytestmark = pytest.mark.slow


@pytest.fixture
def template(repository: Path, tmp_path: Path) -> Path:
    """A clone of the template to which a test may add commits."""
    git("clone", "--quiet", "--no-tags", f"file://{repository}", tmp_path / "template", at=tmp_path)
    return tmp_path / "template"


@pytest.fixture
def project(template: Path, tmp_path: Path) -> Path:
    """A service that was generated before those commits."""
    return commit_all(copy_today(template, tmp_path / "service"), "from the template")


def test_improvements_arrive_beside_what_the_owner_wrote(template: Path, project: Path, tmp_path: Path) -> None:
    edit_surroundings(project)
    commit_all(project, "our own")
    change_template(template)
    update(project)
    fresh = copy_today(template, tmp_path / "fresh" / "service")
    assert "serve: run" in (fresh / "Makefile").read_text()
    assert (fresh / "SUPPORT.md").is_file()
    edit_surroundings(fresh)
    assert templates_files(project) == templates_files(fresh)


def test_an_update_never_touches_the_owners_code(template: Path, project: Path) -> None:
    edit_own_code(project)
    commit_all(project, "our own")
    before = owners_files(project)
    change_sample(template)
    update(project)
    assert owners_files(project) == before


def test_a_deleted_sample_does_not_come_back(template: Path, project: Path) -> None:
    shutil.rmtree(project / "src")
    shutil.rmtree(project / "tests")
    commit_all(project, "nothing of the garden")
    change_sample(template)
    update(project)
    assert owners_files(project) == {}


def test_a_file_that_the_owner_deleted_does_not_come_back(template: Path, project: Path) -> None:
    (project / "compose.yaml").unlink()
    shutil.rmtree(project / ".github")
    commit_all(project, "not with us")
    for path in (template / "template").glob("compose.yaml*"):
        path.write_text("# Now it is another.\n" + path.read_text())
    change_template(template)
    update(project)
    assert "serve: run" in (project / "Makefile").read_text()
    assert not (project / "compose.yaml").exists()
    assert not (project / ".github").exists()


def test_an_update_goes_from_one_release_to_the_newest(template: Path, tmp_path: Path) -> None:
    """The runtime and the base image too."""
    git("tag", "v0.1.0", at=template)
    project = tmp_path / "service"
    assert copier("copy", "--defaults", "--quiet", template, project, at=tmp_path).returncode == 0
    commit_all(project, "from the template")
    assert answers_of(project)["_commit"] == "v0.1.0"
    change_template(template)
    git("tag", "v0.2.0", at=template)
    append(template / "template" / "README.md.jinja", "\nNot released.\n")
    commit_all(template, "after the release")
    done = copier("update", "--defaults", at=project)
    assert done.returncode == 0, done.stdout
    assert answers_of(project)["_commit"] == "v0.2.0"
    assert f"@{git('rev-parse', 'v0.2.0', at=template)}#" in (project / "requirements" / "dev.txt").read_text()
    assert "BASE_TAG=v0.2.0" in (project / "Dockerfile").read_text()
    assert "Not released" not in (project / "README.md").read_text()


def test_a_second_update_has_nothing_to_do(template: Path, project: Path) -> None:
    change_template(template)
    update(project)
    commit_all(project, "updated")
    update(project)
    assert git("status", "--porcelain", at=project) == ""


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({"features": ["http"]}, {"features": ["http", "tasks"]}),
        ({}, {"features": ["http"], "port": "8123"}),
        ({}, {"bus_mode": "shared", "image_registry": "ghcr.io/org"}),
    ],
    ids=["a feature more", "features less", "a shared bus"],
)
def test_new_answers_change_only_the_files_around_the_code(
    template: Path, tmp_path: Path, before: dict[str, str], after: dict[str, str]
) -> None:
    project = commit_all(copy_today(template, tmp_path / "service", **before), "from the template")
    edit_own_code(project)
    commit_all(project, "our own")
    own = owners_files(project)
    change_template(template)
    update(project, *data(after))
    assert templates_files(project) == templates_files(
        copy_today(template, tmp_path / "x" / "service", **before | after)
    )
    assert owners_files(project) == own


def test_another_name_deletes_no_code(template: Path, project: Path) -> None:
    before = owners_files(project)
    change_template(template)
    update(project, "-d", "service_name=visitors")
    assert owners_files(project) == before
    assert (project / "helm" / "visitors" / "Chart.yaml").is_file()


def test_a_service_in_a_folder_of_a_larger_repository_is_updated(template: Path, tmp_path: Path) -> None:
    project = copy_today(template, tmp_path / "products" / "service")
    (tmp_path / "products" / "README.md").write_text("All our services.\n")
    commit_all(tmp_path / "products", "from the template")
    change_template(template)
    update(project)
    assert files_of(project) == files_of(copy_today(template, tmp_path / "fresh" / "service"))
    assert (tmp_path / "products" / "README.md").read_text() == "All our services.\n"


def test_a_conflict_is_seen_by_git(template: Path, project: Path) -> None:
    """Copier exits with 0 even so; the README says how to look for conflicts."""
    replace(project / "README.md", r"\A# .*$", "# Our visitors")
    commit_all(project, "our own")
    replace(template / "template" / "README.md.jinja", r"^# \{\{ service_name \}\}$", "# {{ service_name }}, a service")
    commit_all(template, "another title")
    done = copier("update", "--defaults", "--vcs-ref", "HEAD", at=project)
    assert done.returncode == 0, done.stdout
    check = subprocess.run(["git", "diff", "--check"], cwd=project, capture_output=True, text=True)
    assert check.returncode != 0
    assert "README.md:1: leftover conflict marker" in check.stdout
    assert git("diff", "--name-only", "--diff-filter=U", at=project) == "README.md"
    assert "# Our visitors" in (project / "README.md").read_text()
    assert "git diff --check" in (project / "README.md").read_text()


def test_a_folder_with_uncommitted_work_is_left_unchanged(template: Path, project: Path) -> None:
    (project / "README.md").write_text("not committed\n")
    before = files_of(project)
    change_template(template)
    done = copier("update", "--defaults", "--vcs-ref", "HEAD", at=project)
    assert done.returncode != 0
    assert "Destination repository is dirty; cannot continue." in done.stdout
    assert files_of(project) == before


def answers_of(project: Path) -> dict[str, str]:
    answers = yaml.safe_load((project / ".copier-answers.yml").read_text())
    assert isinstance(answers, dict)
    return answers


def change_template(template: Path) -> None:
    """A commit that changes, adds and removes files of the template, like an improvement."""
    folder = template / "template"
    replace(folder / "Makefile.jinja", r"^test: ", "serve: run ## another word for run\n\ntest: ")
    replace(folder / "README.md.jinja", r"^## Every day$", "## Every single day")
    (folder / "SUPPORT.md.jinja").write_text("# Where to ask about {{ service_name }}\n")
    (folder / ".dockerignore").unlink()
    commit_all(template, "the template has learnt something")


def change_sample(template: Path) -> None:
    """A commit that rewrites, renames, adds and removes files of the sample."""
    folder = template / "template" / "src" / "{{ package_name }}"
    (folder / "garden.py").rename(folder / "beds.py")
    replace(folder / "watering.py.jinja", r"\A", "# Another sample now.\n")
    replace(folder / "app.py.jinja", r"\A", "# Another sample now.\n")
    (folder / "frost.py").write_text('"""A cold night."""\n')
    (folder / "live.py.jinja").unlink()
    tests = template / "template" / "tests"
    (tests / "test_frost.py").write_text("# Nothing yet.\n")
    (tests / "test_live.py.jinja").unlink()
    commit_all(template, "another sample")
