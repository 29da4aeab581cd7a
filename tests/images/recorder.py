"""Stand-ins for the programs that a generated Makefile calls: they write down how they were called."""

from __future__ import annotations

import shutil
import stat
from dataclasses import dataclass, replace
from pathlib import Path

from tests.support.docker import Generated


@dataclass(frozen=True)
class Recorder:
    """A program that only writes down how it was called. It fails for the calls that begin with one of `fails`."""

    path: Path

    @property
    def calls(self) -> list[str]:
        log = self.path.with_suffix(".log")
        return log.read_text().splitlines() if log.exists() else []


def make_recorder(path: Path, *fails: str) -> Recorder:
    """One that fails for the calls that begin with one of `fails`."""
    failing = "".join(f'  "{words}"*) exit 1;;\n' for words in fails)
    path.write_text(f'#!/bin/sh\necho "$*" >> {path}.log\ncase "$*" in\n{failing}esac\n')
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return Recorder(path)


def copied(generated: Generated, target: Path) -> Generated:
    """A copy that a test may change."""
    return replace(generated, project=shutil.copytree(generated.project, target / "cold_store"))
