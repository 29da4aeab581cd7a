"""The repository as a git repository that holds every change: what the template is copied from.

A generated service installs the runtime from the commit that it was made from, so that commit has to exist. In a clean
tree it does, and the repository itself is used; a tree with changes is committed in a throw-away clone first.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

AUTHOR = ("-c", "user.name=snapshot", "-c", "user.email=snapshot@localhost", "-c", "commit.gpgsign=false")


def git(*arguments: str | Path, at: Path) -> str:
    """Runs git in a folder and returns what it printed. Raises CalledProcessError with git's own words in it."""
    command = ["git", *map(str, arguments)]
    return subprocess.run(command, cwd=at, check=True, capture_output=True, text=True).stdout.strip()


def is_clean(repository: Path) -> bool:
    return not git("status", "--porcelain", at=repository)


def snapshot(repository: Path, target: Path) -> Path:
    """Clones the repository into `target` and commits there what the work tree has and HEAD has not."""
    git("clone", "--quiet", "--no-tags", "--no-checkout", repository, target, at=repository)
    git("--work-tree", repository, "add", "--all", at=target)
    git("--work-tree", repository, *AUTHOR, "commit", "--quiet", "--allow-empty", "--message", "snapshot", at=target)
    git("reset", "--quiet", "--hard", at=target)
    return target


def source(repository: Path, scratch: Path) -> Path:
    """The repository itself when it is clean, else a snapshot of it in a folder of `scratch`."""
    if is_clean(repository):
        return repository
    return snapshot(repository, scratch / "daebus-template")
