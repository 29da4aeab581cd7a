"""What one look at a service shows: what waits, and who is there. The texts of the hashes come from other programs and
may be anything; `services.py` makes sense of them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from ...keys import ServiceKeys

# Entries that are counted at most where the server does not know the lag, bytes read for that, replicas returned.
WHOLE = (10_000, 16 * 1024 * 1024, 10_000)
SAMPLE = (1_000, 256 * 1024, 0)
TOLERANCE_SECONDS = 1.0
MOST_SECONDS = 50 * 365 * 24 * 3600.0


def key_names(service: str) -> list[str]:
    """The keys that `look.lua` reads, in its order."""
    names = ServiceKeys(service)
    return [names.requests, names.replicas, names.beats, names.signs, names.meta]


class Look(NamedTuple):
    """Times are in ms of the server's clock. None: not known, or nothing is there.

    length, pending, lag: entries; those that were read and not ended; those that were not read. unread, unfinished:
    when the oldest of each was sent. members: number of replicas; replicas, beats, signs: the hashes, by replica.
    """

    now: int
    length: int
    pending: int | None
    lag: int | None
    unread: int | None
    unfinished: int | None
    seen: int | None
    members: int
    replicas: dict[str, bytes]
    beats: dict[str, bytes]
    signs: dict[str, bytes]

    @classmethod
    def parse(cls, reply: Any) -> Look | None:
        """The reply of `look.lua`; None if the service is unknown."""
        if reply is None:
            return None
        now, length, pending, lag, unread, unfinished, seen, members, *hashes = reply
        return cls(
            int(now),
            length,
            pending,
            lag,
            _sent(unread),
            _sent(unfinished),
            number(seen),
            members,
            *map(_fields, hashes),
        )

    def age(self, moment: int | None) -> float | None:
        """Seconds since a moment of the server's clock; None if that clock was set back meanwhile."""
        if moment is None:
            return None
        seconds = (self.now - moment) / 1000
        return round(max(0.0, seconds), 3) if -TOLERANCE_SECONDS < seconds < MOST_SECONDS else None


def number(text: bytes | None) -> int | None:
    """A whole number as the server has it; None for anything else."""
    return int(text) if text is not None and text.isdigit() and len(text) < 19 else None


def _sent(entry: bytes | None) -> int | None:
    return None if entry is None else number(entry.partition(b"-")[0])


def _fields(flat: Iterable[bytes]) -> dict[str, bytes]:
    words = iter(flat)
    return {name.decode("utf-8", "backslashreplace"): value for name, value in zip(words, words, strict=True)}
