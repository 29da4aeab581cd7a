"""Whether a port can be opened, and if not, which program uses it."""

from __future__ import annotations

import errno
import os
import socket
from pathlib import Path

LISTENING = "0A"  # in /proc/net/tcp


def obstacle(host: str, port: int) -> str | None:
    """Why a service could not listen there; None if it could."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
            probe.listen(1)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                who = holder(port)
                return f"port {port} is taken by {who or 'another program'}"
            return f"port {port} on {host} cannot be opened: {error.strerror or error}"
    return None


def holder(port: int) -> str | None:
    """The program that listens on a port, as "name (pid n)". Needs Linux, and permission to see that process."""
    sockets = {f"socket:[{inode}]" for inode in _listeners(port)}
    if not sockets:
        return None
    for process in Path("/proc").iterdir():
        if not process.name.isdigit():
            continue
        try:
            held = {os.readlink(entry) for entry in (process / "fd").iterdir()}
            if held & sockets:
                return f"{(process / 'comm').read_text().strip()} (pid {process.name})"
        except OSError:
            continue
    return None


def _listeners(port: int) -> list[str]:
    inodes = []
    for table in ("tcp", "tcp6"):
        try:
            lines = Path(f"/proc/net/{table}").read_text().splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            fields = line.split()
            if fields[3] == LISTENING and int(fields[1].rpartition(":")[2], 16) == port:
                inodes.append(fields[9])
    return inodes
