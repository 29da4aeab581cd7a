"""The promise of updates: from every release `copier update` brings a generated service up to date.

It is tested from each release, a tag `vX.Y.Z` that is an ancestor of this commit. Until there is one, some earlier
commits of the template stand for them. Each is copied, committed, updated to the work tree, and compared with a fresh
copy of it.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from scripts.snapshot import git, snapshot
from tests.template.rendering import REPOSITORY
from tests.template.test_generated_repository import make_check
from tests.template.updating import (
    commit_all,
    copy_from,
    data,
    edit_own_code,
    edit_surroundings,
    owners_files,
    templates_files,
    update,
)

pytestmark = pytest.mark.slow

ANSWERS: dict[str, dict[str, Any]] = {
    "defaults": {},
    "http": {"features": ["http"], "port": "8123", "description": "Counts visitors: 50% of them"},
    "nothing": {"features": [], "service_name": "quiet-one", "licence": "none"},
    "shared": {
        "features": ["websocket", "tasks"],
        "bus_mode": "shared",
        "image_registry": "registry.local:5000/team",
        "licence": "Apache-2.0",
        "author": "Gärtnerei Müller & Töchter",
    },
}
COMMITS = 3
# Services were generated from this commit, so it is always tested until there is a release.
KNOWN = "67fe0235cb53"


class Case(NamedTuple):
    start: str
    answers: str
    edited: bool


class Updated(NamedTuple):
    project: Path
    own: dict[str, str]  # the content of the owner's folders before the update


# An owner's edits are kept from the first commit whose template reserves places for them. Before that, in unreleased
# states, an update changed the same lines as the owner; the very first commit, without edits, is tested for all these.
ROOM_FOR_EDITS = {
    "copier.yml": "_copier_operation",
    "template/Makefile.jinja": "where no update writes",
    "template/README.md.jinja": "set page = template_page",
    "template/.github/workflows/ci.yml.jinja": "Owners append their jobs",
}


def why_no_history() -> str:
    """Why this repository's history cannot be used; empty when it can."""
    try:
        if git("rev-parse", "--is-shallow-repository", at=REPOSITORY) == "true":
            return "this is a shallow clone: the template's history is not here"
    except (OSError, subprocess.CalledProcessError):
        return "this is no git repository: the template's history is not here"
    return ""


def releases() -> list[str]:
    """The release tags among this commit's ancestors, oldest first."""
    tags = git("tag", "--merged", "HEAD", "--sort=version:refname", at=REPOSITORY).split()
    return [tag for tag in tags if re.fullmatch(r"v\d+\.\d+\.\d+", tag)]


def template_commits() -> list[str]:
    """Every commit that changed the copied files, oldest first."""
    return git("log", "--reverse", "--format=%H", "--", "copier.yml", "template", "helm/daebus", at=REPOSITORY).split()


def spread(commits: list[str], count: int) -> list[str]:
    """The first, the last but one, and some evenly spread between them."""
    last = max(len(commits) - 2, 0)
    chosen = {round(last * step / (count - 1)) for step in range(count)}
    return [commit for index, commit in enumerate(commits) if index in chosen]


