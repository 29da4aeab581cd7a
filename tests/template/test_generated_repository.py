"""A generated repository proves itself: its own `make check`, in an environment that it makes itself."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.template.rendering import FEATURES, copy_project

pytestmark = pytest.mark.slow

VARIANTS: dict[str, list[str]] = {
    "defaults": list(FEATURES),
    "without http": ["websocket", "tasks"],
    "without websocket": ["http", "tasks"],
    "without tasks": ["http", "websocket"],
}


@pytest.fixture(scope="module")
def checks(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Future[str]]]:
    """Every variant's `make check`, begun at once and run side by side."""
    folder = tmp_path_factory.mktemp("generated")
    with ThreadPoolExecutor(max_workers=len(VARIANTS)) as pool:
        yield {
            variant: pool.submit(make_check, copy_project(repository, folder / f"svc-{number}", features=features))
            for number, (variant, features) in enumerate(VARIANTS.items())
        }


@pytest.mark.parametrize("variant", VARIANTS)
def test_its_own_check_is_green(checks: dict[str, Future[str]], variant: str) -> None:
    output = checks[variant].result(timeout=500)
    assert " passed" in output, output
    assert "skipped" not in output, output
    assert "Success: no issues found" in output, output


def make_check(project: Path) -> str:
    """Runs `make check` with the environment that a user has, and returns all that it said."""
    env = {name: value for name, value in os.environ.items() if not name.startswith(("DAEBUS_", "PYTEST", "MAKE"))}
    command = ["make", "check", f"PYTHON={sys.executable}"]
    done = subprocess.run(
        command,
        cwd=project,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout
