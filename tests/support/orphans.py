"""No process outlives the tests: children die with their parent, and process groups are checked at the end."""

from __future__ import annotations

import os
import shutil
import signal
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from .waiting import wait_until


@cache
def _setpriv() -> str | None:
    return shutil.which("setpriv") if sys.platform == "linux" else None


def die_with_parent(command: Sequence[str]) -> list[str]:
    """The command with a wrapper: when this process dies, the kernel kills it. It keeps its pid. Linux only."""
    wrapper = _setpriv()
    return [wrapper, "--pdeathsig", "KILL", "--", *command] if wrapper else list(command)


def group_members(group: int) -> list[str]:
    """The living processes of a process group as "pid (name)", without zombies."""
    if not Path("/proc/self/stat").exists():
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return []
        return [f"group {group}"]
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            name, _, rest = (entry / "stat").read_text().rpartition(")")
        except OSError:
            continue
        state, _, process_group = rest.split()[:3]
        if int(process_group) == group and state not in "ZX":
            found.append(f"{entry.name} ({name.partition('(')[2]})")
    return found


def kill_group(group: int) -> list[str]:
    """kill -9 of a process group; waits until all are gone and returns those that were alive."""
    met = group_members(group)
    if met:
        try:
            os.killpg(group, signal.SIGKILL)
        except ProcessLookupError:
            return met
        wait_until(lambda: not group_members(group), 5, lambda: f"death of {group_members(group)}")
    return met
