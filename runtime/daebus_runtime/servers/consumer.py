"""Receives messages from the bus, the service's requests and the broadcasts it listens to, and runs their handlers."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import gevent

from .. import codec
from ..context import Context, Service, call_in_context
from ..context.requests import ListenRequest
from ..context.responses import answering
from ..dispatch import DONE, Handler, Outcome, actions, compose
from ..dispatch.blocking import BlockingPool
from ..dispatch.faults import answer_faults
from ..dispatch.guard import FAULTS
from ..dispatch.measure import measure
from ..dispatch.once import at_most_once
from ..dispatch.pool import Lane, WorkerPool
from ..dispatch.settle import settling
from ..envelope import error_reply
from ..errors import MALFORMED, OVERLOADED, STOPPING
from ..logs import runtime_logger
from ..losses import Losses
from ..metrics import Metrics
from ..registry import Action, Listener
from ..settings import Settings
from ..transport import Delivery, EventSubscription, Subscription, Transport

RETIRE_SECONDS = 1.0  # how long the server may take to confirm the end of the subscriptions
NOT_BEGUN = "was not begun"


class Consumer:
    """The actions and listeners of one application. The setting `concurrency` limits how many messages run at the same
    time, `queue_limit` how many requests, and how many broadcasts, may wait."""

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
        self._losses = Losses(metrics)
        self._pool = WorkerPool(settings.concurrency)
        self._requests = self._pool.lane(settings.queue_limit)
        self._broadcasts = self._pool.lane(settings.queue_limit)
        # Separate lanes: messages that wait for an OS thread must not delay those that need none.
        self._slow_requests = self._pool.lane(settings.queue_limit, blocking.size)
        self._slow_broadcasts = self._pool.lane(settings.queue_limit, blocking.size)
        self._events = self._pool.lane(settings.queue_limit)
        self._slow_events = self._pool.lane(settings.queue_limit, blocking.size)
        self._event_handlers: dict[str, list[Handler]] = {}
        self._event_queue: EventSubscription | None = None
        self._slow: set[str] = set()
        self._slow_channels: set[str] = set()
        self._stopping = False
        metrics.gauge("daebus_queue_length", "Messages that wait for a worker.", lambda: self._pool.waiting)
        metrics.gauge("daebus_in_flight", "Messages being handled.", lambda: self._pool.running)

    def add_action(self, action: Action) -> None:
        """Answer requests for an action."""
        self._begin()
        self._pool.claim(self._requests)
        work = self._metrics.handler("action", action.name)
        if action.blocking:
            self._slow.add(action.name)
        inner = answering(self._app, action.function, self._blocking.run if action.blocking else None)
        once = () if action.redeliver else (at_most_once(f"action {action.name!r}"),)
        self._handlers[action.name] = compose(inner, measure(work), *once, answer_faults)

    def add_listener(self, listener: Listener) -> None:
        """Pass broadcasts on a channel to a listener."""
        self._begin()
        if listener.durable:
            self._add_durable(listener)
            return
        self._pool.claim(self._broadcasts)
        self._subscriptions.append(self._transport.subscribe(listener.channel, self._listening(listener)))

    def _add_durable(self, listener: Listener) -> None:
        self._pool.claim(self._events)
        if self._event_queue is None:
            deliver = self._queueing(settling(self._handle_event), self._events, self._slow_events, self._slow_channels)
            self._event_queue = self._transport.consume_events(self._name, deliver, lambda: self._events.free)
            self._subscriptions.append(self._event_queue)
        if listener.blocking:
            self._slow_channels.add(listener.channel)
        self._event_handlers.setdefault(listener.channel, []).append(self._durable(listener))
        self._event_queue.listen(listener.channel)

    def _begin(self) -> None:
        # A service that only listens also receives requests, so that a caller's mistake gets an error reply at once.
        if not self._subscriptions:
            route = settling(actions.route(self._handlers, self._name, self._losses.lost))
            deliver = self._queueing(route, self._requests, self._slow_requests, self._slow)
            self._subscriptions.append(self._transport.consume(self._name, deliver, lambda: self._requests.free))

    @property
    def wanted(self) -> bool:
        """Whether there are any subscriptions."""
        return bool(self._subscriptions)

    @property
    def confirmed(self) -> bool:
        """Whether the server has confirmed every subscription on the current connection."""
        return all(subscription.confirmed for subscription in self._subscriptions)

    @property
    def refused(self) -> str:
        """Why the server refuses a subscription; empty if it refuses none."""
        return next((subscription.refused for subscription in self._subscriptions if subscription.refused), "")

    @property
    def busy(self) -> int:
        """How many messages are running or waiting."""
        return self._pool.running + self._pool.waiting

    def retire(self) -> None:
        """End the subscriptions; messages that the server has already sent are still accepted."""
        for subscription in self._subscriptions:
            subscription.retire()

    def drain(self, deadline: float) -> None:
        """Wait until `deadline` (time.monotonic) for the accepted messages. Then the rest, and whatever comes later, is
        cut off: callers get an error reply, broadcasts are counted as lost."""
        patience = time.monotonic() + RETIRE_SECONDS
        while not all(subscription.retired for subscription in self._subscriptions) and time.monotonic() < patience:
            gevent.sleep(0.002)
        self._pool.drain(deadline)
        self._stopping = True
        running, queued = self._pool.close()
        for argument in running:
            self._cut_off(argument, "was cut off: it did not finish within DAEBUS_DRAIN_SECONDS")
        for argument in queued:
            self._cut_off(argument, NOT_BEGUN)
        if running or queued:
            runtime_logger.warning(
                "%d messages did not finish within DAEBUS_DRAIN_SECONDS and are cut off", len(running) + len(queued)
            )
        for subscription in self._subscriptions:
            subscription.cancel()

    def _cut_off(self, argument: Any, what: str) -> None:
        self._metrics.drop(STOPPING)
        if isinstance(argument, Delivery):
            text = f"service {self._name!r} is stopping; this request {what}"
            argument.abandon(Outcome(error_reply(argument.request.request_id, text, STOPPING)))

    def _queueing(
        self, handle: Callable[[Delivery], None], lane: Lane, slow_lane: Lane, slow: set[str]
    ) -> Callable[[Delivery], None]:
        """Queues deliveries in `lane`, and those whose action is one of `slow` in `slow_lane`."""
        submit, submit_slow = lane.submit, slow_lane.submit

        def deliver(delivery: Delivery) -> None:
            if (submit_slow if slow and delivery.request.action in slow else submit)(handle, delivery):
                return
            if self._stopping:
                self._cut_off(delivery, NOT_BEGUN)
            else:
                self._metrics.drop(OVERLOADED)
                text = f"service {self._name!r} has {lane.limit} messages waiting and takes no more now"
                delivery.settle(Outcome(error_reply(delivery.request.request_id, text, OVERLOADED)))

        return deliver

    def _listening(self, listener: Listener) -> Callable[[str, bytes], None]:
        work = self._metrics.handler("listener", listener.channel)
        run = self._blocking.run if listener.blocking else None
        submit = (self._slow_broadcasts if listener.blocking else self._broadcasts).submit

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
            if submit(handle, (channel, data)):
                return
            if self._stopping:
                self._cut_off(None, NOT_BEGUN)
            else:
                text = f"a broadcast for the {listener.title} is dropped: {self._broadcasts.limit} are waiting already"
                self._losses.lost(OVERLOADED, text)

        return arrived

    def _durable(self, listener: Listener) -> Handler:
        name = f"{listener.function.__module__}.{listener.function.__qualname__}"
        work = self._metrics.handler("listener", listener.channel)
        run = self._blocking.run if listener.blocking else None

        def handle(delivery: Delivery) -> Outcome:
            context = Context(self._app, delivery.request, handler=name)
            begun, error = time.perf_counter(), None
            try:
                call_in_context(context, listener.function, delivery.request.payload, run=run)
            except FAULTS as fault:
                error = fault
                runtime_logger.exception("%s failed (event %s)", listener.title, delivery.request.request_id)
            work.done(time.perf_counter() - begun, error is not None)
            return Outcome(error=error)

        return handle if listener.redeliver else compose(handle, at_most_once(listener.title))

    def _handle_event(self, delivery: Delivery) -> Outcome:
        """Run the listeners of an event's channel, one after the other. One that fails takes only its own commands of
        `request.commit` with it."""
        for handler in self._event_handlers[delivery.request.action or ""]:
            before = delivery.savepoint()
            if handler(delivery).error is not None:
                delivery.rollback(before)
        return DONE

    def _object(self, channel: str, data: bytes) -> dict[str, Any] | None:
        try:
            payload = codec.loads(data)
        except ValueError:
            payload = None
        if isinstance(payload, dict):
            return payload
        self._losses.lost(MALFORMED, f"a message on channel {channel!r} was refused: it is no JSON object")
        return None
