"""A git repository whose last commit is the work tree; the template is copied from it.

A generated service installs the runtime from the commit that it was made from, so this commit must exist. With a clean
work tree the repository itself is used; with uncommitted changes, a temporary clone in which they are committed.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

AUTHOR = ("-c", "user.name=snapshot", "-c", "user.email=snapshot@localhost", "-c", "commit.gpgsign=false")


def git(*arguments: str | Path, at: Path) -> str:
    """Runs git in a folder and returns its output. Raises CalledProcessError, which contains git's own errors."""
    command = ["git", *map(str, arguments)]
    return subprocess.run(command, cwd=at, check=True, capture_output=True, text=True).stdout.strip()


def is_clean(repository: Path) -> bool:
    return not git("status", "--porcelain", at=repository)


def snapshot(repository: Path, target: Path) -> Path:
    """Clones the repository into `target` and commits there the changes that the work tree has against HEAD."""
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
