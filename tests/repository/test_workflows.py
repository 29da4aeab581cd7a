"""The workflows of this repository and of a generated one: actions are pinned by commit, no job has more rights than it
needs, and their shell scripts are run here in a shell.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import pytest
import yaml

from scripts.snapshot import git
from tests.template.rendering import copy_project, plain_template
from tests.template.updating import commit_all

REPOSITORY = Path(__file__).resolve().parents[2]
OWN = REPOSITORY / ".github" / "workflows"
VERSION = tomllib.loads((REPOSITORY / "runtime" / "pyproject.toml").read_text())["project"]["version"]
# The registry that a generated repository pushes to: none, GitHub's, another one.
REGISTRIES = {"generated": "", "generated-github": "ghcr.io/org", "generated-elsewhere": "registry.local:5000/team"}
GENERATED = [*REGISTRIES, "generated-update"]
WORKFLOWS = [*sorted(path.name for path in OWN.glob("*.yml")), *GENERATED]

Job = dict[str, Any]


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The text of every workflow, by its name in WORKFLOWS."""
    folder = tmp_path_factory.mktemp("workflows")
    template = plain_template(folder / "template")
    found = {path.name: path.read_text() for path in OWN.iterdir()}
    for name, registry in REGISTRIES.items():
        project = copy_project(template, folder / name, service_name="my_service", image_registry=registry)
        workflows = project / ".github" / "workflows"
        found[name] = (workflows / "ci.yml").read_text()
        found["generated-update"] = (workflows / "update.yml").read_text()
    return found


@pytest.fixture(scope="module")
def jobs(texts: dict[str, str]) -> dict[str, dict[str, Job]]:
    return {name: yaml.safe_load(text)["jobs"] for name, text in texts.items()}


@pytest.mark.parametrize("workflow", WORKFLOWS)
def test_actions_are_pinned(texts: dict[str, str], workflow: str) -> None:
    text = texts[workflow]
    for action in re.findall(r"uses: (.+)", text):
        local = re.match(r"[.]/[.]github/workflows/([\w-]+[.]yml) ", action)
        assert (OWN / local[1]).is_file() if local else re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40} # v[\d.]+", action)
    assert text.count("persist-credentials: false") == text.count("uses: actions/checkout@")
    for image in re.findall(r"kindest/node:\S+", text):
        assert re.fullmatch(r"kindest/node:v[\d.]+@sha256:[0-9a-f]{64}", image)


def test_an_action_has_one_version_everywhere(texts: dict[str, str]) -> None:
    used = {tuple(pin) for text in texts.values() for pin in re.findall(r"uses: ([\w-]+/[\w-]+)@(.+)", text)}
    assert len(used) == len({action for action, _ in used})


@pytest.mark.parametrize("workflow", WORKFLOWS)
def test_rights_are_given_to_each_job_alone(
    texts: dict[str, str], jobs: dict[str, dict[str, Job]], workflow: str
) -> None:
    assert yaml.safe_load(texts[workflow])["permissions"] == {}
    for name, job in jobs[workflow].items():
        if steps(job):
            assert 0 < job["timeout-minutes"] <= 45, name
        for right, kind in job.get("permissions", {}).items():
            assert kind == "write" or (right, kind) == ("contents", "read"), name
            assert right in {"contents", "packages", "pull-requests"}, name
        # Only a job that releases, after the tests, may write, and the one that proposes an update of the template.
        if "write" in job.get("permissions", {}).values() and workflow != "generated-update":
            before = all_needed(jobs[workflow], name)
            assert before >= ({"version", "test"} if workflow == "release.yml" else {"check", "image"}), name
            assert workflow == "release.yml" or job["if"] == "startsWith(github.ref, 'refs/tags/v')", name


@pytest.mark.parametrize("workflow", WORKFLOWS)
def test_no_expression_is_expanded_inside_a_shell_script(jobs: dict[str, dict[str, Job]], workflow: str) -> None:
    for job in jobs[workflow].values():
        for step in steps(job):
            assert step["name"] == step["name"].lower()
            script = step.get("run", "")
            assert "${{" not in script, "a value that came from outside would be run"
            assert not re.search(r"https?://|--index|--extra-index", script)
            assert subprocess.run(["bash", "-n", "-c", script], capture_output=True).returncode == 0, script


