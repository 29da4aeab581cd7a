"""How long processes were ready to run but had no processor: the delay that a busy machine, or the host of a virtual
one, adds to an answer. Linux.

Standard library only, for `bystander`.
"""

from __future__ import annotations

import os
from bisect import bisect_left
from pathlib import Path

LISTENS = "0A"
TICKS = os.sysconf("SC_CLK_TCK")


def listeners(port: int) -> set[int]:
    """The processes that listen on a TCP port, without those of other users."""
    wanted = f":{port:04X}"
    links = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for row in _text(Path(table)).splitlines()[1:]:
            words = row.split()
            if words[1].endswith(wanted) and words[3] == LISTENS:
                links.add(f"socket:[{words[9]}]")
    return {pid for pid in _processes() if links and links & _descriptors(pid)}


class Waits:
    """Adds up the waiting times of the main threads of some processes (in a service: the thread of the event loop)."""

    def __init__(self, pids: set[int]) -> None:
        self._pids = pids
        self._times: list[float] = []
        self._sums: list[float] = []

    def note(self, now: float) -> None:
        """Take a sample; to be called repeatedly with a growing `now`."""
        self._times.append(now)
        waits = [_text(Path(f"/proc/{pid}/schedstat")).split() for pid in self._pids]
        self._sums.append(sum(int(words[1]) for words in waits if len(words) > 1) / 1e9 + _stolen())

    def since(self, begun: float) -> float:
        """Seconds of waiting from `begun` to the last sample, interpolated linearly between samples."""
        after = bisect_left(self._times, begun)
        if after >= len(self._times):
            return 0.0
        if after == 0:
            return self._sums[-1] - self._sums[0]
        left, right = self._times[after - 1], self._times[after]
        share = (begun - left) / (right - left) if right > left else 1.0
        at = self._sums[after - 1] + share * (self._sums[after] - self._sums[after - 1])
        # A process that has ended no longer counts, so the sum may shrink.
        return max(0.0, self._sums[-1] - at)


def _stolen() -> float:
    """Seconds in which the host ran something else instead of one of this machine's processors."""
    words = _text(Path("/proc/stat")).partition("\n")[0].split()
    return int(words[8]) / TICKS if len(words) > 8 else 0.0


def _processes() -> list[int]:
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]


def _descriptors(pid: int) -> set[str]:
    found = set()
    try:
        for entry in Path(f"/proc/{pid}/fd").iterdir():
            found.add(os.readlink(entry))
    except OSError:
        pass
    return found


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
