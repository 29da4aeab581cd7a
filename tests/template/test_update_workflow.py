"""The workflow that updates a service from the template: one pull request or none, and never a lost update.

Its script runs here as a runner runs it, with git, Copier and a bare repository; `gh` is a stand-in that remembers.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml

from scripts.snapshot import git
from tests.template.rendering import copier, plain_template
from tests.template.updating import append, commit_all, replace

pytestmark = pytest.mark.slow

BRANCH = "template-update"
# Remembers the open pull request and its text. A file `broken` beside it makes it fail where pull requests are made.
GH = """#!/bin/sh
here=$(dirname "$0")
echo "$*" >>"$here/calls"
for word do if [ "$last" = --body-file ]; then cp "$word" "$here/body"; fi; last=$word; done
case "$*" in
"pr list"*) cat "$here/open" 2>/dev/null; true ;;
"pr create"*) [ ! -e "$here/broken" ] && echo 7 >"$here/open" ;;
esac
"""


class Ground(NamedTuple):
    """A template, a service on a bare remote, and the programs of a runner."""

    template: Path
    remote: Path
    programs: Path

    def release(self, tag: str) -> None:
        commit_all(self.template, tag)
        git("tag", tag, at=self.template)

    def run(self, folder: Path) -> subprocess.CompletedProcess[str]:
        """The script of the last step, in a fresh checkout."""
        git("clone", "--quiet", self.remote, folder, at=self.remote)
        steps = yaml.safe_load((folder / ".github/workflows/update.yml").read_text())["jobs"]["update"]["steps"]
        path = os.pathsep.join([str(self.programs), str(Path(sys.executable).parent), os.environ["PATH"]])
        return subprocess.run(
            ["bash", "--noprofile", "--norc", "-e", "-c", steps[-1]["run"]],
            cwd=folder,
            env={**os.environ, "PATH": path, "BASE": "main", "GH_TOKEN": "none"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def calls(self, words: str) -> list[str]:
        log = self.programs / "calls"
        return [call for call in log.read_text().splitlines() if call.startswith(words)] if log.exists() else []

    def branch(self) -> str:
        return git("for-each-ref", "--format=%(objectname)", f"refs/heads/{BRANCH}", at=self.remote)

    def on_branch(self, path: str) -> str:
        return git("show", f"{BRANCH}:{path}", at=self.remote)

    def push(self, folder: Path, branch: str = "main") -> None:
        commit_all(folder, "our own")
        git("push", "--quiet", "origin", f"HEAD:{branch}", at=folder)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Ground:
    folder = tmp_path_factory.mktemp("ground")
    ground = Ground(plain_template(folder / "template"), folder / "remote.git", folder / "programs")
    (ground.template / "CHANGELOG.md").write_text("# Changelog\n\n## 0.1.0\n\n* Old.\n")
    ground.release("v0.1.0")
    service = folder / "service"
    done = copier("copy", "--defaults", "--quiet", ground.template, service, at=folder)
    assert done.returncode == 0, done.stdout
    git("init", "--quiet", "--initial-branch", "main", at=service)
    commit_all(service, "from the template")
    git("clone", "--quiet", "--bare", service, ground.remote, at=folder)
    ground.programs.mkdir()
    (ground.programs / "gh").write_text(GH)
    (ground.programs / "gh").chmod(0o755)
    return ground


@pytest.fixture
def ground(made: Ground, tmp_path: Path) -> Ground:
    """A remote of one's own, and another template where the first one was: services remember its path."""
    ground = Ground(made.template, tmp_path / "remote.git", tmp_path / "programs")
    shutil.copytree(made.remote, ground.remote)
    shutil.copytree(made.programs, ground.programs)
    git("reset", "--quiet", "--hard", "v0.1.0", at=ground.template)
    for tag in set(git("tag", at=ground.template).split()) - {"v0.1.0"}:
        git("tag", "--delete", tag, at=ground.template)
    return ground


