"""Makes and keeps the repository's own virtual environment; every Make target calls it first.

Standard library only, since it runs before anything is installed. It does nothing when the environment already matches
the locks, and waits when another run is at it.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
LOCK = REPOSITORY / "requirements" / "dev.txt"
RUNTIME = REPOSITORY / "runtime"
OLDEST = (3, 11)


def complaint() -> str | None:
    """What this Python lacks to make an environment, with the cure; None when nothing is missing."""
    found = ".".join(str(part) for part in sys.version_info[:3])
    wanted = ".".join(str(part) for part in OLDEST)
    if sys.version_info < OLDEST:
        return f"Python {wanted} or newer is needed, this is {found} ({sys.executable}). Try: make PYTHON=python3.12"
    try:
        import ensurepip  # noqa: F401
        import venv  # noqa: F401
    except ImportError:
        return f"This Python ({sys.executable}) has no venv module. On Debian: apt-get install python3-venv"
    return None


def fingerprint() -> str:
    """Changes whenever the environment has to be made anew."""
    digest = hashlib.sha256()
    for part in (LOCK.read_bytes(), (RUNTIME / "pyproject.toml").read_bytes()):
        digest.update(part)
    digest.update(f"{sys.version} {sys.executable} {RUNTIME}".encode())
    return digest.hexdigest()


def make(venv: Path) -> None:
    """Installs the locked requirements, each checked by its hash, and the runtime as an editable package."""
    subprocess.run([sys.executable, "-m", "venv", "--clear", str(venv)], check=True)
    pip: list[str | Path] = [venv / "bin" / "python", "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
    subprocess.run([*pip, "--require-hashes", "--requirement", LOCK], check=True)
    # The build backend is among the locked requirements: nothing is fetched unchecked.
    subprocess.run([*pip, "--no-deps", "--no-build-isolation", "--editable", RUNTIME], check=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("venv", nargs="?", type=Path, default=REPOSITORY / ".venv")
    venv: Path = parser.parse_args().venv.absolute()
    problem = complaint()
    if problem:
        print(f"environment: {problem}", file=sys.stderr)
        return 1
    with open(f"{venv}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        stamp = venv / "made-from"
        expected = fingerprint()
        if stamp.is_file() and stamp.read_text() == expected:
            return 0
        print(f"environment: installing the locked requirements into {venv.name} (once, about a minute)", flush=True)
        try:
            make(venv)
        except subprocess.CalledProcessError as error:
            print(f"environment: this failed: {' '.join(str(part) for part in error.cmd)}", file=sys.stderr)
            return 1
        stamp.write_text(expected)
    return 0


if __name__ == "__main__":
    sys.exit(main())
