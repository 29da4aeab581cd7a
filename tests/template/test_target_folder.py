"""The template is copied only to an empty folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.template.rendering import copier, copier_process, copy_project, files_of

SOMEBODYS = {
    "a file that the template has too": "README.md",
    "a file that it does not have": "notes.txt",
    "a hidden file": ".env",
    "a file in a folder": "src/thing.py",
    "a file in a folder's folder": "src/deep/thing.py",
}


@pytest.mark.parametrize("name", SOMEBODYS.values(), ids=SOMEBODYS.keys())
def test_a_folder_that_is_not_empty_is_left_unchanged(plain: Path, tmp_path: Path, name: str) -> None:
    theirs = tmp_path / "service [1]" / name
    theirs.parent.mkdir(parents=True)
    theirs.write_text("mine\n")
    done = copier_process("copy", "--defaults", plain, "service [1]", at=tmp_path)
    assert done.returncode != 0
    assert done.stdout.splitlines()[-1].endswith(
        'The folder "service [1]" is not empty, so nothing was written. '
        'Choose another one, or commit what is in it, say --overwrite and look at "git diff".'
    )
    assert files_of(tmp_path) == {f"service [1]/{name}": "mine\n"}


def test_a_second_copy_does_not_touch_the_first(plain: Path, tmp_path: Path) -> None:
    project = copy_project(plain, tmp_path / "target")
    before = files_of(project)
    with pytest.raises(ValueError, match="is not empty"):
        copy_project(plain, project, service_name="another")
    assert files_of(project) == before


def test_a_fresh_git_repository_counts_as_empty(plain: Path, tmp_path: Path) -> None:
    (tmp_path / "target" / ".git").mkdir(parents=True)
    (tmp_path / "target" / ".git" / "HEAD").write_text("ref: refs/heads/main\n")
    copy_project(plain, tmp_path / "target")
    assert (tmp_path / "target" / "README.md").is_file()


def test_overwriting_needs_an_option(plain: Path, tmp_path: Path) -> None:
    (tmp_path / "target").mkdir()
    (tmp_path / "target" / "README.md").write_text("mine\n")
    done = copier("copy", "--defaults", "--overwrite", plain, "target", at=tmp_path)
    assert done.returncode == 0, done.stdout
    assert (tmp_path / "target" / "README.md").read_text().startswith("# target\n")
