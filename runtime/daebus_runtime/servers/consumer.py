"""Takes in what comes over the bus: requests to the service and broadcasts it listens to, each on a worker greenlet."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import gevent

from .. import codec
from ..context import Context, ListenRequest, Service, answering, call_in_context
from ..dispatch import Handler, Outcome, actions, compose
from ..dispatch.blocking import BlockingPool
from ..dispatch.faults import answer_faults
from ..dispatch.guard import FAULTS
from ..dispatch.measure import measure
from ..dispatch.pool import WorkerPool
from ..dispatch.settle import settling
from ..envelope import error_reply
from ..errors import MALFORMED, OVERLOADED
from ..logs import runtime_logger
from ..metrics import Metrics
from ..registry import Action, Listener
from ..settings import Settings
from ..transport import Delivery, Subscription, Transport

RETIRE_SECONDS = 1.0  # how long the bus may take to confirm that it sends no more


class Consumer:
    """The actions and listeners of one application. `concurrency` and `queue_limit` of the settings bound its work."""

    def __init__(
        self,
        app: Service,
        name: str,
        transport: Transport,
        settings: Settings,
        blocking: BlockingPool,
        metrics: Metrics,
    ) -> None:
        self._app, self._name, self._transport = app, name, transport
        self._blocking, self._metrics = blocking, metrics
        self._handlers: dict[str, Handler] = {}
        self._subscriptions: list[Subscription] = []
        self._pool = WorkerPool(settings.concurrency, settings.queue_limit)
        metrics.gauge("daebus_queue_length", "Messages that wait for a worker.", lambda: self._pool.waiting)
        metrics.gauge("daebus_in_flight", "Messages being handled.", lambda: self._pool.running)

    def add_action(self, action: Action) -> None:
        """Answer requests for an action."""
        self._begin()
        work = self._metrics.handler("action", action.name)
        inner = answering(self._app, action.function, self._blocking.run if action.blocking else None)
        self._handlers[action.name] = compose(inner, measure(work), answer_faults)

    def add_listener(self, listener: Listener) -> None:
        """Hand broadcasts on a channel to a listener."""
        self._begin()
        self._subscriptions.append(self._transport.subscribe(listener.channel, self._listening(listener)))

    def _begin(self) -> None:
        # Also a service that only listens is asked for its requests: whoever calls it by mistake is answered at once.
        if not self._subscriptions:
            deliver = self._delivering(actions.route(self._handlers, self._name))
            self._subscriptions.append(self._transport.consume(self._name, deliver))

    @property
    def wanted(self) -> bool:
        """Whether anything is subscribed at all."""
        return bool(self._subscriptions)

    @property
    def confirmed(self) -> bool:
        """Whether the bus has confirmed every subscription on the connection of this moment."""
        return all(subscription.confirmed for subscription in self._subscriptions)

    @property
    def busy(self) -> int:
        """How many messages are being handled or wait."""
        return self._pool.running + self._pool.waiting

    def retire(self) -> None:
        """Give up the subscriptions; what the bus has sent already is still taken in."""
        for subscription in self._subscriptions:
            subscription.retire()

    def drain(self, deadline: float) -> None:
        """Wait for what was taken in until `deadline` (time.monotonic); the rest is discarded and said."""
        patience = time.monotonic() + RETIRE_SECONDS
        while not all(subscription.retired for subscription in self._subscriptions) and time.monotonic() < patience:
            gevent.sleep(0.002)
        if not self._pool.drain(deadline):
            left = self._pool.running + self._pool.discard()
            runtime_logger.warning("%d messages did not finish within DAEBUS_DRAIN_SECONDS and are cut off", left)

    def _delivering(self, route: Handler) -> Callable[[Delivery], None]:
        handle = settling(route)

        def deliver(delivery: Delivery) -> None:
            if not self._pool.submit(handle, delivery):
                self._metrics.drop(OVERLOADED)
                text = f"service {self._name!r} has {self._pool.queue_limit} messages waiting and takes no more now"
                delivery.settle(Outcome(error_reply(delivery.request.request_id, text, OVERLOADED)))

        return deliver

    def _listening(self, listener: Listener) -> Callable[[str, bytes], None]:
        work = self._metrics.handler("listener", listener.channel)
        run = self._blocking.run if listener.blocking else None

        def handle(message: tuple[str, bytes]) -> None:
            channel, data = message
            payload = self._object(channel, data)
            if payload is None:
                return
            context = Context(self._app, ListenRequest(self._name, channel, payload))
            begun, failed = time.perf_counter(), False
            try:
                call_in_context(context, listener.function, payload, run=run)
            except FAULTS:
                failed = True
                runtime_logger.exception("%s failed", listener.title)
            work.done(time.perf_counter() - begun, failed)

        def arrived(channel: str, data: bytes) -> None:
            if not self._pool.submit(handle, (channel, data)):
                self._metrics.drop(OVERLOADED)

        return arrived

    def _object(self, channel: str, data: bytes) -> dict[str, Any] | None:
        try:
            payload = codec.loads(data)
        except ValueError:
            payload = None
        if isinstance(payload, dict):
            return payload
        self._metrics.drop(MALFORMED)
        runtime_logger.warning("a message on channel %r was refused: it is no JSON object", channel)
        return None