@pytest.mark.parametrize("workflow", WORKFLOWS)
def test_its_make_targets_exist(jobs: dict[str, dict[str, Job]], workflow: str) -> None:
    makefile = REPOSITORY / ("template/Makefile.jinja" if workflow in GENERATED else "Makefile")
    there = set(re.findall(r"^([a-z-]+):", makefile.read_text(), re.MULTILINE))
    for name, job in jobs[workflow].items():
        if name != "generated":  # the next test checks it
            wanted = set(re.findall(r"(?:^|&& )make ([a-z-]+)", "\n".join(scripts(job)), re.MULTILINE))
            assert wanted <= there, name


def test_a_generated_repository_is_tested_with_its_own_commands(jobs: dict[str, dict[str, Job]]) -> None:
    tried = jobs["ci.yml"]["generated"]
    own = [script for job in jobs["generated"].values() for script in scripts(job)]
    assert len(own) >= 5
    assert scripts(tried)[1:] == own
    assert "copier copy" in scripts(tried)[0]


def test_one_check_depends_on_all_others(jobs: dict[str, dict[str, Job]], tmp_path: Path) -> None:
    last = jobs["ci.yml"]["pass"]
    assert set(last["needs"]) == set(jobs["ci.yml"]) - {"pass"}
    assert last["if"] == "always()"
    [script] = scripts(last)
    assert shell(script, tmp_path, RESULTS="success success").returncode == 0
    for results in ("success failure", "cancelled success", "skipped"):
        assert shell(script, tmp_path, RESULTS=results).returncode == 1, results


def test_a_release_is_a_new_version_from_main(jobs: dict[str, dict[str, Job]], tmp_path: Path) -> None:
    [script] = scripts(jobs["release.yml"]["version"])
    tree = tmp_path / "tree"
    (tree / "runtime").mkdir(parents=True)
    for name in ("runtime/pyproject.toml", "CHANGELOG.md"):
        shutil.copy(REPOSITORY / name, tree / name)
    commit_all(tree, "as it is")
    on_main = {"MAIN": "main", "GITHUB_REF": "refs/heads/main", "GITHUB_OUTPUT": str(tmp_path / "output")}
    assert shell(script, tree, **on_main).returncode == 0
    assert (tmp_path / "output").read_text() == f"tag=v{VERSION}\n"
    for ref in ("refs/heads/mine", f"refs/tags/v{VERSION}", "refs/heads/main2"):
        assert "releases are made from main" in shell(script, tree, **on_main | {"GITHUB_REF": ref}).stdout, ref
    git("tag", f"v{VERSION}", at=tree)
    assert f"v{VERSION} was released" in shell(script, tree, **on_main).stdout
    git("tag", "--delete", f"v{VERSION}", at=tree)
    (tree / "CHANGELOG.md").write_text(f"# Changelog\n\n## {VERSION}1, 2030-01-01\n\n* Another.\n")
    refused = shell(script, tree, **on_main)
    assert (refused.returncode, refused.stdout.strip()) == (1, f"::error::CHANGELOG.md says nothing of {VERSION}.")


def test_a_tag_is_made_after_everything_else(texts: dict[str, str], jobs: dict[str, dict[str, Job]]) -> None:
    """Copier takes the newest tag for a release at once, so the last step of all makes it."""
    text = texts["release.yml"]
    assert list(yaml.load(text, yaml.BaseLoader)["on"]) == ["workflow_dispatch"]
    assert all_needed(jobs["release.yml"], "release") == set(jobs["release.yml"]) - {"release"}
    last = scripts(jobs["release.yml"]["release"])[-1]
    assert re.search(r'gh release create "\$TAG" .* --target "\$GITHUB_SHA"', last)
    assert text.count("gh release create") == 1
    assert not re.search("GITHUB_REF_NAME|git tag|git push", text)


