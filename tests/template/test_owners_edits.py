"""How often an owner's edit is in conflict with an update: typical edits x the states that services were made from.

Each edit is made alone in its file; edits in different files share an update. An edit that meets a conflict costs its
owner a minute, one that is lost costs trust: none may be lost, and 95 of 100 pairs must be without a conflict. The rate
from `KNOWN`, an unreleased state from before the template kept room for edits, is only printed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import NamedTuple

import pytest

from scripts.snapshot import git
from tests.template.rendering import copier
from tests.template.test_update_promise import (
    HISTORY,
    NO_HISTORY,
    STARTS_FOR_EDITS,
    history,
    releases,
    with_room_for_edits,
)
from tests.template.updating import commit_all, copy_from

__all__ = ["history"]  # the fixture
pytestmark = pytest.mark.long

GOAL = 0.95


class Edit(NamedTuple):
    """What an owner changes: the only match of `pattern` in the file becomes `text`; without a pattern it is added at
    the end."""

    name: str
    file: str
    pattern: str
    text: str


CHART = "helm/service/values.yaml"
EDITS = (
    Edit("another Python", "Makefile", r"^PYTHON \?= python3$", "PYTHON ?= python3.13"),
    Edit("podman", "Makefile", r"^DOCKER \?= docker$", "DOCKER ?= podman"),
    Edit("a registry", "Makefile", r"^IMAGE \?= service$", "IMAGE ?= registry.local:5000/team/service"),
    Edit("options of a build", "Makefile", r"^BUILD \?=$", "BUILD ?= --network host"),
    Edit("options of pytest", "Makefile", r"^(test: .*\n\t.*-m pytest)$", r"\1 -q"),
    Edit("a target", "Makefile", "", "\ndeploy: ## our own\n\t@echo deployed\n"),
    Edit("a package of Debian", "Dockerfile", r"^(FROM .*)$", r"\1\nRUN apt-get install -y tini"),
    Edit("a variable of the image", "Dockerfile", r"^COPY src /srv/src$", "ENV VISITORS=many\nCOPY src /srv/src"),
    Edit("a port", "Dockerfile", r"^EXPOSE 8080$", "EXPOSE 8080 9000"),
    Edit("the command", "Dockerfile", r'^CMD \["daebus", "run", (.*)\]$', r'CMD ["tini", "daebus", "run", \1]'),
    Edit("a variable of the service", "compose.yaml", r"^(      DAEBUS_REDIS_URL: .*)$", r"\1\n      VISITORS: many"),
    Edit("a public port", "compose.yaml", r'"127\.0\.0\.1:', '"0.0.0.0:'),
    Edit("a longer drain", "compose.yaml", r"stop_grace_period: \d+s", "stop_grace_period: 90s"),
    Edit("a container", "compose.yaml", "", "\n  broker:\n    image: eclipse-mosquitto:2\n"),
    Edit("the chart's port", CHART, r"^port: 8080$", "port: 8099"),
    Edit("a shared bus", CHART, r"^  mode: sidecar$", "  mode: shared"),
    Edit("the chart's image", CHART, r'^  repository: "service"$', '  repository: "registry.local:5000/team/service"'),
    Edit("the route of helm test", CHART, r"^  route: .*$", "  route: /visitors"),
    Edit("resources", CHART, "", "\nresources:\n  limits:\n    memory: 128Mi\n"),
    Edit("the chart's version", "helm/service/Chart.yaml", r"^version: 0\.1\.0$", "version: 2.3.4"),
    Edit("dependencies", "pyproject.toml", r"^dependencies = \[\]$", 'dependencies = ["pyserial>=3.5"]'),
    Edit("the version", "pyproject.toml", r'^version = "0\.1\.0"$', 'version = "2.3.4"'),
    Edit("shorter lines", "pyproject.toml", r"^line-length = 120$", "line-length = 100"),
    Edit("rules of ruff", "pyproject.toml", r"^(select = \[.*)\]$", r'\1, "PL"]'),
    Edit("a looser mypy", "pyproject.toml", r"^strict = true$", "strict = false"),
    Edit("a job", ".github/workflows/ci.yml", "", "\n  own:\n    runs-on: ubuntu-24.04\n    steps: []\n"),
    Edit("Python in CI", ".github/workflows/ci.yml", r'python-version: "3\.13"', 'python-version: "3.12"'),
    Edit("other branches", ".github/workflows/ci.yml", r"branches: \[main\]", "branches: [main, develop]"),
    Edit("an introduction", "README.md", r" Its sample is .*$", " It counts our visitors."),
    Edit("a chapter", "README.md", "", "\n## Our visitors\n\nThey are counted.\n"),
    Edit("what git ignores", ".gitignore", "", ".env\n"),
    Edit("a tool", "requirements/dev.txt", "", "pytest-cov>=7\n"),
)


Result = tuple[Edit, str]
"""What became of an edit: "kept", "conflict", "lost", or "impossible", where the state has nothing to edit so."""


def rounds() -> Iterator[list[Edit]]:
    """The edits in groups with one of each file."""
    for number in count():
        chosen: dict[str, Edit] = {}
        seen: dict[str, int] = {}
        for edit in EDITS:
            if seen.setdefault(edit.file, 0) == number:
                chosen[edit.file] = edit
            seen[edit.file] += 1
        if not chosen:
            return
        yield list(chosen.values())


def make(project: Path, edit: Edit) -> bool:
    """Makes the edit; False where the state has nothing that could be edited so."""
    path = project / edit.file
    text = path.read_text() if path.exists() else ""
    if edit.pattern:
        changed, found = re.subn(edit.pattern, edit.text, text, flags=re.MULTILINE)
    else:
        changed, found = text + edit.text, int(path.exists())
    if found == 1:
        path.write_text(changed)
    return found == 1


def became(project: Path, edit: Edit, added: set[str]) -> str:
    """`added`: the lines that the edit had brought."""
    text = (project / edit.file).read_text()
    in_conflict = re.search(r"^(<<<<<<<|>>>>>>>) ", text, re.MULTILINE) or (project / f"{edit.file}.rej").exists()
    if in_conflict or edit.file in git("diff", "--name-only", "--diff-filter=U", at=project).split():
        return "conflict"
    return "kept" if added <= set(text.splitlines()) else "lost"


def results(template: Path, start: str, folder: Path) -> Iterator[Result]:
    """Updates a service from the state for each group of edits."""
    for number, group in enumerate(rounds()):
        project = commit_all(copy_from(template, start, folder / f"{number}" / "service", {}), f"from {start}")
        before = {edit: set((project / edit.file).read_text().splitlines()) for edit in group}
        possible = [edit for edit in group if make(project, edit)]
        added = {edit: set((project / edit.file).read_text().splitlines()) - before[edit] for edit in possible}
        commit_all(project, "our own")
        done = copier("update", "--defaults", "--vcs-ref", "HEAD", at=project)
        assert done.returncode == 0, done.stdout
        for edit in group:
            yield edit, became(project, edit, added[edit]) if edit in added else "impossible"


def rate(pairs: list[Result]) -> float:
    """The share of the possible edits that were kept."""
    possible = [how for _, how in pairs if how != "impossible"]
    return possible.count("kept") / len(possible)


@pytest.mark.skipif(bool(NO_HISTORY), reason=NO_HISTORY)
def test_the_rate_of_conflicts(history: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = {start: list(results(history, start, tmp_path / start[:10])) for start in STARTS_FOR_EDITS}
    with capsys.disabled():
        for start, there in found.items():
            print(f"\nmeasured: {len(EDITS)} edits, update from {start[:10]}: {rate(there):.0%} without a conflict")
            print(*(f"  {edit.file}, {edit.name}: {how}" for edit, how in there if how != "kept"), sep="\n")
    assert not [edit for there in found.values() for edit, how in there if how == "lost"]
    promised = releases() or with_room_for_edits(HISTORY)
    pairs = [pair for start, there in found.items() if start in promised for pair in there]
    assert rate(pairs) >= GOAL
