"""The shell blocks of a generated README, and terminals into which they are pasted as they stand."""

from __future__ import annotations

import os
import shutil
import signal
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from tests.docs.pages import blocks_of
from tests.docs.stage import CURL
from tests.support.process import ServiceProcess

SHELLS = {"bash": ["bash", "-e"], "dash": ["dash", "-e"]}


def blocks(project: Path) -> dict[str, str]:
    """The text of each block in its order, by its first line."""
    found = [block for block in blocks_of((project / "README.md").read_text(), "README.md") if block.language == "sh"]
    return {block.text.partition("\n")[0]: block.text for block in found}


def program(folder: Path, name: str, script: str) -> None:
    """A program for the PATH of a terminal: the lines of a shell script."""
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


class Desk:
    """Terminals in one folder, with programs of the test's own first on the PATH, and Copier as a user has it."""

    def __init__(self, project: Path, start: Callable[..., ServiceProcess], shell: str, env: Mapping[str, str]) -> None:
        self.project, self.blocks = project, blocks(project)
        self._start, self._shell, self._pasted = start, SHELLS[shell], 0
        self.programs = project.parent / "programs"
        for name in ("copier", "uv"):
            program(self.programs, name, f'exec "{Path(sys.executable).with_name(name)}" "$@"')
        if shutil.which("curl") is None:
            program(self.programs, "curl", f'exec "{sys.executable}" "{CURL}" "$@"')
        path = f"{self.programs}{os.pathsep}{os.environ['PATH']}"
        outer = dict.fromkeys(("MAKEFLAGS", "MFLAGS", "MAKELEVEL", "IMAGE", "TAG", "VIRTUAL_ENV"))
        self.env = {**outer, "PATH": path, **env}

    def paste(self, first: str) -> ServiceProcess:
        """Runs the block with this first line."""
        return self.paste_text(self.blocks[first])

    def paste_text(self, text: str) -> ServiceProcess:
        """Runs these lines; the shell ends at the first command that fails."""
        self._pasted += 1
        script = self.project.parent / f"pasted-{self._pasted}.sh"
        script.write_text(text)
        return self._start([*self._shell, str(script)], directory=self.project, env=self.env)

    def run(self, first: str, timeout: float) -> str:
        """Runs a block that ends by itself; its output."""
        return self.run_text(self.blocks[first], timeout)

    def run_text(self, text: str, timeout: float) -> str:
        terminal = self.paste_text(text)
        assert terminal.wait(timeout) == 0, terminal.output
        return terminal.output


def interrupt(terminal: ServiceProcess) -> None:
    """Ctrl-C: SIGINT to all that runs in the terminal, which must then end."""
    os.killpg(terminal.pid, signal.SIGINT)
    terminal.wait(30)


def missing(shell: str) -> str | None:
    return None if shutil.which(shell) else f"there is no {shell} here"
