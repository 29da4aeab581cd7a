"""Free ports on loopback."""

from __future__ import annotations

import socket

REDIS_PORT = 6379
_given: set[int] = set()


def free_port() -> int:
    """A TCP port that nothing listens on and that no earlier call returned. Never Redis's own port."""
    while True:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port: int = probe.getsockname()[1]
        # The runtime's old clients use HTTP's port plus one: keep the neighbour out of the next answer.
        if port != REDIS_PORT and port not in _given and port < 65535:
            _given.update((port, port + 1))
            return port


def accepts(port: int, host: str = "127.0.0.1") -> bool:
    """Whether something accepts connections there right now."""
    with socket.socket() as probe:
        probe.settimeout(0.5)
        return probe.connect_ex((host, port)) == 0
