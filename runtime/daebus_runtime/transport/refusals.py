"""The only place that maps a server's error replies (`NOPERM …`, `LOADING …`) to exceptions of Daebus.

| first word of the error                            | exception                                                     |
|----------------------------------------------------|---------------------------------------------------------------|
| NOPERM, NOAUTH, WRONGPASS                          | NotPermitted                                                  |
| LOADING, MASTERDOWN, CLUSTERDOWN, TRYAGAIN, BUSY,  | BusUnavailable: temporary, or another server is the right one |
| READONLY, MOVED, ASK                               |                                                               |
| any other (OOM, MISCONF, ERR, …)                   | BusRefused                                                    |
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from ..errors import BusError, BusRefused, BusUnavailable, NotPermitted
from ..keys import INBOX_PREFIX, OWN_PREFIX

NOT_PERMITTED = frozenset({"NOPERM", "NOAUTH", "WRONGPASS"})
PASSING = frozenset({"LOADING", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN", "BUSY", "READONLY", "MOVED", "ASK"})


_IN_SCRIPT = "The user executing the script can't"  # so says Redis 7.0
_WHERE = re.compile(r" script: [0-9a-f]{40}, on @user_script:\d+\.?")
_COMMAND = re.compile(r"run the '([\w|]+)' command")


def mapped(
    error: Exception,
    user: str = "default",
    command: str | None = None,
    channel: str | None = None,
    scripted: Sequence[str] = (),
) -> BusError:
    """The exception for an error reply. `command` and `channel` are those of the request, `scripted` the commands of a
    script, so that the text can name the missing permission. Exceptions of Daebus are returned unchanged."""
    if isinstance(error, BusError):
        return error
    text = _WHERE.sub("", str(error))
    word = text.partition(" ")[0]
    if word in NOT_PERMITTED or _IN_SCRIPT in text:
        return NotPermitted(f"the bus does not allow it: {text}{_cure(text, user, command, channel, scripted)}")
    if word in PASSING:
        return BusUnavailable(f"the bus cannot do it now: {text}")
    return BusRefused(f"the bus refused: {text}{_renamed(text, command)}")


def _cure(text: str, user: str, command: str | None, channel: str | None, scripted: Sequence[str]) -> str:
    if command is None or not (text.startswith("NOPERM") or _IN_SCRIPT in text):
        return ""
    rules = _rules(text, command, scripted) if channel is None else [f"+{command.lower()}", _channels(channel)]
    return f" (for {command}: ACL SETUSER {user} {' '.join(rules)})"


def _channels(channel: str) -> str:
    # Each process has an inbox with its own name; one rule covers all of them.
    return f"&{INBOX_PREFIX}*" if channel.startswith(INBOX_PREFIX) else f"&{channel}"


def _rules(text: str, command: str, scripted: Sequence[str]) -> list[str]:
    if named := _COMMAND.search(text):
        return [f"+{named[1]}"]
    if " keys" in text:
        return [f"~{OWN_PREFIX}*"]
    if " channel" in text:
        return [f"&{INBOX_PREFIX}*", f"&{OWN_PREFIX}*"]
    return [f"+{name.lower()}" for name in scripted or [command]]


def _renamed(text: str, command: str | None) -> str:
    if command is None or "unknown command" not in text.lower():
        return ""
    return f" (Daebus needs {command}: this server has it renamed or disabled, see rename-command)"
