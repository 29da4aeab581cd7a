"""Everything has one version, the locks match the declared requirements, the scripts can be run."""

from __future__ import annotations

import re
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

REPOSITORY = Path(__file__).resolve().parents[2]
REQUIREMENTS = REPOSITORY / "requirements"
# The image's lock is part of the runtime's package, so that a service can resolve its own requirements against it.
LOCKS = {
    "runtime": REPOSITORY / "runtime" / "daebus_runtime" / "constraints.txt",
    "dev": REQUIREMENTS / "dev.txt",
    "build": REQUIREMENTS / "build.txt",
}
PROJECT = tomllib.loads((REPOSITORY / "runtime" / "pyproject.toml").read_text())["project"]


def test_one_version_for_runtime_charts_and_image() -> None:
    import daebus_runtime

    charts = [
        yaml.safe_load((REPOSITORY / "helm" / name / "Chart.yaml").read_text()) for name in ("daebus", "daebus-bus")
    ]
    of_charts = {chart[field] for chart in charts for field in ("version", "appVersion")}
    generated = (REPOSITORY / "template" / "helm" / "{{ chart_name }}" / "Chart.yaml.jinja").read_text()
    library = (REPOSITORY / "helm" / "daebus" / "templates" / "_values.tpl").read_text()
    of_charts.add(library.partition('define "daebus.version" -}}\n')[2].partition("\n")[0])
    of_charts |= {needed["version"] for chart in charts for needed in chart.get("dependencies", [])}
    asked_for = set(re.findall(r"- name: daebus\n\s+version: (\S+)", generated))
    assert {PROJECT["version"], daebus_runtime.__version__} | of_charts | asked_for == {PROJECT["version"]}
    assert len(asked_for) == 1
    newest = re.search(r"^## (\S+?),? ", (REPOSITORY / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert newest is not None
    assert newest[1] == PROJECT["version"]


@pytest.mark.parametrize("lock", LOCKS)
def test_every_locked_requirement_has_one_version_and_hashes(lock: str) -> None:
    text = LOCKS[lock].read_text()
    entries = re.split(r"\n(?=[^\s#])", text)[1:]
    assert len(entries) == len(locked(lock)) > 0
    for entry in entries:
        assert re.match(r"[a-z0-9-]+==\S+ ", entry), entry.splitlines()[0]
        assert "--hash=sha256:" in entry, entry.splitlines()[0]


def test_the_locks_match_what_the_runtime_declares() -> None:
    declared = [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["fast"]]
    declared += PROJECT["optional-dependencies"]["embedded"]
    for text in declared:
        requirement = Requirement(text)
        assert requirement.specifier.contains(locked("runtime")[requirement.name]), text


def test_the_tests_run_with_the_versions_that_are_shipped() -> None:
    tested = locked("dev")
    assert {name: tested.get(name) for name in locked("runtime")} == locked("runtime")
    assert {name: tested.get(name) for name in locked("build")} == locked("build")


def test_no_lock_names_a_host() -> None:
    for lock in [*REQUIREMENTS.iterdir(), LOCKS["runtime"]]:
        assert not re.search(r"https?:|--index|--find-links|--trusted-host", lock.read_text()), lock.name


@pytest.mark.parametrize("script", [".ci/run", ".ci/offline-images", ".ci/offline-cluster", ".ci/cluster-tests"])
def test_scripts_can_be_run(script: str) -> None:
    mode = subprocess.run(
        ["git", "ls-files", "--stage", script], cwd=REPOSITORY, capture_output=True, text=True, check=True
    ).stdout
    assert mode.startswith("100755")
    assert subprocess.run(["bash", "-n", REPOSITORY / script]).returncode == 0


def locked(lock: str) -> dict[str, str]:
    """Name and version of every package in a lock."""
    return dict(re.findall(r"^([a-z0-9-]+)==(\S+)", LOCKS[lock].read_text(), re.MULTILINE))