def known() -> list[str]:
    """The last commit up to `KNOWN` that changed the copied files; none when the history does not contain it."""
    found = subprocess.run(
        ["git", "log", "--max-count=1", "--format=%H", KNOWN, "--", "copier.yml", "template", "helm/daebus"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
    )
    return found.stdout.split()


def with_room_for_edits(commits: list[str]) -> list[str]:
    """Of commits in order, those from the first on that has every word of ROOM_FOR_EDITS."""

    def has_room(commit: str) -> bool:
        found = [
            subprocess.run(["git", "grep", "--quiet", word, commit, "--", path], cwd=REPOSITORY, capture_output=True)
            for path, word in ROOM_FOR_EDITS.items()
        ]
        return all(done.returncode == 0 for done in found)

    return next((commits[index:] for index, commit in enumerate(commits) if has_room(commit)), [])


def cases(starts: list[str], edited: bool) -> list[Any]:
    """Each starting point with one set of answers, in rotation, and the newest with all; other pairs are long tests."""
    if not starts:
        return [
            pytest.param(None, marks=pytest.mark.skip(NO_HISTORY or "no commit keeps room for an owner's edits yet"))
        ]
    return [
        pytest.param(
            Case(start, answers, edited),
            id=f"{start[:10]}-{answers}",
            marks=() if number == turn % len(ANSWERS) or (edited and start == starts[-1]) else pytest.mark.long,
        )
        for turn, start in enumerate(starts)
        for number, answers in enumerate(ANSWERS)
    ]


def chosen_commits() -> list[str]:
    """The commits that stand for releases until there is one, oldest first."""
    chosen = {*spread(with_room_for_edits(HISTORY), COMMITS), *known()}
    return [commit for commit in HISTORY if commit in chosen]


NO_HISTORY = why_no_history()
HISTORY = [] if NO_HISTORY else template_commits()
STARTS_FOR_EDITS = [] if NO_HISTORY else releases() or chosen_commits()
STARTS = [] if NO_HISTORY else releases() or list(dict.fromkeys(HISTORY[:1] + STARTS_FOR_EDITS))


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone of the repository with its releases, at a commit of the work tree."""
    if NO_HISTORY:
        pytest.skip(NO_HISTORY)
    clone = snapshot(REPOSITORY, tmp_path_factory.mktemp("history") / "daebus-template")
    git("fetch", "--quiet", "--tags", REPOSITORY, at=clone)
    git(
        "gc", "--quiet", at=clone
    )  # Copier clones it five times for each update: one pack instead of thousands of files
    return clone


@pytest.fixture(scope="module")
def fresh(history: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A function that returns a fresh copy of today's template, made once for each set of answers. Do not change it."""

    @cache
    def copy(answers: str) -> Path:
        return copy_from(history, "HEAD", tmp_path_factory.mktemp("fresh") / "service", ANSWERS[answers])

    return copy


@pytest.mark.parametrize("case", cases(STARTS, edited=False))
def test_an_update_is_like_a_fresh_copy(
    history: Path, fresh: Callable[[str], Path], tmp_path: Path, case: Case
) -> None:
    service = updated(history, tmp_path / "service", case)
    assert templates_files(service.project) == templates_files(fresh(case.answers))
    assert owners_files(service.project) == service.own


@pytest.mark.parametrize("case", cases(STARTS_FOR_EDITS, edited=True))
def test_an_update_keeps_all_that_the_owner_wrote(
    history: Path, fresh: Callable[[str], Path], tmp_path: Path, case: Case
) -> None:
    service = updated(history, tmp_path / "service", case)
    today = shutil.copytree(fresh(case.answers), tmp_path / "today")
    edit_surroundings(today)
    assert templates_files(service.project) == templates_files(today)
    assert owners_files(service.project) == service.own


@pytest.mark.long
@pytest.mark.parametrize("case", cases(STARTS_FOR_EDITS[:1], edited=False)[:1])
def test_the_oldest_service_passes_its_own_checks_after_an_update(history: Path, tmp_path: Path, case: Case) -> None:
    """After the update its code is still the old one, and its runtime is today's."""
    output = make_check(updated(history, tmp_path / "service", case).project)
    assert " passed" in output, output


def updated(history: Path, target: Path, case: Case) -> Updated:
    """Generates a service from an earlier commit, edits it if the case says so, and updates it."""
    answers = ANSWERS[case.answers]
    project = commit_all(copy_from(history, case.start, target, answers), f"from {case.start}")
    if case.edited:
        edit_own_code(project)
        edit_surroundings(project)
        commit_all(project, "our own")
    own = owners_files(project)
    # Questions that the earlier template did not ask are answered at the update.
    asked = yaml.safe_load((project / ".copier-answers.yml").read_text())
    update(project, *data({name: answer for name, answer in answers.items() if name not in asked}))
    return Updated(project, own)
