"""What comes from elsewhere: another template's answers, another folder's, a Copier that is too old. A clear word, and
nothing changes.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from scripts.snapshot import AUTHOR, git
from tests.template.rendering import copier, copy_project, files_of

pytestmark = pytest.mark.slow

# Two of its keys are ours too, with values that ours cannot have, and one fits.
THEIRS = {
    "_commit": "v9.9.9",
    "_src_path": "gh:somebody/something",
    "service_name": "Their.Service",
    "features": "web",
    "description": "From elsewhere",
    "database": "oracle",
}

# This Copier with another one's number: its first argument.
COPIER = """
import importlib.metadata, sys
version, known = sys.argv.pop(1), importlib.metadata.version
importlib.metadata.version = lambda name: version if name == "copier" else known(name)
from copier.__main__ import CopierApp
CopierApp.run()
"""


@pytest.fixture
def theirs(tmp_path: Path) -> Path:
    """A git repository that another template made."""
    folder = tmp_path / "theirs"
    folder.mkdir()
    (folder / ".copier-answers.yml").write_text(yaml.safe_dump(THEIRS))
    git("init", "--quiet", at=folder)
    commit_all(folder)
    return folder


def test_a_repository_of_another_template_is_left_as_it_was(plain: Path, theirs: Path) -> None:
    before = files_of(theirs)
    done = copier("copy", "--defaults", plain, ".", at=theirs)
    assert done.returncode != 0
    assert 'The folder "." is not empty, so nothing was written.' in done.stdout.splitlines()[-1]
    assert files_of(theirs) == before


def test_answers_to_another_templates_questions_are_refused(plain: Path, theirs: Path, tmp_path: Path) -> None:
    done = copier("copy", "--defaults", "--data-file", theirs / ".copier-answers.yml", plain, "ours", at=tmp_path)
    assert done.returncode != 0
    assert done.stdout.splitlines()[-1].endswith(
        'Nothing was written: this template does not ask for "database", only for service_name, description, author, '
        "licence, features, port, bus_mode, image_registry."
    )
    assert [path.name for path in tmp_path.iterdir()] == ["theirs"]


def test_answers_of_this_template_may_be_given_again(plain: Path, tmp_path: Path) -> None:
    first = copy_project(plain, tmp_path / "first", description="Counts visitors", features=["http"], port="8123")
    answers = first / ".copier-answers.yml"
    done = copier("copy", "--defaults", "--quiet", "--data-file", answers, plain, "second", at=tmp_path)
    assert done.returncode == 0, done.stdout
    assert files_of(tmp_path / "second") == files_of(first)


def test_an_update_from_a_commit_that_this_template_never_had_changes_nothing(repository: Path, theirs: Path) -> None:
    """The words are Copier's own; the template is not asked."""
    answers = {**THEIRS, "_src_path": str(repository)}
    (theirs / ".copier-answers.yml").write_text(yaml.safe_dump(answers))
    commit_all(theirs)
    before = files_of(theirs)
    done = copier("update", "--defaults", "--vcs-ref", "HEAD", at=theirs)
    assert done.returncode != 0
    assert done.stdout.splitlines()[-1] == "ValueError: Unknown revision: 'v9.9.9'"
    assert files_of(theirs) == before


def test_over_another_templates_repository_only_what_fits_is_taken_over(plain: Path, theirs: Path) -> None:
    """Said with --overwrite; Copier then takes the answers that it finds, and this template checks them."""
    done = copier("copy", "--defaults", "--overwrite", "--quiet", plain, ".", at=theirs)
    assert done.returncode == 0, done.stdout
    answers = yaml.safe_load((theirs / ".copier-answers.yml").read_text())
    assert (answers["service_name"], answers["features"]) == ("theirs", ["http", "websocket", "tasks"])
    assert answers["description"] == THEIRS["description"]
    assert not {"_commit", "database"} & set(answers)


def test_a_copy_from_inside_the_first_one_does_not_meet_its_answers(plain: Path, tmp_path: Path) -> None:
    first = copy_project(plain, tmp_path / "first", author="Ada", licence="none", bus_mode="shared", features=[])
    before = files_of(first)
    done = copier("copy", "--defaults", "--quiet", plain, "../second", at=first)
    assert done.returncode == 0, done.stdout
    assert files_of(first) == before
    assert files_of(tmp_path / "second") == files_of(copy_project(plain, tmp_path / "fresh" / "second"))


@pytest.mark.parametrize("version", ["9.14.0", "9.4.1", "8.0.0"])
def test_an_old_copier_is_told_which_one_is_needed(plain: Path, tmp_path: Path, version: str) -> None:
    done = copier_that_says(version, "copy", "--defaults", str(plain), "target", at=tmp_path)
    assert done.returncode != 0
    assert done.stdout.splitlines()[-1] == (
        f"This template requires Copier version >= 9.15.0, while your version of Copier is {version}."
    )
    assert list(tmp_path.iterdir()) == []


def test_the_oldest_copier_will_do(plain: Path, tmp_path: Path) -> None:
    done = copier_that_says("9.15.0", "copy", "--defaults", str(plain), "target", at=tmp_path)
    assert done.returncode == 0, done.stdout


def copier_that_says(version: str, *words: str, at: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", COPIER, version, *words]
    return subprocess.run(
        command, cwd=at, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def commit_all(folder: Path) -> None:
    git("add", "--all", at=folder)
    git(*AUTHOR, "commit", "--quiet", "--message", "theirs", at=folder)
