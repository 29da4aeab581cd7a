"""Stand-ins for git hosts: git's configuration redirects their addresses to a local repository."""

from __future__ import annotations

import os
import stat
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from copier import run_copy
from plumbum import local

from scripts.snapshot import git


class Hosts(NamedTuple):
    """Addresses that all lead to one repository, for every git that runs with `env`."""

    repository: Path
    env: dict[str, str]

    def copy(self, typed: str, target: Path, **answers: Any) -> Path:
        with self.here():
            run_copy(typed, target, data=answers, defaults=True, quiet=True)
        return target

    @contextmanager
    def here(self) -> Iterator[None]:
        """Make them valid for Copier in this process too: it calls git by plumbum, which has its own environment."""
        with local.env(**self.env), pytest.MonkeyPatch.context() as patch:
            for name, value in self.env.items():
                patch.setenv(name, value)
            yield

    def run(self, *words: str | Path, at: Path, **env: str) -> subprocess.CompletedProcess[str]:
        """Runs a program for which they are valid; its whole output is in `.stdout`."""
        return subprocess.run(
            [str(word) for word in words],
            cwd=at,
            env={**os.environ, **self.env, **env},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )


def make_hosts(repository: Path, folder: Path, addresses: list[str]) -> Hosts:
    """Let every address lead to `repository`. Copier keeps its clones in `folder`."""
    folder.mkdir(parents=True)
    settings = folder / "gitconfig"
    for address in addresses:
        name = f"url.file://{repository}.insteadOf"
        git("config", "--file", settings, "--add", name, address, at=folder)
    for name, value in (("user.name", "owner"), ("user.email", "owner@localhost"), ("init.defaultBranch", "main")):
        git("config", "--file", settings, name, value, at=folder)
    env = {"GIT_CONFIG_GLOBAL": str(settings), "COPIER_CACHE_DIR": str(folder / "cache")}
    return Hosts(repository, env)


def stand_in(path: Path, *fails: str) -> Path:
    """Creates a program that only records its calls in a file beside it; calls that begin with one of `fails` fail."""
    failing = "".join(f'  "{words}"*) exit 1;;\n' for words in fails)
    path.write_text(f'#!/bin/sh\necho "$*" >> {path}.log\ncase "$*" in\n{failing}esac\n')
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def calls(program: Path) -> list[str]:
    log = Path(f"{program}.log")
    return log.read_text().splitlines() if log.exists() else []
