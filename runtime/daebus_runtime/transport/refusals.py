"""The only place that maps a server's error replies (`NOPERM …`, `LOADING …`) to exceptions of Daebus.

| first word of the error                            | exception                                                     |
|----------------------------------------------------|---------------------------------------------------------------|
| NOPERM, NOAUTH, WRONGPASS                          | NotPermitted                                                  |
| LOADING, MASTERDOWN, CLUSTERDOWN, TRYAGAIN, BUSY,  | BusUnavailable: temporary, or another server is the right one |
| READONLY, MOVED, ASK                               |                                                               |
| any other (OOM, MISCONF, ERR, …)                   | BusRefused                                                    |
"""

from __future__ import annotations

from ..errors import BusError, BusRefused, BusUnavailable, NotPermitted
from ..keys import INBOX_PREFIX

NOT_PERMITTED = frozenset({"NOPERM", "NOAUTH", "WRONGPASS"})
PASSING = frozenset({"LOADING", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN", "BUSY", "READONLY", "MOVED", "ASK"})


def mapped(error: Exception, user: str = "default", command: str | None = None, channel: str | None = None) -> BusError:
    """The exception for an error reply. `command` and `channel` are those of the request, so that the text can name the
    missing permission. Exceptions of Daebus are returned unchanged."""
    if isinstance(error, BusError):
        return error
    text = str(error)
    word = text.partition(" ")[0]
    if word in NOT_PERMITTED:
        return NotPermitted(f"the bus does not allow it: {text}{_cure(word, user, command, channel)}")
    if word in PASSING:
        return BusUnavailable(f"the bus cannot do it now: {text}")
    return BusRefused(f"the bus refused: {text}{_renamed(text, command)}")


def _cure(word: str, user: str, command: str | None, channel: str | None) -> str:
    if word != "NOPERM" or command is None:
        return ""
    rules = [f"+{command.lower()}"]
    if channel is not None:
        # Each process has an inbox with its own name; one rule covers all of them.
        rules.append(f"&{INBOX_PREFIX}*" if channel.startswith(INBOX_PREFIX) else f"&{channel}")
    return f" (for {command}: ACL SETUSER {user} {' '.join(rules)})"


def _renamed(text: str, command: str | None) -> str:
    if command is None or "unknown command" not in text.lower():
        return ""
    return f" (Daebus needs {command}: this server has it renamed or disabled, see rename-command)"
