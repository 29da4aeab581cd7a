"""The `Transport` interface: all that features know of the bus. This package knows nothing of handlers, HTTP and the
command line.

    publish, subscribe            broadcasts: bytes on a channel, to all listeners
    send, consume                 requests to a service; the service gets a `Delivery`, which it answers and settles
    request                       send a request and wait for the reply
    capabilities                  what this transport guarantees; check it before relying on it

A transport uses a `Bus` (`bus.py`: connections, publishing, `Channels` and `Inbox`). A process has one bus per address,
shared by its transports. `compatible.py` is the transport of the compatible layer, over `redis.py` or `memory.py`
(tests). Callbacks run on the home loop (`home.py`) and must not block. Every method may be called from any greenlet and
any OS thread.
"""

from __future__ import annotations

import abc
import dataclasses
import enum
from collections.abc import Callable

from ..envelope import Reply, Request
from ..settings import Settings
from .delivery import DONE, Delivery, Outcome
from .keeping import Keeping


class State(enum.Enum):
    """The state of a transport's connection."""

    CONNECTING = "connecting"
    UP = "up"
    DOWN = "down"
    CLOSED = "closed"


@dataclasses.dataclass(frozen=True)
class Capabilities:
    """What a transport guarantees.

    durable: a request is stored until its service takes it. competing: one replica runs a request, instead of all.
    redelivery: a request whose outcome has `retry_after` is delivered again; otherwise its reply is sent.
    """

    durable: bool = False
    competing: bool = False
    redelivery: bool = False


@dataclasses.dataclass(frozen=True)
class Limits:
    """`message`: the largest encoded message, in bytes. `send_seconds`: how long a publish waits for a lost bus.
    `queue`: how many requests may wait for a service of this process, over all its replicas."""

    message: int
    send_seconds: float
    queue: int = 10_000

    @classmethod
    def of(cls, settings: Settings) -> Limits:
        return cls(settings.message_limit, settings.send_seconds, settings.queue_limit)


class Subscription(abc.ABC):
    """Returned by `subscribe` and `consume`."""

    @abc.abstractmethod
    def cancel(self) -> None:
        """End it at once: after this has run on the home loop, no callback starts."""

    @abc.abstractmethod
    def retire(self) -> None:
        """Unsubscribe, but still deliver what the server sent first; `retired` is True once nothing more can arrive."""

    @property
    @abc.abstractmethod
    def retired(self) -> bool:
        """Whether nothing more can arrive."""

    @property
    @abc.abstractmethod
    def confirmed(self) -> bool:
        """Whether the server has acknowledged it on the current connection."""

    @property
    @abc.abstractmethod
    def refused(self) -> str:
        """Why the server refuses it, with the missing permission; empty if it is allowed or not answered yet."""


class EventSubscription(Subscription):
    """Returned by `consume_events`."""

    @abc.abstractmethod
    def listen(self, channel: str) -> None:
        """Receive the events of a channel, from now on."""


Message = Callable[[str, bytes], None]
Progress = Callable[[Reply], None]


class Transport(abc.ABC):
    """One bus, as one process sees it."""

    capabilities: Capabilities

    @abc.abstractmethod
    def open(self) -> None:
        """Start to connect; returns at once. Does nothing if it is already open."""

    @abc.abstractmethod
    def close(self) -> None:
        """Close all connections; waiting calls fail with BusUnavailable."""

    @abc.abstractmethod
    def flush(self, timeout: float) -> bool:
        """Wait until the server has processed everything sent so far; False if that takes longer than `timeout`."""

    @property
    @abc.abstractmethod
    def state(self) -> State: ...

    @property
    @abc.abstractmethod
    def reason(self) -> str:
        """The reason for the state, if known: the latest error while there is no connection."""

    @abc.abstractmethod
    def watch(self, callback: Callable[[State, str], None]) -> None:
        """Call `callback(state, reason)` at each change of state."""

    @abc.abstractmethod
    def observe(self, callback: Callable[[str, bytes], None]) -> None:
        """Call `callback(channel, data)` before each message that this bus publishes. For tests."""

    def keeping(self) -> Keeping | None:
        """How the server keeps what is stored; None if there is no server. BusError. May wait."""
        return None

    @abc.abstractmethod
    def publish(self, channel: str, data: bytes) -> int:
        """Publish; returns the number of receivers. BusUnavailable if there is no connection for `send_seconds`;
        NotPermitted; BusRefused; MessageTooLarge."""

    @abc.abstractmethod
    def subscribe(self, channel: str, callback: Message) -> Subscription:
        """Call `callback(channel, data)` for each message; `channel` may be a pattern (`*`, `?`, `[`). Renewed after
        an outage."""

    @abc.abstractmethod
    def send(self, request: Request) -> int:
        """Send a request without waiting for its reply; sends `raw` if it is set.

        Returns 1 once the server has stored it; the number of receivers if the service speaks the compatible layer
        only; 0 if nobody will get it. BusUnavailable after `send_seconds`; Overloaded."""

    @abc.abstractmethod
    def consume(
        self, service: str, callback: Callable[[Delivery], None], room: Callable[[], int] | None = None
    ) -> Subscription:
        """Receive the requests of `service`. A message that is not a valid request is counted and, if possible,
        answered with an error.

        room: returns how many further deliveries can be taken now. A transport that reads from a stream calls it before
        each read and reads at most that many. With pub/sub the server decides, so it is ignored.
        """

    @abc.abstractmethod
    def send_event(self, event: Request) -> int:
        """Store an event for each service that listens durably on its channel, which is its `action`, and publish its
        payload once for plain listeners.

        Returns for how many services it is stored. BusUnavailable after `send_seconds`; Overloaded if the queue of one
        is full (others may have it then); Unsupported."""

    @abc.abstractmethod
    def consume_events(
        self, service: str, callback: Callable[[Delivery], None], room: Callable[[], int]
    ) -> EventSubscription:
        """Receive the durable events of a service: each goes to one of its replicas. Unsupported. The requests of the
        deliveries are `EventRequest`s; `room` as in `consume`."""

    @abc.abstractmethod
    def request(self, request: Request, timeout: float, on_progress: Progress | None = None) -> Reply:
        """Send a request and wait for its final reply.

        Intermediate replies go to `on_progress`, in the caller's greenlet or thread. Sets `reply_to` and, if it is
        None, `request_id`. CallTimeout after `timeout` seconds; BusUnavailable if there is no connection during all of
        them, or if it is lost while the request is sent; NotPermitted and BusRefused at once; MessageTooLarge.
        """


__all__ = [
    "DONE",
    "Capabilities",
    "Delivery",
    "EventSubscription",
    "Limits",
    "Message",
    "Outcome",
    "Progress",
    "State",
    "Subscription",
    "Transport",
]
