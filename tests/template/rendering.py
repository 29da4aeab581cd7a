"""Copying the template as its users do, for the tests beside this file."""

from __future__ import annotations

import contextlib
import io
import itertools
import shutil
import subprocess
import sys
import traceback
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from copier import run_copy
from copier._cli import CopierApp
from copier._main import Worker
from jinja2 import Environment

REPOSITORY = Path(__file__).resolve().parents[2]
FEATURES = ("http", "websocket", "tasks")
COMPILE = Environment.compile
_compiled: dict[Any, Any] = {}
COMBINATIONS = [list(some) for count in range(4) for some in itertools.combinations(FEATURES, count)]


def title(features: list[str]) -> str:
    """How a combination of features is called in the tests' names."""
    return "+".join(features) or "none"


def plain_template(target: Path) -> Path:
    """Only what Copier reads, without git: the quickest way to render."""
    target.mkdir(parents=True)
    shutil.copy(REPOSITORY / "copier.yml", target)
    (target / "requirements").mkdir()
    shutil.copy(REPOSITORY / "requirements" / "uv.txt", target / "requirements")
    for folder in ("template", "helm"):  # the library chart is a link from one into the other
        shutil.copytree(REPOSITORY / folder, target / folder, symlinks=True)
    return target


def copy_project(template: Path, target: Path, **answers: Any) -> Path:
    """Copies the template with defaults where no answer is given. Raises what Copier raises."""
    with without_repetition():
        run_copy(str(template), target, data=answers, defaults=True, quiet=True, vcs_ref="HEAD")
    return target


@contextlib.contextmanager
def without_repetition() -> Iterator[None]:
    """Copier compiles every text of the template for each copy, and asks git about each file that it writes.

    In this block a text is compiled once for all copies of a process, and git, which knows nothing of a new folder, is
    not asked: a copy takes a third of the time.
    """

    def compile_once(environment: Environment, source: Any, *names: Any, **options: Any) -> Any:
        settings = (type(environment), environment.trim_blocks, environment.lstrip_blocks)
        key = (settings, source, names, tuple(sorted(options.items())))
        if key not in _compiled:
            _compiled[key] = COMPILE(environment, source, *names, **options)
        return _compiled[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Environment, "compile", compile_once)
        patch.setattr(Worker, "_sync_git_index_executable_bit", lambda *_: None)
        yield


def copier(*words: str | Path, at: Path) -> subprocess.CompletedProcess[str]:
    """The command line, without a terminal; its output and errors are in `.stdout` together.

    In this process, which takes a third of the time that a new one would take; for that see `copier_process`.
    """
    said = io.StringIO()
    command = ["copier", *map(str, words)]
    with (
        contextlib.chdir(at),
        contextlib.redirect_stdout(said),
        contextlib.redirect_stderr(said),
        warnings.catch_warnings(),
        without_repetition(),
    ):
        warnings.simplefilter("default")
        try:
            code = CopierApp.run(command, exit=False)[1]
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 1
        except Exception:
            traceback.print_exc()
            code = 1
    return subprocess.CompletedProcess(command, code, said.getvalue())


def copier_process(*words: str | Path, at: Path) -> subprocess.CompletedProcess[str]:
    """The same in a process of its own, as a user runs it."""
    command = [sys.executable, "-m", "copier", *map(str, words)]
    return subprocess.run(
        command, cwd=at, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def files_of(folder: Path) -> dict[str, str]:
    """Every file below a folder with its text, git's own left out."""
    return {
        str(path.relative_to(folder)): path.read_text()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and ".git" not in path.relative_to(folder).parts
    }
