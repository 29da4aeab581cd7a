"""`scripts/environment.py`, which every Make target runs first: it does nothing when nothing changed, and names what is
missing."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from scripts import environment
from tests.support.waiting import wait_until

REPOSITORY = Path(__file__).resolve().parents[2]


def made(venv: Path) -> Path:
    """A folder that looks like an environment made from the current locks."""
    venv.mkdir()
    (venv / "made-from").write_text(environment.fingerprint())
    return venv


def test_an_environment_that_matches_the_locks_is_left_alone(tmp_path: Path) -> None:
    venv = made(tmp_path / "venv")
    before = time.monotonic()
    done = subprocess.run(
        [sys.executable, "scripts/environment.py", venv], cwd=REPOSITORY, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert time.monotonic() - before < 5
    assert [path.name for path in venv.iterdir()] == ["made-from"]


def test_an_old_python_is_told_what_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "version_info", (3, 9, 2, "final", 0))
    complaint = environment.complaint()
    assert complaint is not None
    assert complaint.startswith("Python 3.11 or newer is needed, this is 3.9.2")


def test_a_python_without_venv_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
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
    venv.mkdir()
    with open("makes", "a") as makes:
        makes.write("made\\n")
    while not Path("second").exists():
        time.sleep(0.01)

environment.make = make
sys.argv = ["environment", "venv"]
Path(ROLE).touch()
raise SystemExit(environment.main())
"""


def test_two_runs_at_once_build_it_once(tmp_path: Path) -> None:
    """The first run lasts until the second has begun; the second then finds nothing left to do."""

    def start(role: str) -> subprocess.Popen[bytes]:
        code = f"import sys; sys.path.insert(0, {str(REPOSITORY)!r}); ROLE = {role!r}\n{SLOW_MAKE}"
        return subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path, stdout=subprocess.DEVNULL)

    first = start("first")
    wait_until((tmp_path / "makes").exists, 10, "the first run at work")
    second = start("second")
    assert [first.wait(30), second.wait(30)] == [0, 0]
    assert (tmp_path / "makes").read_text() == "made\n"
