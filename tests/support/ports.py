"""Free ports on loopback."""

from __future__ import annotations

import random
import socket

REDIS_PORT = 6379
_given: set[int] = set()


def free_port() -> int:
    """A TCP port that nothing listens on and that no earlier call returned. Never Redis's own port.

    It lies outside the range for outgoing connections, or one of those could take it before the intended program
    listens on it.
    """
    while True:
        port = random.randrange(20_000, 32_000)
        # Old clients of the runtime use the HTTP port plus one: the next call must not return that neighbour.
        if port in _given:
            continue
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                continue
        with socket.socket() as probe:
            try:
                probe.bind(("0.0.0.0", port))
            except OSError:
                continue
        _given.update((port, port + 1))
        return port


def accepts(port: int, host: str = "127.0.0.1") -> bool:
    """Whether something accepts connections there right now."""
    with socket.socket() as probe:
        probe.settimeout(0.5)
        return probe.connect_ex((host, port)) == 0
