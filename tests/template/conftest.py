"""What the template is copied from: once as a plain folder, once as a git repository with everything committed."""

from __future__ import annotations

from pathlib import Path

import pytest

from scripts.snapshot import snapshot
from tests.template.rendering import REPOSITORY, plain_template


@pytest.fixture(scope="session")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return plain_template(tmp_path_factory.mktemp("plain") / "template")


@pytest.fixture(scope="session")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A throw-away clone at a commit that holds the work tree: what a clone of this repository would be."""
    return snapshot(REPOSITORY, tmp_path_factory.mktemp("repository") / "daebus-template")
