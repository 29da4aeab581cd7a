"""What Dependabot and Renovate are told: it fits their schemas, and they leave alone what moves with the template."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.template.rendering import REPOSITORY, copy_project
from tests.template.test_clean import clean
from tests.template.test_generated_repository import make_check
from tests.template.updating import commit_all

KINDS = {"github": ".github/dependabot.yml", "renovate": "renovate.json"}
SCHEMAS = {"github": "vendor.dependabot", "renovate": "vendor.renovate"}
each_kind = pytest.mark.parametrize("bots", KINDS)


@pytest.fixture(scope="module")
def projects(plain: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("bots")
    return {
        bots: copy_project(plain, folder / bots, service_name="my_service", bots=bots, image_registry="ghcr.io/org")
        for bots in KINDS
    }


def settings(project: Path, bots: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((project / KINDS[bots]).read_text())  # JSON is YAML
    return found


def left_alone(project: Path, bots: str) -> set[str]:
    if bots == "github":
        return {
            ignored["dependency-name"]
            for update in settings(project, bots)["updates"]
            for ignored in update.get("ignore", [])
        }
    off = [rule for rule in settings(project, bots)["packageRules"] if rule["enabled"] is False]
    return {name for rule in off for name in rule.get("matchPackageNames", [])}


@each_kind
def test_it_fits_the_bots_schema(projects: dict[str, Path], bots: str) -> None:
    clean("check-jsonschema", "--builtin-schema", SCHEMAS[bots], projects[bots] / KINDS[bots])


@pytest.mark.parametrize(
    ("bots", "good", "bad"),
    [("github", "directory: /\n", "drectory: /\n"), ("renovate", '"automerge": false', '"automerge": "no"')],
)
def test_what_is_wrong_in_it_does_not(
    projects: dict[str, Path], tmp_path: Path, bots: str, good: str, bad: str
) -> None:
    text = (projects[bots] / KINDS[bots]).read_text()
    assert good in text
    path = tmp_path / Path(KINDS[bots]).name
    path.write_text(text.replace(good, bad))
    with pytest.raises(AssertionError, match=bad.strip('"').split('"')[0].split(":")[0]):
        clean("check-jsonschema", "--builtin-schema", SCHEMAS[bots], path)


@each_kind
def test_every_action_and_tool_of_the_template_is_left_alone(projects: dict[str, Path], bots: str) -> None:
    workflows = (projects[bots] / ".github" / "workflows").iterdir()
    used = {action for path in workflows for action in re.findall(r"uses: ([\w-]+/[\w-]+)@", path.read_text())}
    tools = set(re.findall(r"^([a-z][\w-]*)", (projects[bots] / "requirements" / "dev.txt").read_text(), re.MULTILINE))
    assert len(used) >= 2
    assert {"mypy", "pytest", "ruff"} <= tools
    assert used | tools <= left_alone(projects[bots], bots)


@each_kind
def test_a_dependency_is_raised_where_the_check_stays_green(projects: dict[str, Path], bots: str) -> None:
    """In the lock alone. `dependencies` are what the lock is for: after a change of them only `make lock` helps."""
    told = settings(projects[bots], bots)
    if bots == "github":
        places = [update["directory"] for update in told["updates"] if update["package-ecosystem"] == "pip"]
        assert places == ["/requirements"]
    else:
        off = [rule["matchManagers"] for rule in told["packageRules"] if rule.keys() & {"matchManagers"}]
        assert ["pep621"] in off
        [pattern] = told["pip_requirements"]["managerFilePatterns"]
        assert re.search(pattern.strip("/"), "requirements/service.txt")
    lock = projects[bots] / "requirements" / "service.txt"
    lock.write_text(re.sub(r"\A", "pyserial==3.6 --hash=sha256:00\n", lock.read_text()))
    done = make_locked(projects[bots])
    assert (done.returncode, done.stdout) == (0, "fits\n"), done.stderr
    about = projects[bots] / "pyproject.toml"
    about.write_text(about.read_text().replace("dependencies = []", 'dependencies = ["pyserial>=3.6"]'))
    done = make_locked(projects[bots])
    assert "run 'make lock'" in done.stderr


@pytest.mark.long
def test_a_bots_change_of_the_lock_passes_the_whole_check(repository: Path, tmp_path: Path) -> None:
    """As both bots do it: another version with its hashes in requirements/service.txt, and nothing else."""
    project = commit_all(copy_project(repository, tmp_path / "service"), "made")
    about = project / "pyproject.toml"
    about.write_text(about.read_text().replace("dependencies = []", 'dependencies = ["pyserial>=3.4"]'))
    uv = f"UV={Path(sys.executable).with_name('uv')}"
    words = ["make", "--silent", "lock", f"PYTHON={sys.executable}", uv]
    locks = []
    for upgrade in ("--upgrade-package pyserial==3.4", "--upgrade-package pyserial==3.5"):
        subprocess.run([*words, f"UPGRADE={upgrade}"], cwd=project, check=True)
        locks.append((project / "requirements" / "service.txt").read_text())
    old, new = (re.search(r"^pyserial==.*?\n(?=\S)", lock, re.MULTILINE | re.DOTALL) for lock in locks)
    assert old is not None
    assert new is not None
    assert old[0] != new[0]
    (project / "requirements" / "service.txt").write_text(locks[0].replace(old[0], new[0]))
    assert " passed" in make_check(project, uv)


def make_locked(project: Path) -> subprocess.CompletedProcess[str]:
    """Runs the part of `make check` that compares the lock with the dependencies."""
    words = ["make", "--silent", "--file", "Makefile", "--file", "-", "lock-fits"]
    return subprocess.run(
        words, cwd=project, input="lock-fits:\n\t@$(LOCKED)\n\t@echo fits\n", capture_output=True, text=True
    )


def test_what_the_template_pins_stands_once() -> None:
    """In copier.yml, so that raising it changes one line and no file of a service is forgotten."""
    questions = yaml.safe_load((REPOSITORY / "copier.yml").read_text())
    pins = {name: question["default"] for name, question in questions.items() if name.startswith("pin_")}
    chart = yaml.safe_load((REPOSITORY / "helm" / "daebus" / "defaults.yaml").read_text())
    files = [path for path in (REPOSITORY / "template").rglob("*") if path.suffix == ".jinja"]
    sources = {path.name: path.read_text() for path in files}
    assert pins["pin_bus"] == chart["bus"]["sidecar"]["image"]
    for name, text in sources.items():
        assert not re.search(r"@[0-9a-f]{40}", text), name
        assert pins["pin_bus"].partition(":")[0] + ":" not in text, name
    assert {name for name in pins if f"{{{{ {name} }}}}" in "".join(sources.values())} == set(pins)


@each_kind
def test_a_service_has_each_pin(projects: dict[str, Path], bots: str) -> None:
    versions: dict[str, set[str]] = {}
    for path in (projects[bots] / ".github" / "workflows").iterdir():
        for action, version in re.findall(r"uses: ([\w/-]+)@([0-9a-f]{40} # v[\d.]+)$", path.read_text(), re.MULTILINE):
            versions.setdefault(action, set()).add(version)
    assert {action: len(found) for action, found in versions.items()} == {
        "actions/checkout": 1,
        "actions/setup-python": 1,
    }
