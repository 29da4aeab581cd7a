"""Sets the wall clock of a program in another process while it runs; its monotonic clock is not changed.

clock = WallClock(tmp_path)
service = start_process(PROGRAM, env={**settings(url), **clock.env})
clock.step(3600)
"""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
import sys
from pathlib import Path

SOURCE = Path(__file__).with_name("wall_clock.c")
COMPILERS = ("cc", "gcc", "clang", "tcc")
HOUR, DAY, YEAR = 3600, 86_400, 31_557_600


def compiler() -> str | None:
    """The C compiler of this machine, if any."""
    return next((found for name in COMPILERS if (found := shutil.which(name))), None)


def why_not() -> str | None:
    """Why no wall clock can be set on this machine; None when it can."""
    if not sys.platform.startswith("linux"):
        return "a wall clock is set through LD_PRELOAD, which is there on Linux only"
    return None if compiler() else f"no C compiler for tests/support/wall_clock.c: none of {', '.join(COMPILERS)}"


class WallClock:
    """A program and its children use this clock when started with `env`. `directory` is where its files go."""

    def __init__(self, directory: Path) -> None:
        library, self._file = directory / "wall_clock.so", directory / "wall_clock"
        command = [compiler() or COMPILERS[0], "-shared", "-fPIC", "-nostdlib", "-o", str(library), str(SOURCE)]
        subprocess.run(command, check=True, capture_output=True)
        self.wrong = 0
        self._file.write_bytes(struct.pack("=q", self.wrong))
        self.env = {"LD_PRELOAD": str(library), "WALL_CLOCK": str(self._file)}

    def step(self, seconds: int) -> None:
        """Move the clock forward, or back with a negative number. All programs see it at once."""
        self.wrong += seconds
        with open(self._file, "r+b", buffering=0) as file:  # written in place, since the programs have it mapped
            os.pwrite(file.fileno(), struct.pack("=q", self.wrong), 0)
