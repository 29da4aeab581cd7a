"""The cost of a process over a span of time: its CPU seconds, or the instructions that it executed.

CPU seconds are the real cost, but other work on the machine changes them (caches, clock rates). Instructions hardly
change; `callgrind` counts them on any machine, but without the kernel's, and the program runs 40 times slower.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import time
from pathlib import Path
from typing import Protocol

from tests.support.orphans import group_members

from .processes import Trouble


class Meter(Protocol):
    """Measures the processes of one process group between `start()` and `stop()`."""

    unit: str

    def start(self) -> None: ...

    def stop(self) -> float: ...


def processes_of(group: int) -> list[int]:
    """The processes of a service; with HTTP these are gunicorn's master and its worker."""
    return [int(member.split()[0]) for member in group_members(group)]


class Cpu:
    """Microseconds of CPU of a process group, user and system, by the processes' own clocks (Linux, in nanoseconds)."""

    unit = "µs of CPU"

    def __init__(self, group: int) -> None:
        self._group = group
        self._begun: dict[int, float] = {}

    def start(self) -> None:
        self._begun = {pid: self.clock(pid) for pid in processes_of(self._group)}

    def stop(self) -> float:
        return sum(self.clock(pid) - begun for pid, begun in self._begun.items()) * 1e6

    @staticmethod
    def clock(pid: int) -> float:
        """Seconds of CPU of one process since it began."""
        # Linux: the clock id of another process is its inverted pid above three bits; 2 is the scheduler's clock.
        return time.clock_gettime((~pid << 3) | 2)


class Instructions:
    """Instructions of a process group that was started with `command()`; counting begins at `start()`."""

    unit = "instructions"

    def __init__(self, group: int, output: Path) -> None:
        self._group, self._output = group, output
        self._on = False

    @staticmethod
    def command(command: list[str], output: Path) -> list[str]:
        """The command under callgrind, which writes to `output` with the process id and a number appended."""
        if not shutil.which("valgrind"):
            raise Trouble("valgrind is not on the PATH")
        # Without --trace-children a forked process cannot be controlled.
        options = ["--quiet", "--instr-atstart=no", "--trace-children=yes", f"--callgrind-out-file={output}.%p"]
        return ["valgrind", "--tool=callgrind", *options, *command]

    def start(self) -> None:
        # Never switched off again: callgrind 3.19 writes wrong sums from the second switch on.
        if not self._on:
            self._control("--instr=on")
            self._on = True
        self._control("--zero")

    def stop(self) -> float:
        """Ends the span. Its files, with the cost of each function, stay until the next one."""
        for old in self._dumps():
            old.unlink()
        self._control("--dump")
        found = [re.search(r"^(?:summary|totals): (\d+)", text, re.MULTILINE) for text in map(_text, self._dumps())]
        if not found:
            raise Trouble(f"callgrind wrote no sum to {self._output}")
        return float(sum(int(line[1]) for line in found if line))

    def _dumps(self) -> list[Path]:
        return sorted(self._output.parent.glob(f"{self._output.name}.*.*"))

    def _control(self, option: str) -> None:
        for pid in processes_of(self._group):
            done = subprocess.run(["callgrind_control", option, str(pid)], capture_output=True, text=True, check=False)
            if "OK" not in done.stdout:
                raise Trouble(f"callgrind_control {option}: {done.stdout}{done.stderr}")


def _text(file: Path) -> str:
    return file.read_text(errors="replace")
