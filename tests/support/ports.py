"""Free ports on loopback."""

from __future__ import annotations

import fcntl
import itertools
import os
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

REDIS_PORT = 6379
# Below the range from which the system takes ports for outgoing connections: one of those could take a port away again
# before the program that it is meant for listens on it.
FIRST, LAST, BLOCK = 20_000, 32_000, 400


def free_port() -> int:
    """A TCP port that nothing listens on. Never Redis's own port, nor one of another process that runs these tests.

    A port comes again only after the process has had all the others of its block. The runtime's old clients use HTTP's
    port plus one: the port after the one that is returned is never returned.
    """
    return next(port for port in _mine if _is_free(port))


def accepts(port: int, host: str = "127.0.0.1") -> bool:
    """Whether something accepts connections there right now."""
    with socket.socket() as probe:
        probe.settimeout(0.5)
        return probe.connect_ex((host, port)) == 0


def _ports() -> Iterator[int]:
    """The even ports of a block that no other process has, over and over.

    Between the moment a port is found free and the moment the program listens on it, another run of the tests must not
    find it free too. The lock of a block ends with its process.
    """
    for first in range(FIRST, LAST, BLOCK):
        try:
            lock = os.open(Path(tempfile.gettempdir()) / f"daebus-test-ports-{first}", os.O_CREAT | os.O_RDWR, 0o600)
        except OSError:  # another user's
            continue
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(lock)
            continue
        yield from itertools.cycle(range(first, first + BLOCK, 2))
    raise RuntimeError(f"{(LAST - FIRST) // BLOCK} runs of the tests hold all ports from {FIRST} to {LAST}")


def _is_free(port: int) -> bool:
    if accepts(port):
        return False
    with socket.socket() as probe:
        try:
            probe.bind(("0.0.0.0", port))
        except OSError:
            return False
        return True


_mine = _ports()
