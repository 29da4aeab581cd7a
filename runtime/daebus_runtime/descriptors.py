"""The limit of open files: each connection is a file descriptor, and their number per process is limited."""

from __future__ import annotations

import contextlib
import resource

SPARE = 100  # for everything but client connections: the bus, files, pipes, the author's code


def raise_limit(connections: int) -> str | None:
    """Raise the process's limit to its hard limit. Returns a warning if `connections` still do not fit, else None."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):  # macOS refuses an infinite hard limit
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        soft = hard
    if soft == resource.RLIM_INFINITY or soft >= connections + SPARE:
        return None
    return (
        f"this process may open {soft} files, too few for DAEBUS_CONNECTION_LIMIT={connections}: "
        f"raise the hard limit (ulimit -Hn {connections + SPARE}, LimitNOFILE=) or lower the setting"
    )
