"""The repository's environment is installed with uv if possible, from pip's index, and otherwise with pip.

A small package stands for the runtime, an empty lock for the requirements, and stand-ins for uv record their calls.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from scripts import installer
from scripts.installer import translated
from tests.support.waiting import wait_until

REPOSITORY = Path(__file__).resolve().parents[2]

RECORDING = """#!/bin/sh
[ "$1" = --version ] && echo "uv 0.13.9" && exit
echo "$@" >> "$CALLS"
env | grep -E '^(UV_|SSL_|HTTPS_PROXY)' >> "$CALLS" || true
"""
FAILING = """#!/bin/sh
[ "$1" = --version ] && echo "uv 0.13.9" && exit
echo "error: the index answers 403"
exit 2
"""
OLD = "#!/bin/sh\necho 'uv 0.1.3'\n"
SHIM = "#!/bin/sh\necho 'uv: command not found in any version' >&2\nexit 127\n"


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a space and a non-ASCII letter in its name; pip and uv have no settings."""
    for name in [name for name in os.environ if name.startswith(("PIP_", "UV_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    folder = tmp_path / "my größe"
    (folder / "bin").mkdir(parents=True)
    monkeypatch.setenv("PATH", f"{folder / 'bin'}:/usr/bin:/bin")
    monkeypatch.setenv("CALLS", str(folder / "calls"))
    (folder / "lock.txt").write_text("")
    (folder / "package").mkdir()
    (folder / "package" / "pyproject.toml").write_text('[project]\nname = "sample"\nversion = "1"\n')
    return folder


def stand_in(place: Path, text: str) -> None:
    (place / "bin" / "uv").write_text(text)
    (place / "bin" / "uv").chmod(0o755)


def install(place: Path) -> list[str]:
    """Installs; returns the calls of the stand-ins for pip."""
    installer.install(place / "venv", place / "lock.txt", place / "package")
    calls = place / "calls"
    return calls.read_text().splitlines() if calls.exists() else []


@pytest.fixture
def pips(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Replaces pip's installations, which would need a network."""
    done: list[Path] = []
    monkeypatch.setattr(installer, "install_with_pip", lambda venv, _lock, _editable: done.append(venv))
    # Where Python has no pip outside of environments, the one of the environment reads the settings: it is needed then.
    if not subprocess.run([installer.base_python(), "-m", "pip", "--version"], capture_output=True).returncode:
        monkeypatch.setattr(installer, "ensure_pip", lambda _venv: None)
    return done


def test_uv_installs_the_lock_by_its_hashes_and_then_the_package(place: Path, pips: list[Path]) -> None:
    stand_in(place, RECORDING)
    calls = [line for line in install(place) if line.startswith("pip ")]
    start = f"pip install --quiet --python {place}/venv/bin/python"
    assert calls == [
        f"{start} --require-hashes --requirement {place}/lock.txt",
        f"{start} --no-deps --no-build-isolation --editable {place}/package",
    ]
    assert pips == []


def test_a_lock_alone_is_installed_with_the_uv_that_is_named(place: Path, pips: list[Path]) -> None:
    stand_in(place, RECORDING)
    named = (place / "bin" / "uv").rename(place / "named-uv")
    installer.install(place / "venv", place / "lock.txt", uv=named)
    calls = [line for line in (place / "calls").read_text().splitlines() if line.startswith("pip ")]
    python = f"{place}/venv/bin/python"
    assert calls == [f"pip install --quiet --python {python} --require-hashes --requirement {place}/lock.txt"]
    assert pips == []


def test_uv_gets_pips_index_but_no_settings_that_change_what_is_installed(
    place: Path, monkeypatch: pytest.MonkeyPatch, pips: list[Path]
) -> None:
    stand_in(place, RECORDING)
    (place / "pip.conf").write_text("[global]\nindex-url = https://mirror.test/simple\ncert = /ca.pem\n")
    monkeypatch.setenv("PIP_CONFIG_FILE", str(place / "pip.conf"))
    monkeypatch.setenv("PIP_PROXY", "http://proxy.test:3128")
    monkeypatch.setenv("UV_NO_VERIFY_HASHES", "1")
    monkeypatch.setenv("UV_SYSTEM_PYTHON", "1")
    monkeypatch.setenv("UV_LINK_MODE", "copy")
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    calls = install(place)
    for expected in (
        "UV_INDEX_URL=https://mirror.test/simple",
        "SSL_CERT_FILE=/ca.pem",
        "HTTPS_PROXY=http://proxy.test:3128",
        "UV_LINK_MODE=copy",
    ):
        assert expected in calls
    assert not [line for line in calls if line.startswith(("UV_NO_VERIFY", "UV_SYSTEM_PYTHON"))]
    assert pips == []


@pytest.mark.parametrize("text", [OLD, SHIM, "not a program", None], ids=["old", "shim", "broken", "none"])
def test_without_a_uv_that_works_it_is_fetched_or_pip_installs(
    place: Path, text: str | None, pips: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    if text is not None:
        stand_in(place, text)
    install(place)  # this lock has no uv, so none can be fetched
    assert pips == [place / "venv"]
    assert "none could be fetched; pip installs" in capsys.readouterr().out


def test_when_uv_fails_pip_installs_into_a_fresh_environment(
    place: Path, pips: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    stand_in(place, FAILING)
    install(place)
    assert pips == [place / "venv"]
    assert "uv failed (error: the index answers 403); pip installs" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["PIP_CONSTRAINT", "PIP_NO_BINARY", "PIP_TARGET"])
def test_with_a_setting_that_uv_lacks_pip_installs(
    place: Path, monkeypatch: pytest.MonkeyPatch, pips: list[Path], name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    stand_in(place, RECORDING)
    monkeypatch.setenv(name, str(place / "lock.txt"))
    assert install(place) == []
    assert pips == [place / "venv"]
    assert f"pip's setting {name[4:].lower().replace('_', '-')}; pip installs" in capsys.readouterr().out


def test_pips_settings_are_translated_for_uv(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("UV_INDEX_URL", raising=False)
    monkeypatch.delenv("UV_DEFAULT_INDEX", raising=False)
    found = translated({"extra-index-url": "https://a.test/ https://b.test/", "no-index": "yes", "retries": "3"})
    assert found.environment["UV_EXTRA_INDEX_URL"] == "https://a.test/ https://b.test/"
    assert found.environment["UV_INDEX_STRATEGY"] == "unsafe-best-match"
    assert (found.options, found.unknown) == (["--no-index"], [])
    assert translated({"no-index": "false"}).options == []
    links = translated({"find-links": f"{tmp_path}\n{tmp_path}/gone https://wheels.test/"})
    assert links.environment["UV_FIND_LINKS"] == f"{tmp_path},https://wheels.test/"
    assert translated({"cert": str(tmp_path)}).environment == {"SSL_CERT_DIR": str(tmp_path)}


def test_an_index_that_is_set_for_uv_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UV_DEFAULT_INDEX", "https://uv.test/simple")
    assert translated({"index-url": "https://pip.test/simple"}).environment == {}


def test_services_fetch_the_uv_of_this_repositorys_lock() -> None:
    """`make lock` copies it into the file that the template's Makefile includes."""
    lock = (REPOSITORY / "requirements" / "uv.txt").read_text()
    assert lock.startswith("uv==")
    assert lock in (REPOSITORY / "requirements" / "dev.txt").read_text()


def test_a_long_step_prints_a_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(installer, "PATIENCE", 0.05)
    installer.run("waiting", ["/bin/sh", "-c", "sleep 0.3"], silent=True)
    assert "environment: waiting (0 s so far)" in capsys.readouterr().out
    monkeypatch.setattr(installer, "PATIENCE", 30.0)
    installer.run("waiting", ["/bin/true"], silent=True)
    assert capsys.readouterr().out == ""


def test_an_installer_that_outlives_a_killed_run_keeps_the_lock_until_it_ends(place: Path) -> None:
    """Otherwise it would write into the environment that the next run creates."""
    stand_in(place, f"#!/bin/sh\necho $$ >> '{place}/started'\nwhile [ ! -e '{place}/go on' ]; do sleep 0.05; done\n")
    code = (
        "from scripts import environment, installer; from pathlib import Path\n"
        "environment.make = lambda venv: (venv.mkdir(exist_ok=True), installer.run('x', ['uv'], silent=True))\n"
        f"environment.keep(Path({str(place / 'venv')!r}))"
    )
    killed = subprocess.Popen([sys.executable, "-c", code], cwd=REPOSITORY)
    wait_until((place / "started").exists, 20, "the installer at work")
    killed.kill()
    killed.wait()
    after = subprocess.Popen([sys.executable, "-c", code], cwd=REPOSITORY, stdout=subprocess.PIPE, text=True)
    assert after.stdout is not None
    assert "waiting for another run" in after.stdout.readline()
    (place / "go on").touch()
    after.communicate(timeout=30)
    assert len((place / "started").read_text().split()) == 2


@pytest.mark.slow
def test_the_real_lock_with_a_uv_fetched_by_its_hash(place: Path) -> None:
    """The lock contains only uv: pip downloads it, then this uv installs the lock and the package."""
    text = (REPOSITORY / "requirements" / "dev.txt").read_text()
    wanted = [part for part in text.split("\n") if part]
    lock: list[str] = []
    for name in ("uv==", "hatchling==", "packaging==", "pathspec==", "pluggy==", "tomlkit==", "trove-classifiers=="):
        begin = next(index for index, line in enumerate(wanted) if line.startswith(name))
        end = next(i for i in range(begin + 1, len(wanted)) if not wanted[i].startswith(" "))
        lock += wanted[begin:end]
    (place / "lock.txt").write_text("\n".join(lock) + "\n")
    text = '[build-system]\nrequires = ["hatchling"]\nbuild-backend = "hatchling.build"\n'
    text += '[tool.hatch.build]\ndev-mode-dirs = ["."]\n'
    (place / "package" / "pyproject.toml").write_text(f'{text}[project]\nname = "sample"\nversion = "1"\n')
    (place / "package" / "sample.py").write_text("")
    install(place)
    assert installer.works(place / "venv" / "bin" / "uv")
    subprocess.run([place / "venv" / "bin" / "python", "-c", "import sample, hatchling"], check=True)