def test_every_chart_is_released(jobs: dict[str, dict[str, Job]]) -> None:
    charts = {str(path.parent.relative_to(REPOSITORY)) for path in REPOSITORY.glob("helm/*/Chart.yaml")}
    for job in ("charts", "release"):
        [words] = re.findall(r"helm package .*", "\n".join(scripts(jobs["release.yml"][job])))
        assert {word for word in words.split() if word.startswith("helm/")} == charts


def test_both_architectures_are_built_and_joined(jobs: dict[str, dict[str, Job]]) -> None:
    machines = {
        row["architecture"]: row["machine"] for row in jobs["release.yml"]["base"]["strategy"]["matrix"]["include"]
    }
    assert machines == {"amd64": "ubuntu-24.04", "arm64": "ubuntu-24.04-arm"}
    assert set(jobs["ci.yml"]["image"]["strategy"]["matrix"]["machine"]) == set(machines.values())
    [join] = [script for script in scripts(jobs["release.yml"]["image"]) if "imagetools" in script]
    for architecture in machines:
        assert f'"$image-{architecture}"' in join


def test_a_releases_notes_are_its_part_of_the_changelog(jobs: dict[str, dict[str, Job]], tmp_path: Path) -> None:
    [script] = [script for script in scripts(jobs["release.yml"]["release"]) if "awk" in script]
    (tmp_path / "build").mkdir()
    newer = "# Changelog\n\n## 2.0.0, 2030-02-01\n\n* New.\n\n## 1.0.0, 2030-01-01\n\n### Added\n\n* Old.\n"
    (tmp_path / "CHANGELOG.md").write_text(newer)
    for tag, notes in (("v2.0.0", "* New."), ("v1.0.0", "### Added\n\n* Old.")):
        assert shell(script, tmp_path, TAG=tag).returncode == 0
        assert (tmp_path / "build" / "notes.md").read_text().strip() == notes
    assert shell(script, tmp_path, TAG="v3.0.0").returncode != 0, "a release that nobody wrote down"
    shutil.copy(REPOSITORY / "CHANGELOG.md", tmp_path)
    assert shell(script, tmp_path, TAG=f"v{VERSION}").returncode == 0


@pytest.mark.slow
def test_the_released_wheel_holds_the_runtime(jobs: dict[str, dict[str, Job]], tmp_path: Path) -> None:
    [script] = [script for script in scripts(jobs["release.yml"]["release"]) if "pip wheel" in script]
    for name in ("requirements", "runtime"):
        shutil.copytree(REPOSITORY / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    done = shell(script, tmp_path)
    assert done.returncode == 0, done.stdout
    released = {path.name: path for path in (tmp_path / "build" / "release").iterdir()}
    assert set(released) == {f"daebus_runtime-{VERSION}-py3-none-any.whl", "constraints.txt"}
    with zipfile.ZipFile(released.pop(f"daebus_runtime-{VERSION}-py3-none-any.whl")) as wheel:
        assert {"daebus_runtime/__init__.py", "daebus_runtime/constraints.txt", "daebus/__init__.py"} <= set(
            wheel.namelist()
        )


def steps(job: Job) -> list[dict[str, Any]]:
    """The steps of a job; none when the job calls another workflow."""
    return list(job.get("steps", []))


def scripts(job: Job) -> list[str]:
    return [step["run"] for step in steps(job) if "run" in step]


def all_needed(jobs: dict[str, Job], name: str) -> set[str]:
    """Every job that must succeed before this one, directly or not."""
    wanted = jobs[name].get("needs", [])
    direct = {wanted} if isinstance(wanted, str) else set(wanted)
    return direct.union(*(all_needed(jobs, other) for other in direct))


def shell(script: str, folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Runs a step's script as GitHub's runner does; its whole output is in `.stdout`."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        ["bash", "--noprofile", "--norc", "-e", "-c", script],
        cwd=folder,
        env={**os.environ, "PATH": path, **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
