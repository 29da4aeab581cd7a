"""`scripts/environment.py`, which every Make target runs first: it does nothing when nothing changed, and names what is
missing."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from scripts import environment
from tests.support.waiting import wait_until

REPOSITORY = Path(__file__).resolve().parents[2]


def made(venv: Path) -> Path:
    """A folder that looks like an environment made from the current locks."""
    (venv / "bin").mkdir(parents=True)
    (venv / "bin" / "python").symlink_to(sys.executable)
    (venv / "made-from").write_text(environment.fingerprint())
    return venv


def test_an_environment_that_matches_the_locks_is_left_alone(tmp_path: Path) -> None:
    venv = made(tmp_path / "venv")
    before = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "scripts.environment", venv], cwd=REPOSITORY, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert time.monotonic() - before < 5
    assert sorted(path.name for path in venv.iterdir()) == ["bin", "made-from"]


def test_an_environment_whose_python_is_gone_is_not_current(tmp_path: Path) -> None:
    venv = made(tmp_path / "venv")
    assert environment.is_current(venv)
    (venv / "bin" / "python").unlink()
    (venv / "bin" / "python").symlink_to(tmp_path / "removed" / "python3")
    assert not environment.is_current(venv)


def test_an_active_environment_of_the_same_python_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    before = environment.fingerprint()
    monkeypatch.setattr(sys, "executable", "/elsewhere/.venv/bin/python")
    assert environment.fingerprint() == before


def test_an_old_python_is_refused_with_the_version_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "version_info", (3, 9, 2, "final", 0))
    complaint = environment.complaint()
    assert complaint is not None
    assert complaint.startswith("Python 3.11 or newer is needed, this is 3.9.2")


def test_a_python_without_venv_is_refused_with_the_cure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ensurepip", None)
    complaint = environment.complaint()
    assert complaint is not None
    assert "apt-get install python3-venv" in complaint


def test_changed_locks_rebuild_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    before = environment.fingerprint()
    other = tmp_path / "dev.txt"
    other.write_text(environment.LOCK.read_text() + "# another\n")
    monkeypatch.setattr(environment, "LOCK", other)
    assert environment.fingerprint() != before


SLOW_MAKE = """
import sys, time
from pathlib import Path
from scripts import environment

def make(venv):
    (venv / "bin").mkdir(parents=True)
    (venv / "bin" / "python").touch()
    with open("makes", "a") as makes:
        makes.write("made\\n")
    while not Path("go on").exists():
        time.sleep(0.01)

environment.make = make
sys.argv = ["environment", "venv"]
raise SystemExit(environment.main())
"""


def start(code: str, folder: Path) -> subprocess.Popen[str]:
    code = f"import sys; sys.path.insert(0, {str(REPOSITORY)!r})\n{code}"
    return subprocess.Popen(
        [sys.executable, "-c", code], cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def first_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline()


def test_two_runs_at_once_build_it_once(tmp_path: Path) -> None:
    """The second run says that it waits, and then finds nothing left to do."""
    first = start(SLOW_MAKE, tmp_path)
    wait_until((tmp_path / "makes").exists, 10, "the first run at work")
    second = start(SLOW_MAKE, tmp_path)
    assert first_line(second) == "environment: waiting for another run, which is making it\n"
    (tmp_path / "go on").touch()
    first.communicate(timeout=30)
    rest, _ = second.communicate(timeout=30)
    assert ([first.returncode, second.returncode], rest) == ([0, 0], "")
    assert (tmp_path / "makes").read_text() == "made\n"


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_environment_is_not_current(tmp_path: Path, number: signal.Signals) -> None:
    (tmp_path / "venv").mkdir()
    (tmp_path / "venv" / "made-from").write_text(
        environment.fingerprint()
    )  # as left by an earlier run; it must be removed
    interrupted = start(SLOW_MAKE.replace("(parents=True)", "(parents=True, exist_ok=True)"), tmp_path)
    wait_until((tmp_path / "makes").exists, 10, "the run at work")
    interrupted.send_signal(number)
    output, _ = interrupted.communicate(timeout=30)
    assert interrupted.returncode != 0
    assert "Traceback" not in output
    assert not environment.is_current(tmp_path / "venv")


def test_a_full_disk_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(_venv: Path) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(environment, "make", full)
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: SimpleNamespace(free=3 << 20))
    assert environment.keep(tmp_path / "venv") == 1
    said = capsys.readouterr().err
    assert "No space left on device" in said
    assert f"the disk of {tmp_path} is full: 3 MB are free" in said
