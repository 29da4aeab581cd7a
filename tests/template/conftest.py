"""The sources from which the template is copied: a plain folder, and a git repository with everything committed."""

from __future__ import annotations

import copy
import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from copier import _template, _vcs

from scripts.snapshot import snapshot
from tests.template.rendering import REPOSITORY, plain_template


@pytest.fixture(scope="session")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return plain_template(tmp_path_factory.mktemp("plain") / "template")


@pytest.fixture(scope="session")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A temporary clone whose last commit is the work tree, as a user's clone of this repository would be."""
    return snapshot(REPOSITORY, tmp_path_factory.mktemp("repository") / "daebus-template")


@pytest.fixture(scope="module")
def template_read_once() -> Iterator[None]:
    """For modules that render one template hundreds of times: Copier's findings about the template are cached."""
    read = functools.cache(_template.load_template_config)

    def read_once(path: Path, quiet: bool = False) -> Any:
        return copy.deepcopy(read(path, quiet))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_template, "load_template_config", read_once)
        patch.setattr(_template, "get_repo", functools.cache(_vcs.get_repo))
        yield
