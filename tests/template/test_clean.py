"""Every combination of answers gives a repository in which no tool finds a fault: formatter, linter, types, YAML,
schemas, Dockerfile, workflow, chart. The same tools check the files of this repository.

All combinations are rendered once; then each tool runs once on the few files that differ.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import platform
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml
from packaging.licenses import canonicalize_license_expression
from packaging.requirements import Requirement

from tests.template.rendering import COMBINATIONS, REPOSITORY, copy_project, plain_template, title

pytestmark = pytest.mark.slow

BUS_MODES = ("sidecar", "shared")
LICENCES = ("MIT", "Apache-2.0", "BSD-3-Clause", "none")
REGISTRIES = ("", "registry.local:5000/team")
AT_MOST = 40  # files in a generated repository
INFORMATION = 1  # Helm's lowest severity, such as "icon is recommended"
# The line length of this repository; Copier does not indent the items of a list.
YAML_RULES = """
extends: default
rules:
  document-start: disable
  truthy: {check-keys: false}
  comments: {min-spaces-from-content: 1}
  indentation: {spaces: 2, indent-sequences: consistent}
  line-length: {max: 120, allow-non-breakable-inline-mappings: true, ignore: [copier.yml]}
"""


class Answers(NamedTuple):
    """One combination of answers. The port is left out: it is one number in a few places."""

    features: list[str]
    bus_mode: str
    licence: str
    image_registry: str

    def __str__(self) -> str:
        registry = "registry" if self.image_registry else "no-registry"
        return f"{title(self.features)}-{self.bus_mode}-{self.licence}-{registry}"


EVERY = [Answers(*some) for some in itertools.product(COMBINATIONS, BUS_MODES, LICENCES, REGISTRIES)]


class Rendered(NamedTuple):
    """All combinations in one folder, each under its name."""

    folder: Path
    projects: dict[str, Path]
    template: Path

    def files(self, *patterns: str) -> list[Path]:
        """The files that match a pattern inside their project, one of each distinct content."""
        found = (path for project in self.projects.values() for pattern in patterns for path in project.glob(pattern))
        return distinct(path for path in sorted(found) if path.is_file())


@pytest.fixture(scope="module")
def rendered(template_read_once: None, tmp_path_factory: pytest.TempPathFactory) -> Rendered:
    folder = tmp_path_factory.mktemp("rendered")
    template = plain_template(tmp_path_factory.mktemp("plain") / "template")
    projects = {str(answers): folder / str(answers) for answers in EVERY}
    for answers in EVERY:
        copy_project(template, projects[str(answers)], service_name="garden_service", **answers._asdict())
    return Rendered(folder, projects, template)


def test_every_combination_has_its_files_and_remembers_its_answers(rendered: Rendered) -> None:
    assert len(rendered.projects) == 128
    for answers in EVERY:
        project = rendered.projects[str(answers)]
        files = [path for path in project.rglob("*") if path.is_file()]
        assert len(files) <= AT_MOST, (answers, files)
        remembered = yaml.safe_load((project / ".copier-answers.yml").read_text())
        assert remembered == {**remembered, **answers._asdict()}, answers


def test_nothing_of_the_template_language_is_left_over(rendered: Rendered) -> None:
    for path in rendered.files("**/*"):
        assert not re.search(r"[{}]|[.]jinja$", path.name), path
        text = path.read_text()
        assert not re.search(r"\{%|%\}|\{#|#\}", text), path
        if not is_chart_template(path):
            # Braces of GitHub and Docker are no leftovers: ${{ name }} and {{.Name}}, {{if .Name}}.
            assert not re.search(r"(?<!\$)\{\{(?!\.|if |else|end)", text), path


def test_every_text_is_tidy(rendered: Rendered) -> None:
    for path in rendered.files("**/*"):
        text = path.read_text()
        assert text == "" or (text.endswith("\n") and not text.endswith("\n\n")), f"{path}: how it ends"
        assert not re.search(r"[ \t\r]$", text, re.MULTILINE), f"{path}: blanks at the end of a line"
        assert "\t" not in text or path.name == "Makefile", f"{path}: tabs"
        assert "\n\n\n" not in text or path.suffix == ".py", f"{path}: two empty lines"
        assert not text.startswith("\n"), f"{path}: begins with an empty line"


def test_python_is_formatted_and_has_no_faults(rendered: Rendered) -> None:
    clean("ruff", "format", "--no-cache", "--check", "--diff", rendered.folder)
    clean("ruff", "check", "--no-cache", rendered.folder)


def test_types_are_strict(rendered: Rendered, tmp_path: Path) -> None:
    sources = {source_of(project): project for project in rendered.projects.values()}
    assert len(COMBINATIONS) <= len(sources) <= 2 * len(COMBINATIONS)
    for project in sources.values():
        assert tomllib.loads((project / "pyproject.toml").read_text())["tool"]["mypy"]["strict"] is True
        clean("mypy", "--cache-dir", tmp_path / "cache", at=project, env={"MYPYPATH": "src"})


def test_yaml_is_plain(rendered: Rendered) -> None:
    files = [path for path in rendered.files("**/*.yaml", "**/*.yml") if not is_chart_template(path)]
    assert {"values.yaml", "Chart.yaml", "compose.yaml", "ci.yml", ".copier-answers.yml"} <= {x.name for x in files}
    for path in files:
        assert isinstance(yaml.safe_load(path.read_text()), dict), path
    clean("yamllint", "--strict", "--config-data", YAML_RULES, *files)


def test_toml_and_json_have_the_expected_values(rendered: Rendered) -> None:
    for path in rendered.files("pyproject.toml"):
        project = tomllib.loads(path.read_text())["project"]
        assert project["name"] == "garden_service"
        if "license" in project:
            assert canonicalize_license_expression(project["license"]) == project["license"]
        for requirement in project["dependencies"]:
            Requirement(requirement)
    for path in rendered.files("**/*.json"):
        json.loads(path.read_text())
        clean("check-jsonschema", "--check-metaschema", path)


def test_dockerfiles_have_no_faults(rendered: Rendered) -> None:
    files = rendered.files("Dockerfile")
    assert len(files) > 1
    clean("hadolint", "--failure-threshold", "style", *files, REPOSITORY / "Dockerfile.base")


def test_compose_files_fit_their_schema(rendered: Rendered) -> None:
    clean("check-jsonschema", "--builtin-schema", "vendor.compose-spec", *rendered.files("compose.yaml"))


def test_workflows_fit_their_schema_and_expose_no_secret(rendered: Rendered, tmp_path: Path) -> None:
    # GitHub's own registry has a login step of its own.
    on_github = copy_project(rendered.template, tmp_path / "service", image_registry="ghcr.io/org")
    places = [REPOSITORY / ".github" / "workflows", on_github / ".github" / "workflows"]
    files = distinct([*rendered.files(".github/workflows/*"), *(path for place in places for path in place.iterdir())])
    assert len(files) >= 6
    clean("check-jsonschema", "--builtin-schema", "vendor.github-workflows", *files)
    dependabot = REPOSITORY / ".github" / "dependabot.yml"
    clean("check-jsonschema", "--builtin-schema", "vendor.dependabot", dependabot)
    clean("zizmor", "--offline", "--no-progress", *files, dependabot)


def test_makefiles_can_be_read(rendered: Rendered) -> None:
    for path in rendered.files("Makefile"):
        done = subprocess.run(["make", "help"], cwd=path.parent, capture_output=True, text=True)
        assert done.returncode == 0, f"{path}: {done.stderr}"
        assert "check" in done.stdout


def test_charts_pass_helms_own_lint(rendered: Rendered) -> None:
    helm = pytest.importorskip("helm_python", reason=f"Helm's library is not made for {platform.machine()}")
    for chart in one_of_each(project / "helm" / "garden-service" for project in rendered.projects.values()):
        said = helm.lint(str(chart), strict=True)
        assert not said["errors"], (chart, said)
        assert all(word["severity"] <= INFORMATION for word in said["messages"]), (chart, said)


def test_this_repositorys_own_yaml_is_plain() -> None:
    listed = subprocess.run(["git", "ls-files", "*.yml", "*.yaml"], cwd=REPOSITORY, capture_output=True, text=True)
    names = [name for name in listed.stdout.split("\n") if name and not is_chart_template(Path(name))]
    files = [name for name in names if not name.startswith("template/")]
    assert {"copier.yml", ".github/workflows/ci.yml", "helm/daebus/defaults.yaml"} <= set(files)
    clean("yamllint", "--strict", "--config-data", YAML_RULES, *files, at=REPOSITORY)


FAULTS: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "format": ("src/garden_service/bad.py", "x = 'one'\n", ("ruff", "format", "--no-cache", "--check")),
    "lint": ("src/garden_service/bad.py", "import os\n", ("ruff", "check", "--no-cache")),
    "types": ("src/garden_service/bad.py", "def f(x):\n    return x\n", ("mypy", "--strict")),
    "YAML": ("bad.yaml", "a:   1\na: 2\n", ("yamllint", "--strict", "--config-data", YAML_RULES)),
    "Dockerfile": ("Dockerfile", "FROM debian\nRUN cd /tmp\n", ("hadolint", "--failure-threshold", "style")),
    "compose": (
        "compose.yaml",
        "services: {bus: {imgae: valkey}}\n",
        ("check-jsonschema", "--builtin-schema", "vendor.compose-spec"),
    ),
    "workflow": (
        ".github/workflows/bad.yml",
        "on: push\njobs: {one: {runs-on: ubuntu-24.04, stpes: []}}\n",
        ("check-jsonschema", "--builtin-schema", "vendor.github-workflows"),
    ),
    "rights": (
        ".github/workflows/bad.yml",
        "on: push\njobs: {one: {runs-on: ubuntu-24.04, steps: [{uses: actions/checkout@v6}]}}\n",
        ("zizmor", "--offline", "--no-progress"),
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_found(tmp_path: Path, fault: str) -> None:
    name, text, words = FAULTS[fault]
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    with pytest.raises(AssertionError, match=re.escape(path.name)):
        clean(*words, path, at=tmp_path)


def clean(tool: str, *words: str | Path, at: Path | None = None, env: dict[str, str] | None = None) -> None:
    """Runs a tool of this environment; its findings are the text of the failure."""
    program = Path(sys.executable).with_name(tool)
    if not program.exists():
        assert sys.platform == "win32", f"{tool} is missing: run `make environment`"
        pytest.skip(f"{tool} is not made for {sys.platform}")
    done = subprocess.run(
        [program, *words],
        cwd=at,
        env={**os.environ, "NO_COLOR": "1", **(env or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == 0, f"{tool} {words[0]} ended with {done.returncode}:\n{done.stdout}"


def is_chart_template(path: Path) -> bool:
    """Whether Helm renders the file, so that it is not YAML yet."""
    return "templates" in path.parts


def distinct(paths: Iterable[Path]) -> list[Path]:
    """Of files with the same name and text, the first."""
    first: dict[tuple[str, bytes], Path] = {}
    for path in paths:
        first.setdefault((path.name, path.read_bytes()), path)
    return list(first.values())


def one_of_each(folders: Iterable[Path]) -> list[Path]:
    """Of folders with the same content, the first."""
    first: dict[str, Path] = {}
    for folder in folders:
        first.setdefault(digest(folder, folder.rglob("*")), folder)
    return list(first.values())


def source_of(project: Path) -> str:
    """A key that is equal for projects with the same Python code."""
    return digest(project, project.rglob("*.py"))


def digest(folder: Path, paths: Iterable[Path]) -> str:
    state = hashlib.sha256()
    for path in sorted(path for path in paths if path.is_file()):
        state.update(f"{path.relative_to(folder)}\0".encode() + path.read_bytes() + b"\0")
    return state.hexdigest()
