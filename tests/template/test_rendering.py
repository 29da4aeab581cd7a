"""For every combination of features: exactly the files that it needs, and a README that fits them."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.template.rendering import COMBINATIONS, FEATURES, REPOSITORY, copy_project, files_of, title

pytestmark = pytest.mark.slow

CHART = "helm/cold-store"
ALWAYS = {
    ".copier-answers.yml",
    ".dockerignore",
    ".gitattributes",
    ".github/dependabot.yml",
    ".github/workflows/ci.yml",
    ".github/workflows/update.yml",
    ".gitignore",
    "Dockerfile",
    "LICENSE",
    "Makefile",
    "README.md",
    "compose.yaml",
    f"{CHART}/.helmignore",
    f"{CHART}/Chart.yaml",
    f"{CHART}/charts/daebus/Chart.yaml",
    f"{CHART}/charts/daebus/defaults.yaml",
    *(f"{CHART}/charts/daebus/templates/{path.name}" for path in (REPOSITORY / "helm/daebus/templates").iterdir()),
    f"{CHART}/templates/NOTES.txt",
    f"{CHART}/templates/all.yaml",
    f"{CHART}/values.schema.json",
    f"{CHART}/values.yaml",
    "pyproject.toml",
    "requirements/dev.txt",
    "requirements/service.txt",
    "src/cold_store/__init__.py",
    "src/cold_store/app.py",
    "src/cold_store/events.py",
    "src/cold_store/garden.py",
    "src/cold_store/watering.py",
    "tests/conftest.py",
    "tests/test_watering.py",
}
BY_FEATURE = {
    "http": {"src/cold_store/plants.py", "tests/test_plants.py"},
    "websocket": {"src/cold_store/live.py", "tests/test_live.py"},
    "tasks": {"src/cold_store/drying.py", "tests/test_drying.py"},
}

each_combination = pytest.mark.parametrize("features", COMBINATIONS, ids=title)


@pytest.fixture(scope="session")
def projects(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One generated repository for every combination, by its title."""
    folder = tmp_path_factory.mktemp("rendered")
    return {
        title(features): copy_project(
            repository, folder / title(features), service_name="cold-store", features=features
        )
        for features in COMBINATIONS
    }


@each_combination
def test_exactly_the_files_that_are_needed(projects: dict[str, Path], features: list[str]) -> None:
    expected = ALWAYS.union(*(BY_FEATURE[feature] for feature in features))
    assert set(files_of(projects[title(features)])) == expected
    assert len(expected) <= 40


@each_combination
def test_only_chosen_features_are_mentioned(projects: dict[str, Path], features: list[str]) -> None:
    code = "".join(text for name, text in files_of(projects[title(features)]).items() if name.endswith(".py"))
    assert ("DaebusHttp" in code) == ("http" in features)
    assert ("DaebusWebSocket" in code) == ("websocket" in features)
    assert ("background" in code) == ("tasks" in features)
    readme = (projects[title(features)] / "README.md").read_text()
    for feature in FEATURES:
        names = {Path(name).name for name in BY_FEATURE[feature] if name.startswith("src")}
        assert all((name in readme) == (feature in features) for name in names)
    assert ("Adding features later" in readme) == (len(features) < len(FEATURES))


@each_combination
def test_the_readme_is_short(projects: dict[str, Path], features: list[str]) -> None:
    assert len((projects[title(features)] / "README.md").read_text().splitlines()) < 120


@each_combination
def test_the_readme_names_make_targets_that_exist(projects: dict[str, Path], features: list[str]) -> None:
    makefile = (projects[title(features)] / "Makefile").read_text()
    readme = (projects[title(features)] / "README.md").read_text()
    commands = re.findall(r"(?:^|`)make ([a-z]+(?: [a-z]+)*)", readme, re.MULTILINE)
    targets = {target for command in commands for target in command.split()}
    assert {"run", "check", "lock", "image", "up", "down", "chart"} <= targets
    assert targets <= set(re.findall(r"^([a-z]+):", makefile, re.MULTILINE))


@each_combination
def test_the_readme_names_files_that_exist(projects: dict[str, Path], features: list[str]) -> None:
    project = projects[title(features)]
    named = set(
        re.findall(
            r"`((?:src|tests|helm|requirements)/[^`]*|[\w.-]+\.(?:toml|yaml))`", (project / "README.md").read_text()
        )
    )
    assert {"src/cold_store/app.py", f"{CHART}/values.yaml", "pyproject.toml", "requirements/dev.txt"} <= named
    elsewhere = {"helm/daebus-bus"}  # lies in the template's repository
    assert [name for name in named - elsewhere if not (project / name).exists()] == []


def test_the_picture_in_the_docs_shows_files_and_commands_that_exist(plain: Path, tmp_path: Path) -> None:
    project = copy_project(plain, tmp_path / "my_service")
    page = (REPOSITORY / "docs" / "installation.md").read_text()
    picture = page.split("after `copier copy`")[1].split("```")[1]
    files = re.findall(r"^ (  )?([\w./-]+)  ?", picture, re.MULTILINE)
    named = [f"helm/my-service/{name}" if inner else name for inner, name in files if "/" in name or "." in name]
    assert {"src/my_service/", "helm/my-service/charts/daebus/", "pyproject.toml"} <= set(named)
    assert [name for name in named if not (project / name).exists()] == []
    targets = re.findall(r"^([a-z]+):", (project / "Makefile").read_text(), re.MULTILINE)
    assert set(re.findall(r"make (\w+)", picture)) <= {*targets, "of"}


def test_names_of_any_length_leave_the_code_formatted(plain: Path, tmp_path: Path) -> None:
    for name in ("a", "zebra", "a" * 40, "x-" * 19 + "x"):
        project = copy_project(plain, tmp_path / name, service_name=name)
        run_quietly("ruff", "format", "--check", "--diff", "--no-cache", ".", at=project)
        run_quietly("ruff", "check", "--no-cache", ".", at=project)


def test_the_service_is_a_package_of_its_own(projects: dict[str, Path]) -> None:
    settings = tomllib.loads((projects["none"] / "pyproject.toml").read_text())
    assert settings["project"]["name"] == "cold-store"
    assert settings["project"]["requires-python"] == ">=3.11"
    assert settings["tool"]["mypy"]["strict"] is True


def run_quietly(tool: str, *words: str, at: Path) -> None:
    """Runs one of the environment's tools; its output is shown when it fails."""
    done = subprocess.run([sys.executable, "-m", tool, *words], cwd=at, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
