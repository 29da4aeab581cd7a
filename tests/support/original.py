"""The published daebus 0.0.31 ("the original") in a virtual environment of its own."""

from __future__ import annotations

import fcntl
import hashlib
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent.parent
LOCK = REPOSITORY / "tests" / "interop" / "original.txt"
VERSION = "0.0.31"


def original_python(cache: Path | None = None) -> Path:
    """The interpreter of an environment with the original; it is created in `.cache` at first use, and kept.

    Raises RuntimeError with pip's own words when it cannot be installed.
    """
    folder = (cache or REPOSITORY / ".cache") / f"original-daebus-{sys.version_info.major}.{sys.version_info.minor}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    python = folder / "bin" / "python"
    stamp = folder / "made-from"
    expected = hashlib.sha256(LOCK.read_bytes() + f"{sys.version}{folder}".encode()).hexdigest()
    with open(f"{folder}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (stamp.is_file() and stamp.read_text() == expected):
            _run(sys.executable, "-m", "venv", "--clear", str(folder))
            pip = [str(python), "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
            _run(*pip, "--require-hashes", "--requirement", str(LOCK))
            stamp.write_text(expected)
    return python


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"the original daebus {VERSION} cannot be installed: {done.stderr.strip()[-2000:]}")
