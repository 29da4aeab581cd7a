"""W3C Trace Context (https://www.w3.org/TR/trace-context/): the checks of `traceparent` and `tracestate`, and the next
span. Knows no message and no server.

A malformed `traceparent` counts as none, and so does its `tracestate`, as the recommendation asks.
"""

from __future__ import annotations

import re
import secrets
from typing import Any

MOST_MEMBERS = 32
MOST_STATE = 512
"""Characters of a tracestate that are passed on; the recommendation asks for at least as many."""
LONG_MEMBER = 128
"""Members longer than this are dropped first from a tracestate that is too long."""

_PARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-[\x21-\x7e]{0,256})?").fullmatch
_MEMBER = re.compile(
    r"([a-z0-9][a-z0-9_\-*/]{0,255}|[a-z0-9][a-z0-9_\-*/]{0,240}@[a-z][a-z0-9_\-*/]{0,13})"
    r"=[\x20-\x2b\x2d-\x3c\x3e-\x7e]{0,255}[\x21-\x2b\x2d-\x3c\x3e-\x7e]"
).fullmatch


def parse(traceparent: Any) -> tuple[str, str, str, str] | None:
    """(version, trace id, span id, flags) of a valid `traceparent`, else None. Newer versions may be longer."""
    match = _PARENT(traceparent) if isinstance(traceparent, str) else None
    if match is None:
        return None
    version, trace, span, flags, more = match.groups()
    if version == "ff" or (version == "00" and more is not None) or not trace.strip("0") or not span.strip("0"):
        return None
    return version, trace, span, flags


def onward(traceparent: Any) -> str | None:
    """The `traceparent` for what a handler sends: the same trace and flags, a new span. None without a valid one."""
    parts = parse(traceparent)
    # A newer version is passed on as the one that we know, with the flags that we know: sampled, random trace id.
    return f"00-{parts[1]}-{secrets.token_hex(8)}-{int(parts[3], 16) & 3:02x}" if parts is not None else None


def state(tracestate: Any) -> str | None:
    """A valid `tracestate`, at most MOST_STATE characters of it, else None."""
    if not isinstance(tracestate, str) or len(tracestate) > 16_384:
        return None
    members = [member for part in tracestate.split(",") if (member := part.strip(" \t"))]
    keys = {member.partition("=")[0] for member in members}
    if not members or len(members) > MOST_MEMBERS or len(keys) < len(members) or not all(map(_MEMBER, members)):
        return None
    if len(",".join(members)) > MOST_STATE:
        members = [member for member in members if len(member) <= LONG_MEMBER]
    while len(",".join(members)) > MOST_STATE:
        members.pop()
    return ",".join(members) or None
