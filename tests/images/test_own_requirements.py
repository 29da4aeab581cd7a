"""A service's own requirements: locked with the base's lock as constraints, installed beside the base's packages."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.docker import Container, Generated, docker, unique, versions

pytestmark = [pytest.mark.slow, pytest.mark.docker]
# A small package that needs `packaging`, which the base holds for gunicorn.
REQUIREMENT = "deprecation>=2.1,<3"


def files(image: str) -> dict[str, list[float | str]]:
    """Every file in the image's environment with its time and its content's checksum."""
    program = (
        "import hashlib, json, os, pathlib, sysconfig;"
        "root = pathlib.Path(sysconfig.get_path('purelib'));"
        "found = {str(p.relative_to(root)): [p.stat().st_mtime, hashlib.sha256(p.read_bytes()).hexdigest()]"
        " for p in root.rglob('*') if p.is_file()};"
        "print(json.dumps(found))"
    )
    found: dict[str, list[float | str]] = json.loads(docker("run", "--rm", image, "python", "-c", program))
    return found


@pytest.fixture(scope="module")
def needy(service: Generated, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Generated]:
    """The same service with a requirement of its own, locked and built."""
    project = shutil.copytree(service.project, tmp_path_factory.mktemp("needy") / "cold_store")
    needy = replace(service, project=project, image=f"test.invalid/{unique('needy')}")
    settings = project / "pyproject.toml"
    settings.write_text(settings.read_text().replace("dependencies = []", f'dependencies = [\n    "{REQUIREMENT}",\n]'))
    app = project / "src" / "cold_store" / "app.py"
    app.write_text(app.read_text().replace("from daebus_runtime", "import deprecation\nfrom daebus_runtime", 1))
    needy.make("lock")
    needy.make("image", IMAGE=needy.image)
    yield needy
    needy.remove_image()


def test_the_lock_has_the_bases_versions_and_only_what_the_service_needs(needy: Generated) -> None:
    lock = (needy.project / "requirements" / "service.txt").read_text()
    base = versions(needy.base)
    assert dict(re.findall(r"^([a-z0-9-]+)==(\S+)", lock, re.MULTILINE)).keys() == {"deprecation", "packaging"}
    assert f"packaging=={base['packaging']} " in lock
    assert "--hash=sha256:" in lock
    assert "://" not in lock  # no address of a package registry


def test_an_older_version_in_the_base_is_the_one_that_is_locked(needy: Generated, tmp_path: Path) -> None:
    """Even when the newest versions are requested."""
    constraints = needy.project / ".venv" / "constraints.txt"
    project = shutil.copytree(needy.project, tmp_path / "cold_store", ignore=shutil.ignore_patterns(".venv"))
    text = constraints.read_text()
    try:
        constraints.write_text("packaging==25.0\n")
        replace(needy, project=project).make("lock", f"VENV={needy.project / '.venv'}", "UPGRADE=--upgrade")
    finally:
        constraints.write_text(text)
    assert "packaging==25.0 " in (project / "requirements" / "service.txt").read_text()


def test_the_packages_of_the_base_stay_unchanged(needy: Generated) -> None:
    """No byte and no time of a file changes: no package of the base is installed again, not even the runtime."""
    before, after = files(needy.base), files(f"{needy.image}:latest")
    assert {name for name, state in before.items() if after.get(name) != state} == set()
    added = {Path(name).parts[0] for name in after.keys() - before.keys()}
    assert {part.partition("-")[0] for part in added} == {"deprecation.py", "deprecation", "__pycache__"}
    assert versions(f"{needy.image}:latest").items() - versions(needy.base).items() == {("deprecation", "2.1.0")}


def test_the_service_runs_with_it(needy: Generated, start: Callable[..., Container]) -> None:
    container = start(f"{needy.image}:latest")
    container.wait_ready()
    watered = json.loads(container.run("daebus", "call", "cold_store", "water", '{"plant": "mint"}'))
    assert 60 < watered["moisture"] <= 70  # it dries a little every ten seconds


def test_a_lock_for_another_base_is_refused_with_the_cure(needy: Generated, tmp_path: Path) -> None:
    """Otherwise its versions would replace those that the runtime was tested with."""
    project = shutil.copytree(needy.project, tmp_path / "cold_store", ignore=shutil.ignore_patterns(".venv"))
    lock = project / "requirements" / "service.txt"
    lock.write_text(re.sub(r"^packaging==\S+", "packaging==25.0", lock.read_text(), flags=re.MULTILINE))
    said = replace(needy, project=project).make("image", check=False, IMAGE=needy.image)
    assert "the base has moved on: run 'make lock'" in said
    assert re.search(r"The user requested \(constraint\) packaging==\S+", said), said


def test_the_environment_for_development_has_it_too(needy: Generated) -> None:
    needy.make("install")
    program = "import deprecation, packaging, daebus_runtime, cold_store; print(packaging.__version__)"
    python = needy.project / ".venv" / "bin" / "python"
    assert subprocess.check_output([python, "-c", program], text=True).strip() == versions(needy.base)["packaging"]
