"""A generated repository proves itself: its own `make check` is green.

A few repositories stand for all: every pair of answers to two questions occurs in one of them.
"""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from typing import NamedTuple

import pytest

from tests.template.rendering import FEATURES, copy_project

pytestmark = pytest.mark.slow

NEWEST = os.environ.get("DAEBUS_NEWEST_PYTHON")  # now: a test's own environment has no DAEBUS_ variable
AT_ONCE = 2  # a `make check` keeps a core busy
LICENCES = ("MIT", "Apache-2.0", "BSD-3-Clause", "none")
REGISTRIES = ("", REGISTRY := "registry.local:5000/team")


class Answers(NamedTuple):
    """A set of answers. The port is asked for only with HTTP or WebSocket."""

    features: tuple[str, ...]
    bus_mode: str
    image_registry: str
    licence: str
    port: str | None

    @property
    def given(self) -> dict[str, object]:
        """The answers in the form that Copier takes."""
        answers = {**self._asdict(), "features": list(self.features)}
        return {question: answer for question, answer in answers.items() if answer is not None}

    @property
    def facts(self) -> dict[str, object]:
        """The answers as single facts: a feature is one, since each is chosen on its own."""
        return {**{name: name in self.features for name in FEATURES}, **self._asdict()} | {"features": None}


SELECTION = {
    "everything": Answers(("http", "websocket", "tasks"), "sidecar", "", "MIT", "8080"),
    "nothing": Answers((), "shared", REGISTRY, "MIT", None),
    "http and tasks": Answers(("http", "tasks"), "sidecar", REGISTRY, "Apache-2.0", "8080"),
    "websocket": Answers(("websocket",), "shared", "", "Apache-2.0", "8080"),
    "websocket and tasks": Answers(("websocket", "tasks"), "shared", "", "BSD-3-Clause", "65535"),
    "http": Answers(("http",), "sidecar", REGISTRY, "BSD-3-Clause", "65535"),
    "tasks": Answers(("tasks",), "sidecar", "", "none", None),
    "http and websocket": Answers(("http", "websocket"), "shared", REGISTRY, "none", "65535"),
}
# All pairs of these two would need twelve repositories, but they have only two lines of the README in common.
APART = {"licence", "port"}


@pytest.fixture(scope="module")
def checks(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Future[str]]]:
    """Runs `make check` of every repository, a few at the same time.

    The first ones create an environment, one with pip and one with uv. The others reuse one of those: they have the
    same requirements, so they only install their own package, with uv.
    """
    folder = tmp_path_factory.mktemp("generated")
    # Names of different lengths: mypy takes a file of the same path, size and second for one that it has in its cache.
    projects = [
        copy_project(repository, folder / f"svc{'-x' * n}", **some.given) for n, some in enumerate(SELECTION.values())
    ]
    assert len({(project / "requirements" / "dev.txt").read_text() for project in projects}) == 1
    free: SimpleQueue[Path] = SimpleQueue()
    for number in range(AT_ONCE):
        free.put(folder / f"environment-{number}")
    installers = ["UV=", *[f"UV={Path(sys.executable).with_name('uv')}"] * (len(projects) - 1)]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        yield {
            name: pool.submit(next_check, project, installer, free)
            for name, project, installer in zip(SELECTION, projects, installers, strict=True)
        }


@pytest.mark.parametrize("name", SELECTION)
def test_its_own_check_is_green(checks: dict[str, Future[str]], name: str, capsys: pytest.CaptureFixture[str]) -> None:
    output = checks[name].result(timeout=900)
    with capsys.disabled():
        print(f"\n{name}: {output.splitlines()[-1]}")
    assert " passed" in output, output
    assert "skipped" not in output, output
    assert "Success: no issues found" in output, output


@pytest.mark.long
def test_its_own_check_is_green_on_the_newest_python(
    repository: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """All of them, one after the other in one environment; the other tests use the oldest Python that is supported."""
    python = newest_python()
    if python is None:
        pytest.skip("there is no newer Python: DAEBUS_NEWEST_PYTHON=/path/to/python3.x names one")
    environment = tmp_path / "environment"
    for number, some in enumerate(SELECTION.values()):
        project = copy_project(repository, tmp_path / f"svc{'-x' * number}", **some.given)
        (environment / "installed").unlink(missing_ok=True)
        words = (f"PYTHON={python}", f"VENV={environment}", f"UV={Path(sys.executable).with_name('uv')}")
        output = make_check(project, *words, MYPY_CACHE_DIR=str(environment / "types"))
        assert " passed" in output, output
        assert "skipped" not in output, output
    made = subprocess.run([environment / "bin" / "python", "-V"], capture_output=True, text=True, check=True)
    with capsys.disabled():
        print(f"\nmeasured: {len(SELECTION)} repositories are green on {made.stdout.strip()}")


def newest_python() -> str | None:
    """What DAEBUS_NEWEST_PYTHON names, else the newest python3.x on PATH that is newer than this one."""
    if NEWEST:
        return NEWEST
    for minor in range(sys.version_info.minor + 10, sys.version_info.minor, -1):
        found = shutil.which(f"python3.{minor}")
        # A shim of pyenv is there for every version, and fails for those that are not chosen.
        if found and subprocess.run([found, "-c", "import venv"], capture_output=True).returncode == 0:
            return found
    return None


def test_every_pair_of_answers_occurs_in_one_of_them() -> None:
    wanted = set().union(*map(pairs, possible()))
    assert len(wanted) > 80
    assert not wanted - set().union(*map(pairs, SELECTION.values()))


def possible() -> Iterator[Answers]:
    """Every possible set of answers, with two ports that stand for all."""
    choices = [some for count in range(4) for some in itertools.combinations(FEATURES, count)]
    for features, bus_mode, registry, licence in itertools.product(
        choices, ("sidecar", "shared"), REGISTRIES, LICENCES
    ):
        for port in ("8080", "65535") if {"http", "websocket"} & set(features) else (None,):
            yield Answers(features, bus_mode, registry, licence, port)


def pairs(answers: Answers) -> set[frozenset[tuple[str, object]]]:
    """Every pair of these answers, except pairs of the two questions named above."""
    every = itertools.combinations(answers.facts.items(), 2)
    return {frozenset(pair) for pair in every if {pair[0][0], pair[1][0]} != APART}


def next_check(project: Path, installer: str, free: SimpleQueue[Path]) -> str:
    """Runs `make check` in an environment that no other repository is using, and prints how long it took."""
    environment = free.get()
    began = time.monotonic()
    try:
        (environment / "installed").unlink(missing_ok=True)
        output = make_check(project, installer, f"VENV={environment}", MYPY_CACHE_DIR=str(environment / "types"))
    finally:
        free.put(environment)
    return f"{output}\nmake check: {time.monotonic() - began:.0f} s"


def make_check(project: Path, *words: str, **settings: str) -> str:
    """Runs `make check` with a user's environment variables, and returns all its output."""
    env = {name: value for name, value in os.environ.items() if not name.startswith(("DAEBUS_", "PYTEST", "MAKE"))}
    done = subprocess.run(
        ["make", "check", f"PYTHON={sys.executable}", *words],
        cwd=project,
        env={**env, **settings},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout
