"""What holds for the keys of the durable layer after every step: each has a TTL or a cap, and the lag is true."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import redis

CAPPED: frozenset[str] = frozenset()
"""Keys without a TTL: bounded otherwise, see docs/protocol.md."""
GROUP = "workers"


def requests_of(service: str) -> str:
    """The stream of a service."""
    return f"daebus:{{{service}}}:requests"


def unbounded(client: redis.Redis) -> list[str]:
    """Our keys that have neither a TTL nor a cap."""
    names = [name for name in client.scan_iter("daebus:*", count=1000) if name not in CAPPED]
    pipe = client.pipeline(transaction=False)
    for name in names:
        pipe.pttl(name)
    return [name for name, left in zip(names, pipe.execute(), strict=True) if left == -1]  # -2: it has gone meanwhile


def group(client: redis.Redis, service: str) -> dict[str, Any]:
    """What the server says about the group of a service."""
    groups: Iterable[dict[str, Any]] = client.xinfo_groups(requests_of(service))
    return next(one for one in groups if one["name"] == GROUP)


def untrue_lags(client: redis.Redis) -> list[str]:
    """The streams whose lag the server does not know, or that is not the number of unread entries."""
    patterns = ("daebus:*:requests", "daebus:*:events:messages")
    names = [name for pattern in patterns for name in client.scan_iter(pattern, count=1000)]
    return [name for name in names if not _is_true(client, name)]


def _is_true(client: redis.Redis, name: str) -> bool:
    # In one step, since messages may come and go meanwhile.
    pipe = client.pipeline(transaction=True)
    pipe.xinfo_groups(name)
    pipe.xrange(name)
    groups, entries = pipe.execute()
    return all(
        one["lag"] == sum(_place(key) > _place(one["last-delivered-id"]) for key, _ in entries) for one in groups
    )


def _place(entry: str) -> tuple[int, int]:
    ms, _, number = entry.partition("-")
    return int(ms), int(number)


def check(client: redis.Redis) -> None:
    """Fails if a key of ours may grow for ever, or a lag is not true."""
    assert not unbounded(client)
    assert not untrue_lags(client)
