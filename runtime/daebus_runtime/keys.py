"""Every name that Daebus uses on the bus. docs/protocol.md has the type, content, bound and writers of each key.

name                        kind      writer              reader
<service>                   channel   callers             the service's replicas
caller:<hex>                channel   services            the process that asked (one inbox per process)
<service>.responses         channel   the service         any listener; replies to requests without `reply_to`
any other channel           channel   broadcast.send      listeners
daebus:{<service>}:…        keys      see `ServiceKeys`
daebus:services             key       replicas            `daebus ps`
daebus:{<channel>}:listeners  key     replicas            who sends a durable event
"""

from __future__ import annotations

import re
import uuid

INBOX_PREFIX = "caller:"
GLOB = frozenset("*?[")
SURROGATE = re.compile(r"[\ud800-\udfff]")
"""A lone surrogate: it cannot be encoded as UTF-8. (In Python a pair is already one character.)"""
UNUSABLE = re.compile(r"[\s\x00-\x1f\ud800-\udfff]")
"""White space, control characters and lone surrogates (they cannot be encoded as UTF-8)."""


def service_channel(service: str) -> str:
    """The channel on which a service receives requests: its name, verbatim."""
    return service


def inbox_channel() -> str:
    """A new, unique reply channel for this process."""
    return f"{INBOX_PREFIX}{uuid.uuid4()}"


def responses_channel(service: str) -> str:
    """The channel for replies to requests without `reply_to`."""
    return f"{service}.responses"


OWN_PREFIX = "daebus:"
"""Names that Daebus keeps for itself begin with this."""
SERVICES = "daebus:services"


EVENTS = " events"  # no name of a service has a space


def event_queue(service: str) -> str:
    """The name of the queue of a service's durable events, for `ServiceKeys`."""
    return service + EVENTS


def owner(name: str) -> str:
    """The service that a name is of: itself, or that of an event queue."""
    return name.removesuffix(EVENTS)


def is_event_queue(name: str) -> bool:
    """Whether a name is that of an event queue, not of a service."""
    return name.endswith(EVENTS)


def listeners(channel: str) -> str:
    """The services that listen durably on a channel."""
    return f"{OWN_PREFIX}{{{channel}}}:listeners"


class ServiceKeys:
    """The keys of one service, or of its event queue. The braces are a hash tag: a Cluster has them all on one node."""

    __slots__ = ("_base", "beats", "meta", "outcomes", "replicas", "requests", "signs", "wake")

    def __init__(self, service: str) -> None:
        name = owner(service)
        self._base = base = f"daebus:{{{name}}}:" if name == service else f"daebus:{{{name}}}:events:"
        self.requests = base + ("requests" if name == service else "messages")
        self.replicas = base + "replicas"
        self.beats = base + "beats"
        self.signs = base + "signs"
        self.meta = base + "meta"
        self.outcomes = base + "done:"
        """The beginning of the outcomes' keys; the number of a period follows."""
        self.wake = base + "wake"

    def sender(self, process: str) -> str:
        """The record of what one process has sent."""
        return f"{self._base}sender:{process}"

    def claim(self, digest: str) -> str:
        """Which replica runs a request that came over publish/subscribe."""
        return f"{self._base}claim:{digest}"


def is_pattern(channel: str) -> bool:
    """Whether a `listen` channel is a pattern (`*`, `?` or `[` as in Redis' PSUBSCRIBE)."""
    return not GLOB.isdisjoint(channel)


def check_channel(channel: object) -> str:
    """Returns the channel if it can be published to; ValueError otherwise."""
    if not isinstance(channel, str) or not channel:
        raise ValueError(f"a channel name is a non-empty string, not {channel!r}")
    if len(channel) > 512 or UNUSABLE.search(channel):
        form = "has at most 512 characters, no white space or control characters, and is Unicode"
        raise ValueError(f"a channel name {form}: {channel[:60]!r}")
    return channel
