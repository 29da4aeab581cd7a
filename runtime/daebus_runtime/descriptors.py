"""Each connection is a file descriptor, and a process may have only so many."""

from __future__ import annotations

import contextlib
import resource

SPARE = 100  # for what is no client's connection: the bus, files, pipes, what the author's code opens


def raise_limit(connections: int) -> str | None:
    """Raise the process's limit as far as its user may; what to say when so many connections do not fit, else None."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):  # macOS: a hard limit without end is not taken
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        soft = hard
    if soft == resource.RLIM_INFINITY or soft >= connections + SPARE:
        return None
    return (
        f"this process may open {soft} files, too few for DAEBUS_CONNECTION_LIMIT={connections}: "
        f"raise the hard limit (ulimit -Hn {connections + SPARE}, LimitNOFILE=) or lower the setting"
    )
