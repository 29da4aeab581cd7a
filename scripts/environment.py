"""Creates and updates the repository's own virtual environment; every Make target calls it first.

Standard library only, since it runs before anything is installed. It does nothing when the environment already matches
the locks, and waits while another run is creating it.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import os
import shutil
import signal
import sys
import time
from pathlib import Path
from typing import IO

REPOSITORY = Path(__file__).resolve().parent.parent
LOCK = REPOSITORY / "requirements" / "dev.txt"
RUNTIME = REPOSITORY / "runtime"
OLDEST = (3, 11)
ROOM = 64 << 20  # bytes; with less free space a failure is explained by a full disk


def complaint() -> str | None:
    """What this Python lacks for creating an environment, with the cure; None when nothing is missing."""
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
    """A text that changes whenever the environment must be created again."""
    digest = hashlib.sha256()
    for part in (LOCK.read_bytes(), (RUNTIME / "pyproject.toml").read_bytes()):
        digest.update(part)
    # Not sys.executable: in an active environment its path differs although it is the same Python.
    digest.update(f"{sys.version} {sys.base_prefix} {os.uname().machine} ".encode("utf-8", "surrogateescape"))
    digest.update(os.fsencode(RUNTIME))
    return digest.hexdigest()


def is_current(venv: Path) -> bool:
    """False also when the Python with which it was created was removed, so that `bin/python` is a dangling link."""
    stamp = venv / "made-from"
    return stamp.is_file() and stamp.read_text() == fingerprint() and (venv / "bin" / "python").exists()


def make(venv: Path) -> None:
    """Makes the environment. Raises InstallError when no installer could."""
    from scripts.installer import install

    install(venv, LOCK, RUNTIME)


def wait_for(lock: IO[str]) -> None:
    """Takes the lock; when another run has it, says so and waits."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        print("environment: waiting for another run, which is making it", flush=True)
        fcntl.flock(lock, fcntl.LOCK_EX)
    os.set_inheritable(lock.fileno(), True)


def renew(venv: Path) -> None:
    began = time.monotonic()
    print(f"environment: installing the locked requirements into {venv.name}, once", flush=True)
    stamp = venv / "made-from"
    # First remove the stamp: if this is interrupted, the next run creates the environment again.
    stamp.unlink(missing_ok=True)
    make(venv)
    stamp.write_text(fingerprint())
    print(f"environment: ready after {time.monotonic() - began:.0f} s", flush=True)


def failure(error: Exception, venv: Path) -> str:
    free = shutil.disk_usage(venv.parent).free
    if free < ROOM:
        return f"{error}\nenvironment: the disk of {venv.parent} is full: {free >> 20} MB are free"
    return str(error)


def keep(venv: Path) -> int:
    from scripts.installer import InstallError

    try:
        with open(f"{venv}.lock", "w") as lock:
            wait_for(lock)
            if not is_current(venv):
                renew(venv)
    except (InstallError, OSError) as error:
        print(f"environment: this failed: {failure(error, venv)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("environment: interrupted; the next run begins anew", file=sys.stderr)
        return 130
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("venv", nargs="?", type=Path, default=REPOSITORY / ".venv")
    venv: Path = parser.parse_args().venv.absolute()
    problem = complaint()
    if problem:
        print(f"environment: {problem}", file=sys.stderr)
        return 1
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    return keep(venv)


if __name__ == "__main__":
    sys.exit(main())
