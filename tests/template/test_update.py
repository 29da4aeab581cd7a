"""`copier update` brings what the template has learnt since, and leaves alone what the owner wrote."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from scripts.snapshot import AUTHOR, git
from tests.template.rendering import REPOSITORY, copier, copy_project, files_of

pytestmark = pytest.mark.slow

ANSWERS = [
    {},
    {"features": ["http"], "port": "8123", "description": "Counts visitors: 50% of them"},
    {"features": [], "service_name": "quiet-one"},
]


@pytest.fixture
def template(repository: Path, tmp_path: Path) -> Path:
    """A clone of the template that a test may add commits to."""
    git("clone", "--quiet", "--no-tags", repository, tmp_path / "template", at=tmp_path)
    return tmp_path / "template"


@pytest.mark.parametrize("answers", ANSWERS, ids=["defaults", "http", "nothing"])
def test_an_update_from_the_commit_before_is_like_a_fresh_copy(
    template: Path, tmp_path: Path, answers: dict[str, object]
) -> None:
    project = commit_all(copy_project(template, tmp_path / "service", **answers), "from the template")
    change_template(template)
    update(project)
    fresh = copy_project(template, tmp_path / "fresh" / "service", **answers)
    assert files_of(project) == files_of(fresh)
    assert "serve: run" in (project / "Makefile").read_text()


def test_what_the_owner_wrote_stays(template: Path, tmp_path: Path) -> None:
    project = copy_project(template, tmp_path / "service")
    own = {
        "src/service/blueprints/watering.py": ("def rain(", "def raining("),
        "src/service/app.py": ("port=8080", "port=8099"),
        "pyproject.toml": ("dependencies = []", 'dependencies = ["pyserial"]'),
        "README.md": ("Its sample is a small garden; keep what helps, delete the rest.", "It counts our visitors."),
    }
    for name, (before, after) in own.items():
        text = (project / name).read_text()
        assert before in text, name
        (project / name).write_text(text.replace(before, after))
    (project / "tests" / "test_drying.py").unlink()
    (project / "src" / "service" / "extra.py").write_text("EXTRA = 1\n")
    commit_all(project, "our own")
    change_template(template)
    update(project)
    for name, (_before, after) in own.items():
        assert after in (project / name).read_text(), name
    assert "serve: run" in (project / "Makefile").read_text()
    assert not (project / "tests" / "test_drying.py").exists()
    assert (project / "src" / "service" / "extra.py").exists()


def test_the_runtime_moves_with_the_template(template: Path, tmp_path: Path) -> None:
    project = commit_all(copy_project(template, tmp_path / "service"), "from the template")
    before = git("rev-parse", "HEAD", at=template)
    change_template(template)
    after = git("rev-parse", "HEAD", at=template)
    assert f"@{before}#" in (project / "requirements" / "dev.txt").read_text()
    update(project)
    assert f"@{after}#" in (project / "requirements" / "dev.txt").read_text()


def test_features_can_be_chosen_again(template: Path, tmp_path: Path) -> None:
    project = commit_all(copy_project(template, tmp_path / "service", features=["http"]), "from the template")
    change_template(template)
    update(project, "-d", "features=[http, tasks]")
    assert (project / "src" / "service" / "blueprints" / "drying.py").is_file()
    assert files_of(project) == files_of(copy_project(template, tmp_path / "x" / "service", features=["http", "tasks"]))


def test_an_update_from_this_repositorys_own_last_change(repository: Path, tmp_path: Path) -> None:
    """The same with the history as it is: from the template's commit before the newest."""
    changes = git("log", "--format=%H", "--", "copier.yml", "template", at=REPOSITORY).split()
    if len(changes) < 2:
        pytest.skip("this clone's history holds fewer than two commits of the template")
    target = tmp_path / "service"
    done = copier("copy", "--defaults", "--quiet", "--vcs-ref", changes[1], repository, target, at=tmp_path)
    assert done.returncode == 0, done.stdout
    commit_all(target, "from the template")
    update(target)
    assert files_of(target) == files_of(copy_project(repository, tmp_path / "fresh" / "service"))


def test_a_folder_with_uncommitted_work_is_left_as_it_was(template: Path, tmp_path: Path) -> None:
    project = commit_all(copy_project(template, tmp_path / "service"), "from the template")
    (project / "README.md").write_text("not committed\n")
    before = files_of(project)
    change_template(template)
    done = copier("update", "--defaults", "--vcs-ref", "HEAD", at=project)
    assert done.returncode != 0
    assert "Destination repository is dirty; cannot continue." in done.stdout
    assert files_of(project) == before


def commit_all(project: Path, message: str) -> Path:
    """Makes a git repository of a folder, if it is none, with everything committed."""
    if not (project / ".git").exists():
        git("init", "--quiet", at=project)
    git("add", "--all", at=project)
    git(*AUTHOR, "commit", "--quiet", "--message", message, at=project)
    return project


def change_template(template: Path) -> None:
    """A commit that changes, adds and removes files of the template, as improvements do."""
    folder = template / "template"
    makefile = folder / "Makefile.jinja"
    makefile.write_text(makefile.read_text() + "\nserve: run ## another word for run\n")
    readme = folder / "README.md.jinja"
    readme.write_text(readme.read_text().replace("## Every day", "## Every single day"))
    (folder / "SUPPORT.md.jinja").write_text("# Where to ask about {{ service_name }}\n")
    (folder / "src" / "{{ package_name }}" / "py.typed").unlink()
    commit_all(template, "the template has learnt something")


def update(project: Path, *words: str) -> None:
    """Updates to the template's newest commit; there must be nothing left to settle by hand."""
    done = copier("update", "--defaults", "--vcs-ref", "HEAD", *words, at=project)
    assert done.returncode == 0, done.stdout
    assert git("ls-files", "--unmerged", at=project) == ""
    check = subprocess.run(["git", "diff", "--check"], cwd=project, capture_output=True, text=True)
    assert check.returncode == 0, check.stdout
    assert not list(project.rglob("*.rej"))
