"""Which services there are on a bus, who runs them, and what waits for them. For programs of any kind: it needs no
service, no gevent, and leaves no connection open. `daebus ps` and `daebus register` are made of it.

    from daebus_runtime.services import list_services, register

    for service in list_services():
        print(service.name, len(service.replicas), service.lag)
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from . import codec, keys, settings
from .errors import BusError, ConfigurationError, Unsupported
from .settings import UNSET, given
from .transport import shared, topology
from .transport.durable.directory import Directory
from .transport.durable.look import Look, number
from .transport.durable.pulse import BEAT_SECONDS
from .transport.durable.steps import Bounds

__all__ = ["Census", "ReplicaInfo", "ServiceInfo", "list_services", "register"]

SILENT_SECONDS = 3.0
"""A replica that gave no sign of life for so long is shown as silent. The others take its messages after 8.5 s."""
JITTER_SECONDS = 10.0
MOST_TEXT = 100
MOST_ASKED = 10_000  # services in one question


@dataclasses.dataclass(frozen=True)
class ReplicaInfo:
    """One running copy of a service. None: not known, for example because a clock was set back.

    protocols: versions of the protocol on the bus that it speaks. uptime: seconds since it started. silent: seconds
    since its last sign of life; it gives four a second. alive: whether that is less than 3.
    """

    name: str
    version: str | None
    protocols: tuple[int, ...]
    host: str | None
    pid: int | None
    uptime: float | None
    silent: float | None

    @property
    def alive(self) -> bool | None:
        return None if self.silent is None else self.silent < SILENT_SECONDS


@dataclasses.dataclass(frozen=True)
class ServiceInfo:
    """One service. Ages are in seconds, by the server's clock; None: not known, or nothing is there.

    known: whether a replica, or `register`, has made it known; if not, somebody only listens on the channel of this
    name, which is all that a program on the original Daebus does. lag: messages that no replica has read. pending:
    those that were read and are not done. oldest_unread, oldest_unfinished: the age of the oldest of each. seen: since
    a replica last gave a sign of life. replica_count: also counts those that are too many to be in `replicas`.
    listeners: subscriptions to its channel, each replica included. problem: why it cannot be read; empty if it can.
    """

    name: str
    known: bool = True
    replicas: tuple[ReplicaInfo, ...] = ()
    replica_count: int = 0
    lag: int | None = None
    pending: int | None = None
    oldest_unread: float | None = None
    oldest_unfinished: float | None = None
    seen: float | None = None
    listeners: int | None = None
    problem: str = ""

    @property
    def protocols(self) -> tuple[int, ...]:
        """All that its replicas speak; (1,) if somebody only listens on its channel."""
        if not self.known:
            return (1,)
        return tuple(sorted({number for replica in self.replicas for number in replica.protocols}))

    @property
    def versions(self) -> tuple[str, ...]:
        """The versions of Daebus that its replicas run on."""
        return tuple(sorted({replica.version for replica in self.replicas if replica.version is not None}))

    @property
    def uptime(self) -> float | None:
        """That of the replica that runs longest, silent ones left out."""
        running = [replica.uptime for replica in self.replicas if replica.alive is not False]
        return max((uptime for uptime in running if uptime is not None), default=None)

    @property
    def silent(self) -> tuple[ReplicaInfo, ...]:
        """The replicas that give no signs of life: dead, stopped, or cut off from the bus."""
        return tuple(replica for replica in self.replicas if replica.alive is False)

    @property
    def oldest(self) -> float | None:
        """The age of the oldest message that is not done."""
        return max((age for age in (self.oldest_unread, self.oldest_unfinished) if age is not None), default=None)

    def as_dict(self) -> dict[str, Any]:
        """For JSON: all fields and properties."""
        replicas = [{**dataclasses.asdict(replica), "alive": replica.alive} for replica in self.replicas]
        derived = {name: getattr(self, name) for name in ("protocols", "versions", "uptime", "oldest")}
        return {**dataclasses.asdict(self), **derived, "replicas": replicas}


def list_services(*names: str, redis_url: str = UNSET) -> list[ServiceInfo]:
    """The services on a bus, by name; then the names that somebody listens on without being a known service. With
    names: those of them that are there. The queue of a service's durable events is one too, named "<service> events".

    redis_url: the bus; if not given `DAEBUS_REDIS_URL`, else the bus of the service in this process, else
    localhost:6379. Two round trips for any number of services. Raises BusUnavailable, NotPermitted (names what is
    missing), BusRefused, and ConfigurationError for an address or a name that cannot be used.
    """
    with Census(redis_url) as census:
        return census.services(names)


def register(*names: str, redis_url: str = UNSET) -> list[str]:
    """Make services known before they first run, so that what is sent to them is stored. They stay known for 90 days.

    Returns those that were not known; for the others nothing changes, except that the 90 days begin anew. Arguments and
    errors as of `list_services`.
    """
    with Census(redis_url) as census:
        return census.register(names)


class Census:
    """Asks one bus, over a connection that stays open until `close`. Arguments and errors as of `list_services`."""

    def __init__(self, redis_url: str = UNSET) -> None:
        if shared.is_overridden():
            raise Unsupported("a bus in memory, as in TestApp, has no list of services")
        url = redis_url if given(redis_url) else settings.load().settings.redis_url or shared.default_url()
        self._directory = Directory(topology.of(url or settings.redis_url_of("localhost", settings.DEFAULT_REDIS_PORT)))
        self.unheard: BusError | None = None
        """Why the server does not say who listens on channels; None if it does."""

    def services(self, names: Sequence[str] = ()) -> list[ServiceInfo]:
        names = [_checked(name) for name in names]
        listed, heard = self._directory.names()
        self.unheard = heard if isinstance(heard, BusError) else None
        names = [one for name in names for one in (name, keys.event_queue(name))]
        wanted = dict.fromkeys(names) or dict.fromkeys(map(_text, listed))
        if not names and not isinstance(heard, BusError):
            # Among those may be services that are not on the list, because somebody removed it.
            wanted.update(dict.fromkeys(name for name in map(_text, heard) if _may_be_service(name)))
        unusable = [name for name in wanted if _problem(name)]
        asked = [name for name in wanted if not _problem(name)][:MOST_ASKED]
        looks, counts = self._directory.look(asked, asked)
        if isinstance(counts, BusError):
            self.unheard = self.unheard or counts
            counts = [0] * len(asked)
        found = [ServiceInfo(name, problem=_problem(name)) for name in unusable]
        events = set() if names else _events(looks)
        for name, look, listeners in zip(asked, looks, counts, strict=True):
            if look is not None or (listeners and name not in events):
                found.append(_service(name, look, None if self.unheard else listeners))
        return sorted(found, key=lambda service: (not service.known, service.name))

    def register(self, names: Sequence[str]) -> list[str]:
        names = list(dict.fromkeys(map(_checked, names)))
        made = self._directory.register(names, Bounds())
        return [name for name, new in zip(names, made, strict=True) if new]

    def close(self) -> None:
        self._directory.close()

    def __enter__(self) -> Census:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


# --- what the server has, made sense of -------------------------------------------------------------------------------


def _text(name: bytes) -> str:
    return name.decode("utf-8", "backslashreplace")


def _checked(name: str) -> str:
    return str(settings.parse("service", name, "a service"))


def _problem(name: str) -> str:
    """Why a name on the list cannot be that of a service or its event queue; empty if it can."""
    try:
        _checked(keys.owner(name))
    except ConfigurationError:
        return "this is no name of a service"
    return ""


def _may_be_service(channel: str) -> bool:
    return not channel.startswith((keys.INBOX_PREFIX, keys.OWN_PREFIX)) and not _problem(channel)


def _service(name: str, look: Look | BusError | None, listeners: int | None) -> ServiceInfo:
    if look is None:
        return ServiceInfo(name, known=False, listeners=listeners)
    if isinstance(look, BusError):
        return ServiceInfo(name, listeners=listeners, problem=str(look))
    return ServiceInfo(
        name,
        replicas=tuple(_replica(look, replica) for replica in sorted(look.replicas)),
        replica_count=look.members,
        lag=look.lag,
        pending=look.pending,
        oldest_unread=look.age(look.unread),
        oldest_unfinished=look.age(look.unfinished),
        seen=_seen(look),
        listeners=listeners,
        problem="" if look.pending is not None else "its group is gone; a replica that starts makes it anew",
    )


def _seen(look: Look) -> float | None:
    signs = map(number, look.signs.values())
    return min((age for moment in (look.seen, *signs) if (age := look.age(moment)) is not None), default=None)


def _replica(look: Look, name: str) -> ReplicaInfo:
    about = _about(look.replicas[name])
    pid, host = about.get("pid"), about.get("host")
    return ReplicaInfo(
        name,
        version=_short(about.get("version")),
        protocols=tuple(number for number in _list(about.get("protocols")) if type(number) is int and 0 < number < 100),
        host=_short(host),
        pid=pid if type(pid) is int else None,
        uptime=_uptime(look, about, number(look.beats.get(name)) or 0),
        silent=look.age(number(look.signs.get(name))),
    )


def _uptime(look: Look, about: Mapping[str, Any], beats: int) -> float | None:
    up, registered = about.get("up"), about.get("registered")
    if not isinstance(up, (int, float)) or not isinstance(registered, int) or not 0 <= up < 1e10:
        return None
    since = look.age(registered)
    # Each beat took its time, whatever the server's clock says: if there are too many, that clock was set back.
    if since is None or since + JITTER_SECONDS < beats * BEAT_SECONDS:
        return None
    return round(since + up, 3)


def _about(text: bytes) -> Mapping[str, Any]:
    try:
        about = codec.loads(text)
    except ValueError:
        return {}
    return about if isinstance(about, dict) else {}


def _list(value: Any) -> list[Any]:
    return value[:MOST_TEXT] if isinstance(value, list) else []


def _short(value: Any) -> str | None:
    return value[:MOST_TEXT] if isinstance(value, str) else None


def _events(looks: Iterable[Look | BusError | None]) -> set[str]:
    """The channels that replicas say they listen on, which are therefore no services."""
    replicas = (text for look in looks if isinstance(look, Look) for text in look.replicas.values())
    return {name for text in replicas for name in _list(_about(text).get("listens")) if isinstance(name, str)}
