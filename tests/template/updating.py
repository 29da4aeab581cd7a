"""Services that were generated from earlier commits, and their updates, for the tests beside this file."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

from scripts.snapshot import AUTHOR, git
from tests.template.rendering import copier, files_of

OWNERS_FOLDERS = ("src", "tests")


def commit_all(project: Path, message: str) -> Path:
    """Commits everything in a folder; creates the git repository first if there is none."""
    if not (project / ".git").exists():
        git("init", "--quiet", at=project)
    git("add", "--all", at=project)
    git(*AUTHOR, "commit", "--quiet", "--message", message, at=project)
    return project


def copy_from(template: Path, ref: str, target: Path, answers: dict[str, Any]) -> Path:
    """Generates a service from an earlier commit of the template."""
    done = copier("copy", "--defaults", "--quiet", "--vcs-ref", ref, *data(answers), template, target, at=template)
    assert done.returncode == 0, done.stdout
    return target


def copy_today(template: Path, target: Path, **answers: Any) -> Path:
    """Generates a service from the template's newest commit."""
    return copy_from(template, "HEAD", target, answers)


def data(answers: dict[str, Any]) -> list[str]:
    """Options of the command line for these answers: words, and lists of words."""
    text = {name: answer if isinstance(answer, str) else f"[{', '.join(answer)}]" for name, answer in answers.items()}
    return [word for name, answer in text.items() for word in ("--data", f"{name}={answer}")]


def update(project: Path, *words: str) -> None:
    """Updates to the template's newest commit by the command line; no conflict may be left."""
    done = copier("update", "--defaults", "--vcs-ref", "HEAD", *words, at=project)
    assert done.returncode == 0, done.stdout
    assert_settled(project)


def assert_settled(project: Path) -> None:
    """No file may have a conflict."""
    unmerged = git("diff", "--name-only", "--diff-filter=U", at=project)
    assert unmerged == "", f"in conflict: {unmerged}"
    check = subprocess.run(["git", "diff", "--check"], cwd=project, capture_output=True, text=True)
    assert check.returncode == 0, check.stdout
    assert not list(project.rglob("*.rej"))


def owners_files(project: Path) -> dict[str, str]:
    """The files in the folders that belong to the owner."""
    return {name: text for name, text in files_of(project).items() if name.split("/")[0] in OWNERS_FOLDERS}


def templates_files(project: Path) -> dict[str, str]:
    """Everything else."""
    return {name: text for name, text in files_of(project).items() if name.split("/")[0] not in OWNERS_FOLDERS}


def edit_own_code(project: Path) -> None:
    """Edits the sample as an owner does: one file rewritten, one edited, some deleted, some added."""
    package = next((project / "src").iterdir())
    (package / "garden.py").write_text('"""Nothing of the garden is left."""\n\nVISITORS = 0\n')
    replace(package / "app.py", r'^(app = Daebus\(".*"\))$', r"\1  # our own")
    for name in ("watering.py", "plants.py", "drying.py"):
        (package / name).unlink(missing_ok=True)
    (package / "visitors.py").write_text("COUNTED = True\n")
    (project / "tests" / "test_watering.py").unlink()
    (project / "tests" / "test_visitors.py").write_text("def test_nothing() -> None:\n    assert True\n")


def edit_surroundings(project: Path) -> None:
    """Adds an owner's own values and lines to files that the template also improves."""
    replace(project / "pyproject.toml", r"^dependencies = \[\]$", 'dependencies = ["pyserial>=3.5"]')
    replace(project / "pyproject.toml", r'^version = "0\.1\.0"$', 'version = "2.3.4"')
    replace(project / "README.md", r" Its sample is .*$", " It counts our visitors.")
    replace(project / "Dockerfile", r"^COPY src ", "ENV VISITORS=many\nCOPY src ")
    (values,) = project.glob("helm/*/values.yaml")
    replace(values, r"^port: \d+$", "port: 8099\nreplicaCount: 1")
    append(values, "\nconfig:\n  VISITORS: many\n")
    append(project / "Makefile", "\ndeploy: ## our own\n\t@echo deployed\n")
    append(project / ".gitignore", ".env\n")
    append(project / "requirements" / "dev.txt", "pytest-cov>=7\n")
    append(project / "compose.yaml", "\n  broker:\n    image: eclipse-mosquitto:2\n")
    append(project / ".github" / "workflows" / "ci.yml", "\n  own:\n    runs-on: ubuntu-24.04\n    steps: []\n")
    (project / "requirements" / "service.txt").write_text("pyserial==3.5\n")
    (project / "docs").mkdir()
    (project / "docs" / "visitors.md").write_text("# Visitors\n")


def replace(path: Path, pattern: str, text: str) -> None:
    """Replaces the only match of a pattern; there must be exactly one."""
    changed, found = re.subn(pattern, text, path.read_text(), flags=re.MULTILINE)
    assert found == 1, f"{pattern} is {found} times in {path}"
    path.write_text(changed)


def append(path: Path, text: str) -> None:
    path.write_text(path.read_text() + text)
