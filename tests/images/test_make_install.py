"""`make install`: which Python is taken, who installs, and when the environment is made anew."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.images.recorder import Recorder, copied
from tests.support.docker import Generated


def environment_of(generated: Generated, recorder: Callable[..., Recorder]) -> Recorder:
    """Puts a recorder into the place of Python, in the environment too."""
    python = recorder("python")
    folder = generated.project / ".venv" / "bin"
    folder.mkdir(parents=True)
    (folder / "python").symlink_to(python.path)
    (folder.parent / "made-with").touch()  # what the recorder answers when it is asked which Python it is
    return python


@pytest.mark.parametrize("target", ["image", "install"])
@pytest.mark.parametrize("dependencies", ['["cligj"]', '[\n    "cligj",\n]', '[\n    "a[b]",\n    "cligj"\n]'])
def test_dependencies_that_are_missing_in_the_lock_are_reported(
    generated: Generated, tmp_path: Path, recorder: Callable[..., Recorder], dependencies: str, target: str
) -> None:
    generated, docker = copied(generated, tmp_path), recorder("docker")
    settings = generated.project / "pyproject.toml"
    settings.write_text(settings.read_text().replace("dependencies = []", f"dependencies = {dependencies}"))
    python = environment_of(generated, recorder)
    (generated.project / ".venv" / "tools").touch()  # as if the tools were installed
    said = generated.make(target, check=False, DOCKER=str(docker.path), PYTHON=str(python.path))
    assert "requirements/service.txt is not for the dependencies that pyproject.toml has: run 'make lock'." in said
    assert not any(call.startswith("build") for call in docker.calls)


def test_install_puts_the_service_on_its_locked_requirements(
    generated: Generated, tmp_path: Path, recorder: Callable[..., Recorder]
) -> None:
    """The runtime of another commit has the same version and would be kept, so the environment is created again."""
    generated = copied(generated, tmp_path)
    python = environment_of(generated, recorder)
    generated.make("install", PYTHON=str(python.path), UV="")
    pip = "-m pip --disable-pip-version-check"
    locks = "--requirement .venv/constraints.txt --requirement requirements/service.txt"
    assert [
        call for call in python.calls if not call.startswith(("-c import sys;", "-m ensurepip")) and call != "-c "
    ] == [
        "-m venv --clear --without-pip .venv",
        f"{pip} install --quiet --no-deps --requirement requirements/dev.txt",
        # The place of the base's lock: the recorder prints nothing.
        '-c import daebus_runtime as d; print(d.__path__[0] + "/constraints.txt")',
        f"{pip} install --quiet --require-hashes {locks}",
        f"{pip} install --quiet --requirement requirements/dev.txt",
        f"{pip} install --quiet --no-deps --editable .",
    ]
    assert "-m ensurepip --default-pip" in python.calls
    before = len(python.calls)
    generated.make("install", PYTHON=str(python.path))
    assert all(call.startswith("-c ") for call in python.calls[before:]), "nothing has changed"


@pytest.mark.parametrize(("settings", "expected"), [({}, True), ({"PIP_INDEX_URL": "https://mirror.test/"}, False)])
def test_uv_installs_where_pip_has_no_settings_that_it_would_not_read(
    generated: Generated,
    tmp_path: Path,
    recorder: Callable[..., Recorder],
    monkeypatch: pytest.MonkeyPatch,
    settings: dict[str, str],
    expected: bool,
) -> None:
    generated, uv = copied(generated, tmp_path), recorder("uv")
    python = environment_of(generated, recorder)
    uv.path.write_text(uv.path.read_text() + "echo 'uv 0.13.9'\n")
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    for name, value in {"HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path), **settings}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PATH", f"{uv.path.parent}:{os.environ['PATH']}")
    generated.make("install", PYTHON=str(python.path))
    assert ("pip install --quiet --requirement requirements/dev.txt" in uv.calls) is expected
    assert any("-m pip" in call for call in python.calls) is not expected


def test_uv_is_fetched_by_its_hash_where_there_is_none(
    generated: Generated, tmp_path: Path, recorder: Callable[..., Recorder], monkeypatch: pytest.MonkeyPatch
) -> None:
    """And pip installs where that fails: the recorder in Python's place fetches nothing."""
    generated, other = copied(generated, tmp_path), recorder("uv")  # a program of this name that is not uv
    python = environment_of(generated, recorder)
    for name in [name for name in os.environ if name.startswith(("PIP_", "UV_"))]:
        monkeypatch.delenv(name)
    for name, value in {"HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path)}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PATH", f"{other.path.parent}:{os.environ['PATH']}")
    said = generated.make("install", PYTHON=str(python.path))
    fetched = [call for call in python.calls if call.endswith("--require-hashes --requirement .venv/uv.txt")]
    assert len(fetched) == 1, python.calls
    assert "--no-deps --only-binary uv" in fetched[0]
    assert re.fullmatch(r"uv==\S+( +--hash=sha256:[0-9a-f]{64})+\n", (generated.project / ".venv/uv.txt").read_text())
    assert "Fetching uv" in said
    assert "Installing with pip" in said
    assert other.calls == ["--version"] * len(other.calls)


