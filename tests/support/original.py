"""The published daebus 0.0.31 ("the original") in a virtual environment of its own."""

from __future__ import annotations

import fcntl
import hashlib
import sys
from pathlib import Path

from scripts import installer

REPOSITORY = Path(__file__).resolve().parent.parent.parent
LOCK = REPOSITORY / "tests" / "interop" / "original.txt"
VERSION = "0.0.31"


def original_python(cache: Path | None = None) -> Path:
    """The interpreter of an environment with the original; see `locked_python`."""
    return locked_python("original-daebus", LOCK, cache)


def locked_python(name: str, locked: Path, cache: Path | None = None) -> Path:
    """The interpreter of an environment with what a lock lists; it is created in `.cache` at first use, and kept.

    Raises InstallError with the installer's own words when it cannot be installed.
    """
    folder = (cache or REPOSITORY / ".cache") / f"{name}-{sys.version_info.major}.{sys.version_info.minor}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    python = folder / "bin" / "python"
    stamp = folder / "made-from"
    expected = hashlib.sha256(locked.read_bytes() + f"{sys.version}{folder}".encode()).hexdigest()
    with open(f"{folder}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (stamp.is_file() and stamp.read_text() == expected):
            # The uv of the environment that runs the tests: it is not on the PATH.
            uv = Path(sys.executable).with_name("uv")
            installer.install(folder, locked, uv=uv if uv.exists() else None)
            stamp.write_text(expected)
    return python