def test_one_pull_request_or_none(ground: Ground, tmp_path: Path) -> None:
    """Nothing to do; then a release that only adds a file, and a run that is interrupted; then it is refreshed."""
    done = ground.run(tmp_path / "first")
    assert (done.returncode, done.stdout.strip()) == (0, "Nothing to do: v0.1.0 is the newest.")
    assert (ground.branch(), ground.calls("pr")) == ("", [])

    (ground.template / "template" / "SUPPORT.md").write_text("# Support\n")
    replace(ground.template / "CHANGELOG.md", r"^## 0\.1\.0$", "## 0.2.0\n\n* Ways to support.\n\n## 0.1.0")
    ground.release("v0.2.0")
    (ground.programs / "broken").touch()
    assert ground.run(tmp_path / "interrupted").returncode != 0, "no update is lost in silence"
    (ground.programs / "broken").unlink()
    done = ground.run(tmp_path / "second")
    assert done.returncode == 0, done.stdout
    assert ground.on_branch("SUPPORT.md") == "# Support"
    assert "_commit: v0.2.0" in ground.on_branch(".copier-answers.yml")
    title = "--title Update from the template: v0.1.0 to v0.2.0"
    assert title in ground.calls("pr create")[-1]
    body = (ground.programs / "body").read_text()
    assert "* Ways to support." in body
    assert "Old." not in body
    assert "In conflict" not in body

    assert ground.run(tmp_path / "third").returncode == 0
    assert len(ground.calls("pr create")) == 2, "the interrupted one and one more"
    assert title in ground.calls("pr edit 7")[-1]
    assert git("rev-list", "--count", f"main..{BRANCH}", at=ground.remote) == "1"


def test_conflicts_and_deleted_files_are_in_the_pull_request(ground: Ground, tmp_path: Path) -> None:
    service = tmp_path / "service"
    git("clone", "--quiet", ground.remote, service, at=tmp_path)
    replace(service / "README.md", r"\A# .*$", "# Our visitors")
    (service / "LICENSE").unlink()
    ground.push(service)
    replace(ground.template / "template/README.md.jinja", r"^# \{\{ service_name \}\}$", "# The {{ service_name }}")
    (ground.template / "template/compose.yaml.jinja").unlink()
    ground.release("v0.2.0")
    done = ground.run(tmp_path / "checkout")
    assert done.returncode == 0, done.stdout
    assert "<<<<<<< before updating\n# Our visitors\n" in ground.on_branch("README.md")
    assert "\n* `README.md`\n" in (ground.programs / "body").read_text()
    names = git("ls-tree", "--name-only", BRANCH, at=ground.remote).split()
    assert not {"compose.yaml", "LICENSE"} & set(names)
    git("switch", "--quiet", BRANCH, at=tmp_path / "checkout")
    settled = subprocess.run(["make", "settled"], cwd=tmp_path / "checkout", capture_output=True, text=True)
    assert "README.md" in settled.stderr, "so CI fails on it"


def test_somebodys_work_on_the_branch_is_left_alone(ground: Ground, tmp_path: Path) -> None:
    service = tmp_path / "service"
    git("clone", "--quiet", ground.remote, service, at=tmp_path)
    append(service / "README.md", "Settled by hand.\n")
    ground.push(service, BRANCH)
    before = ground.branch()
    append(ground.template / "template/README.md.jinja", "\nNewer.\n")
    ground.release("v0.2.0")
    done = ground.run(tmp_path / "checkout")
    assert done.returncode == 0
    assert "has commits of somebody's own" in done.stdout
    assert ground.branch() == before


@pytest.mark.long
def test_a_push_that_is_refused_is_a_failure_with_its_cure(ground: Ground, tmp_path: Path) -> None:
    hook = ground.remote / "hooks" / "pre-receive"
    hook.write_text("#!/bin/sh\nexit 1\n")
    hook.chmod(0o755)
    append(ground.template / "template/README.md.jinja", "\nNewer.\n")
    ground.release("v0.2.0")
    done = ground.run(tmp_path / "checkout")
    assert done.returncode != 0
    assert "that needs the secret UPDATE_TOKEN" in done.stdout
    assert ground.calls("pr") == []


def test_a_template_that_cannot_be_asked_is_a_failure(ground: Ground, tmp_path: Path) -> None:
    service = tmp_path / "service"
    git("clone", "--quiet", ground.remote, service, at=tmp_path)
    replace(service / ".copier-answers.yml", r"^_src_path: .*$", "_src_path: /nowhere/template.git")
    ground.push(service)
    done = ground.run(tmp_path / "checkout")
    assert done.returncode != 0
    assert "::error::The template could not be asked for its releases." in done.stdout