def test_uv_looks_into_the_folders_that_pip_looks_into(
    generated: Generated, tmp_path: Path, recorder: Callable[..., Recorder], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A machine without a network has its wheels in a folder. uv would fail for one that is not there."""
    generated, uv, log = copied(generated, tmp_path), recorder("uv"), tmp_path / "links"
    uv.path.write_text(f"#!/bin/sh\necho uv 0.13.9\necho $UV_FIND_LINKS >> {log}\n")
    python = environment_of(generated, recorder)
    for name in [name for name in os.environ if name.startswith(("PIP_", "UV_"))]:
        monkeypatch.delenv(name)
    links = f"{tmp_path} /no/such/folder https://wheels.test/simple"
    for name, value in {"HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path), "PIP_FIND_LINKS": links}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PATH", f"{uv.path.parent}:{os.environ['PATH']}")
    generated.make("install", PYTHON=str(python.path))
    assert log.read_text().splitlines()[-1] == f"{tmp_path},https://wheels.test/simple"
    assert not any("-m pip" in call for call in python.calls)


@pytest.mark.parametrize("version", ["2.7", "3.6", "3.9", "3.10"])
def test_a_python_that_is_too_old_is_refused_before_anything_is_made(
    generated: Generated, tmp_path: Path, version: str
) -> None:
    python = old_python(version)
    generated = copied(generated, tmp_path)
    said = generated.make("run", check=False, PYTHON=str(python))
    assert re.search(rf"{re.escape(str(python))} is Python {re.escape(version)}[.\d]*\.$", said, re.MULTILINE), said
    assert "This needs Python 3.11 or newer with its venv module. Name one: make run PYTHON=python3.13" in said
    assert not (generated.project / ".venv").exists()


def old_python(version: str) -> Path:
    for found in sorted(Path.home().glob(f".pyenv/versions/{version}.*/bin/python")):
        return found
    on_path = shutil.which(f"python{version}")
    if not on_path:
        pytest.skip(f"there is no Python {version} here")
    return Path(on_path)


def test_no_python_at_all_is_told_the_same(generated: Generated, tmp_path: Path) -> None:
    said = copied(generated, tmp_path).make("check", check=False, PYTHON="/nowhere/python3")
    assert "This needs Python 3.11 or newer with its venv module. Name one: make check PYTHON=" in said


def test_an_environment_is_made_anew_for_another_python_and_when_its_own_is_gone(
    generated: Generated, tmp_path: Path, recorder: Callable[..., Recorder]
) -> None:
    generated = copied(generated, tmp_path)
    uv, base = recorder("uv"), tmp_path / "python3"
    made = generated.project / ".venv" / "made-with"
    # Only whether an environment is made is of interest here: its pip comes along in seconds, the rest not at all.
    script = (
        '#!/bin/sh\ncase "$*" in *"import sys;"*) {answer};;\n'
        '*"-m venv"*) mkdir -p .venv/bin; cp {self} .venv/bin/python;; esac\n'
    )

    def install(version: str) -> str:
        base.write_text(script.format(answer=f"echo {version}", self=base))
        base.chmod(0o755)
        return generated.make("install", PYTHON=str(base), UV=str(uv.path))

    assert "into .venv" in install("3.12.1 /usr")
    assert made.read_text() == "3.12.1 /usr\n"
    assert "into .venv" not in install("3.12.1 /usr")
    assert len(uv.calls) == 4
    assert "into .venv" in install("3.13.0 /usr")
    assert len(uv.calls) == 8, "everything is installed anew"
    (generated.project / ".venv" / "bin" / "python").unlink()
    assert "into .venv" in install("3.13.0 /usr")
