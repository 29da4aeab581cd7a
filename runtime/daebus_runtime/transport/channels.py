"""The subscriptions of this process, by channel name. Subscribes to a name on the bus with the first listener, and
unsubscribes with the last."""

from __future__ import annotations

from typing import Protocol

from ..errors import BusError
from ..logs import runtime_logger
from . import Message, Subscription
from .home import Home


class Listens(Protocol):
    """What subscriptions need of their bus."""

    @property
    def home(self) -> Home: ...

    def listen(self, name: str) -> None:
        """Subscribe to a channel or pattern on the server."""

    def unlisten(self, name: str) -> None: ...

    def is_confirmed(self, name: str) -> bool: ...

    def refusal(self, name: str) -> BusError | None: ...


def _ignore(channel: str, data: bytes) -> None:
    pass


class ChannelSubscription(Subscription):
    """One callback on one name."""

    def __init__(self, channels: Channels, name: str, callback: Message) -> None:
        self._channels, self.name, self.callback = channels, name, callback
        self.retiring = False

    def cancel(self) -> None:
        self._channels.run(self._channels.remove, self)

    def retire(self) -> None:
        self._channels.run(self._channels.retire, self)

    @property
    def retired(self) -> bool:
        return self not in self._channels.of(self.name)

    @property
    def confirmed(self) -> bool:
        return self._channels.bus.is_confirmed(self.name)

    @property
    def refused(self) -> str:
        refusal = self._channels.bus.refusal(self.name)
        return "" if refusal is None else f"the subscription to {self.name!r} is refused: {refusal}"


class Channels:
    """The subscriptions of a bus. Everything but `subscribe` runs on the home loop."""

    def __init__(self, bus: Listens) -> None:
        self.bus = bus
        self.run = bus.home.run
        self._by_name: dict[str, tuple[ChannelSubscription, ...]] = {}

    @property
    def names(self) -> list[str]:
        return list(self._by_name)

    def of(self, name: str) -> tuple[ChannelSubscription, ...]:
        """The subscriptions to a name."""
        return self._by_name.get(name, ())

    def subscribe(self, name: str, callback: Message) -> ChannelSubscription:
        """Call `callback(channel, data)` for each message; from any greenlet or thread."""
        subscription = ChannelSubscription(self, name, callback)
        self.run(self._add, subscription)
        return subscription

    def _add(self, subscription: ChannelSubscription) -> None:
        there = self.of(subscription.name)
        self._by_name[subscription.name] = (*there, subscription)
        if all(other.retiring for other in there):
            self.bus.listen(subscription.name)

    def remove(self, subscription: ChannelSubscription) -> None:
        """After this, no callback starts."""
        there = self.of(subscription.name)
        if subscription not in there:
            return
        subscription.callback = _ignore  # `arrived` may just be iterating over `there`
        left = tuple(other for other in there if other is not subscription)
        if left:
            self._by_name[subscription.name] = left
        else:
            del self._by_name[subscription.name]
        if not subscription.retiring and all(other.retiring for other in left):
            self.bus.unlisten(subscription.name)

    def retire(self, subscription: ChannelSubscription) -> None:
        """See `Subscription.retire`."""
        there = self.of(subscription.name)
        if subscription in there and not subscription.retiring:
            subscription.retiring = True
            if all(other.retiring for other in there):
                self.bus.unlisten(subscription.name)

    def ended(self, name: str) -> None:
        """Called by the bus: nothing more can arrive for the subscriptions that retire."""
        for subscription in self.of(name):
            if subscription.retiring:
                self.remove(subscription)

    def arrived(self, name: str, channel: str, data: bytes) -> None:
        """Called by the bus for each message. If `name` is a pattern, `channel` is the channel that matched."""
        for subscription in self._by_name.get(name, ()):
            try:
                subscription.callback(channel, data)
            except Exception:
                runtime_logger.exception("a message on channel %r could not be processed", channel)
