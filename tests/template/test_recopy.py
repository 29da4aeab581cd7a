"""`copier recopy` and a copy over a service: what belongs to the owner is kept, the rest is the template's again."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.template.rendering import copier, copy_project, plain_template
from tests.template.updating import commit_all, edit_own_code, owners_files, replace

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    template = plain_template(tmp_path_factory.mktemp("recopy") / "template")
    commit_all(template, "the template")
    return template


@pytest.mark.parametrize(
    "words",
    [("recopy",), ("recopy", "-d", "service_name=visitors"), ("recopy", "-d", "features=[tasks]")],
    ids=["as it was", "another name", "other features"],
)
def test_the_owners_code_is_kept(template: Path, tmp_path: Path, words: tuple[str, ...]) -> None:
    project = commit_all(copy_project(template, tmp_path / "service [1]"), "from the template")
    edit_own_code(project)
    replace(project / "Makefile", r"^run: ", "start: ")
    before = owners_files(project)
    done = copier(words[0], "--defaults", "--overwrite", "--vcs-ref", "HEAD", *words[1:], at=project)
    assert done.returncode == 0, done.stdout
    assert owners_files(project) == before
    assert "\nrun: " in (project / "Makefile").read_text()


def test_a_copy_over_a_service_keeps_its_code_too(template: Path, tmp_path: Path) -> None:
    project = copy_project(template, tmp_path / "service")
    edit_own_code(project)
    before = owners_files(project)
    done = copier("copy", "--defaults", "--overwrite", "--vcs-ref", "HEAD", template, project, at=tmp_path)
    assert done.returncode == 0, done.stdout
    assert owners_files(project) == before


def test_a_repository_that_is_no_service_yet_gets_the_sample(template: Path, tmp_path: Path) -> None:
    project = tmp_path / "service"
    (project / "src" / "elsewhere").mkdir(parents=True)
    (project / "src" / "elsewhere" / "app.py").write_text("MINE = True\n")
    done = copier("copy", "--defaults", "--overwrite", "--vcs-ref", "HEAD", template, project, at=tmp_path)
    assert done.returncode == 0, done.stdout
    assert (project / "src" / "service" / "app.py").is_file()
    assert (project / "src" / "elsewhere" / "app.py").read_text() == "MINE = True\n"
