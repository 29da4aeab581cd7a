"""What features see of the bus: the `Transport` interface. Nothing here or below knows handlers, HTTP or the command
line.

    publish, subscribe            broadcasts: bytes on a channel, to whoever listens
    send, consume                 requests: to a service, with a `Delivery` to answer and settle on the other side
    request                       send, and wait for the reply
    capabilities                  what this transport promises, asked before a feature relies on it

A transport stands on a `Bus` (`bus.py`: connections, publishing, `Channels` and `Inbox`); a process has one bus for an
address, and transports share it. `compatible.py` is the transport of the compatible layer, over `redis.py` or
`memory.py` (tests). Callbacks run on the home loop (`home.py`) and must not block; every method may be called from any
greenlet and any OS thread.
"""

from __future__ import annotations

import abc
import dataclasses
import enum
from collections.abc import Callable

from ..envelope import Reply, Request
from ..settings import Settings
from .delivery import DONE, Delivery, Outcome


class State(enum.Enum):
    """What a transport says about its connection."""

    CONNECTING = "connecting"
    UP = "up"
    DOWN = "down"
    CLOSED = "closed"


@dataclasses.dataclass(frozen=True)
class Capabilities:
    """What a transport promises.

    durable: a sent request waits for its service. competing: one replica runs a request, not every one.
    redelivery: an outcome with `retry_after` is delivered again; without it, it is answered.
    """

    durable: bool = False
    competing: bool = False
    redelivery: bool = False


@dataclasses.dataclass(frozen=True)
class Limits:
    """`message`: the largest encoded message, in bytes. `send_seconds`: how long a publish waits for a lost bus."""

    message: int
    send_seconds: float

    @classmethod
    def of(cls, settings: Settings) -> Limits:
        return cls(settings.message_limit, settings.send_seconds)


class Subscription(abc.ABC):
    """What `subscribe` and `consume` give back."""

    @abc.abstractmethod
    def cancel(self) -> None:
        """No callback begins after this returns on the home loop."""

    @abc.abstractmethod
    def retire(self) -> None:
        """Ask the bus for no more, and take in what it had sent before it heard that; then `retired` is True."""

    @property
    @abc.abstractmethod
    def retired(self) -> bool:
        """Whether nothing more can come."""

    @property
    @abc.abstractmethod
    def confirmed(self) -> bool:
        """Whether the server has acknowledged it on the connection of this moment."""

    @property
    @abc.abstractmethod
    def refused(self) -> str:
        """Why the server does not allow it, with the right that is missing; empty when it does, or has not said yet."""


Message = Callable[[str, bytes], None]
Progress = Callable[[Reply], None]


class Transport(abc.ABC):
    """One bus, as one process sees it."""

    capabilities: Capabilities

    @abc.abstractmethod
    def open(self) -> None:
        """Begin to connect; returns at once. Opening twice does nothing."""

    @abc.abstractmethod
    def close(self) -> None:
        """Give back every connection; waiting calls fail with BusUnavailable."""

    @abc.abstractmethod
    def flush(self, timeout: float) -> bool:
        """Wait until the bus has taken in what was sent so far; False when it has not within `timeout` seconds."""

    @property
    @abc.abstractmethod
    def state(self) -> State: ...

    @property
    @abc.abstractmethod
    def reason(self) -> str:
        """Why the state is what it is, as far as that is known: the latest error while there is no connection."""

    @abc.abstractmethod
    def watch(self, callback: Callable[[State, str], None]) -> None:
        """Be told each change of state, with its reason."""

    @abc.abstractmethod
    def observe(self, callback: Callable[[str, bytes], None]) -> None:
        """Be told (channel, data) of everything that is published through this bus, before it is. For tests."""

    @abc.abstractmethod
    def publish(self, channel: str, data: bytes) -> int:
        """Publish; the number of receivers. BusUnavailable when there is no bus for `send_seconds`; NotPermitted;
        BusRefused; MessageTooLarge."""

    @abc.abstractmethod
    def subscribe(self, channel: str, callback: Message) -> Subscription:
        """Call `callback(channel, data)` for each message; `channel` may be a pattern (`*`, `?`, `[`). Survives
        outages."""

    @abc.abstractmethod
    def send(self, request: Request) -> int:
        """Send a request without waiting for its reply; the number of receivers. One with `raw` travels as that."""

    @abc.abstractmethod
    def consume(
        self, service: str, callback: Callable[[Delivery], None], room: Callable[[], int] | None = None
    ) -> Subscription:
        """Receive the requests of `service`. What cannot be read as a request is answered where possible and
        counted.

        room: how many further deliveries can be taken now. A transport that reads from a stream asks before each read
        and reads no more than that; one that is pushed to (pub/sub) has no choice, and ignores it.
        """

    @abc.abstractmethod
    def request(self, request: Request, timeout: float, on_progress: Progress | None = None) -> Reply:
        """Send a request and wait for its final reply.

        Intermediate replies go to `on_progress`, in the caller's own greenlet or thread. Fills `reply_to` and, when
        it is None, `request_id`. CallTimeout after `timeout` seconds; BusUnavailable when the bus is away for all of
        them or is lost while the request is on its way; NotPermitted and BusRefused at once; MessageTooLarge.
        """


__all__ = [
    "DONE",
    "Capabilities",
    "Delivery",
    "Limits",
    "Message",
    "Outcome",
    "Progress",
    "State",
    "Subscription",
    "Transport",
]
