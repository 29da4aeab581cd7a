"""Who is on the bus. Publish/subscribe says this much: the names that somebody listens on, and how many listen.

A service listens on its name, a listener on its event, so the two look the same from outside.
"""

from __future__ import annotations

from .. import keys
from ..errors import BusError
from ..transport.compatible import Compatible

ASK_SECONDS = 2.0
AT_ONCE = 1000  # names in one question


def replicas(transport: Compatible, service: str) -> int | None:
    """How many replicas of a service listen; None if this user may not ask."""
    try:
        return _counts(transport, [service])[service]
    except BusError:
        return None


def listened_to(transport: Compatible) -> dict[str, int]:
    """Every name that somebody listens on, services and events, with the number of listeners. Empty if this user may
    not ask. Patterns, the inboxes of callers and Daebus' own channels are left out."""
    try:
        found = [
            name.decode("utf-8", "replace") for name in transport.bus.ask("PUBSUB", "CHANNELS", seconds=ASK_SECONDS)
        ]
        names = sorted(name for name in found if not name.startswith((keys.INBOX_PREFIX, keys.OWN_PREFIX)))
        return {name: count for name, count in _counts(transport, names).items() if count}
    except BusError:
        return {}


def _counts(transport: Compatible, names: list[str]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for first in range(0, len(names), AT_ONCE):
        asked = names[first : first + AT_ONCE]
        said = transport.bus.ask("PUBSUB", "NUMSUB", *map(keys.service_channel, asked), seconds=ASK_SECONDS)
        counts.update(zip(asked, map(int, said[1::2]), strict=True))
    return counts
