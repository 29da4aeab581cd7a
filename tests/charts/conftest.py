"""The chart of a generated service, copied from the template as a team would copy it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.template.rendering import copy_project, plain_template


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return plain_template(tmp_path_factory.mktemp("template") / "template")


@pytest.fixture(scope="session")
def service_chart(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every answer is the default except the name, which contains a letter that Kubernetes does not allow in names."""
    project = copy_project(template, tmp_path_factory.mktemp("service") / "cold_store", service_name="cold_store")
    return project / "helm" / "cold-store"
