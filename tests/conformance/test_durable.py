"""What the durable layer promises on every bus: one replica for each message, nothing lost, deadlines, bounds."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import gevent
import pytest
from daebus_runtime import errors
from daebus_runtime.envelope import Request
from daebus_runtime.transport import DONE, Delivery, Subscription, Transport

from tests.conformance.buses import DURABLE, Bus, answer, ask, echo, fresh
from tests.support.waiting import wait_until

KINDS = DURABLE


class Replica:
    """A member that serves a name, with room for `room` messages; it runs each that begins."""

    def __init__(self, member: Transport, service: str, handle: Callable[[Delivery], Any], room: int = 100) -> None:
        self.running: list[Delivery] = []
        self.waiting: list[Delivery] = []
        self.room, self._handle = room, handle
        self.subscription: Subscription = member.consume(service, self._take, lambda: self.room - len(self.running))
        wait_until(lambda: self.subscription.confirmed, 5, f"the confirmation of {service!r}")

    def _take(self, delivery: Delivery) -> None:
        self.running.append(delivery)
        gevent.spawn(self._run, delivery)

    def _run(self, delivery: Delivery) -> None:
        if delivery.begin():
            self._handle(delivery)
        self.running.remove(delivery)


def never(delivery: Delivery) -> None:
    """A handler that does not end before its replica leaves."""
    gevent.sleep(3600)


def test_a_service_that_never_ran_here_is_an_error_at_once(bus: Bus) -> None:
    caller = bus.open_member()
    seconds = []
    for _ in range(3):
        begun = time.perf_counter()
        with pytest.raises(errors.UnknownService, match=r"service 'service-.*', action 'do'"):
            ask(caller, fresh("service"), timeout=30)
        seconds.append(time.perf_counter() - begun)
    assert min(seconds) < 1, seconds
    assert caller.send(Request(fresh("service"), "do")) == 0


def test_each_request_runs_in_one_replica(bus: Bus) -> None:
    caller, seen, name = bus.member(), list[Any](), fresh("service")
    for _ in range(3):

        def handle(delivery: Delivery) -> None:
            seen.append(delivery.request.payload)
            gevent.sleep(0.001)
            echo(delivery)

        Replica(bus.member(), name, handle, room=2)
    calls = [gevent.spawn(ask, caller, name, number) for number in range(200)]
    assert [call.get(timeout=20).payload for call in calls] == list(range(200))
    assert sorted(seen) == list(range(200))


def test_a_service_without_replicas_is_waited_for(bus: Bus) -> None:
    caller, name = bus.member(), fresh("service")
    first = Replica(bus.member(), name, echo)
    assert ask(caller, name, 1).payload == 1
    first.subscription.retire()
    # As a service does when it ends: else its last read could still take the messages, which counts as an attempt.
    wait_until(lambda: first.subscription.retired)
    first.subscription.cancel()
    call = gevent.spawn(ask, caller, name, 2)
    stored = gevent.spawn(caller.send, Request(name, "note", {"n": 3}))
    assert stored.get(timeout=5) == 1
    assert not call.ready()
    seen: list[Any] = []

    def handle(delivery: Delivery) -> None:
        seen.append((delivery.request.action, delivery.request.redelivered))
        echo(delivery)

    Replica(bus.member(), name, handle)
    assert call.get(timeout=5).payload == 2
    wait_until(lambda: len(seen) == 2)
    assert sorted(seen) == [("do", False), ("note", False)]


def test_what_a_replica_did_not_finish_runs_elsewhere_with_the_same_id(bus: Bus) -> None:
    caller, name = bus.member(), fresh("service")
    seen: list[tuple[Any, int, bool]] = []

    def note(delivery: Delivery) -> None:
        request = delivery.request
        seen.append((request.request_id, request.attempt, request.redelivered))

    def dies(delivery: Delivery) -> None:
        note(delivery)
        never(delivery)

    def lives(delivery: Delivery) -> None:
        note(delivery)
        echo(delivery)

    first = Replica(bus.member(), name, dies)
    call = gevent.spawn(ask, caller, name, "cut off")
    wait_until(lambda: seen)
    first.subscription.cancel()
    Replica(bus.member(), name, lives)
    assert call.get(timeout=5).payload == "cut off"
    (before, after) = seen
    assert before[0] == after[0]
    assert (before[1:], after[1:]) == ((1, False), (2, True))


def test_what_was_not_begun_is_given_back_and_counts_no_attempt(bus: Bus) -> None:
    caller, name = bus.member(), fresh("service")
    held: list[Delivery] = []
    member = bus.member()
    subscription = member.consume(name, held.append, lambda: 10 - len(held))  # it begins none
    wait_until(lambda: subscription.confirmed)
    calls = [gevent.spawn(ask, caller, name, number) for number in range(5)]
    wait_until(lambda: len(held) == 5)
    subscription.retire()
    attempts: list[int] = []

    def handle(delivery: Delivery) -> None:
        attempts.append(delivery.request.attempt)
        echo(delivery)

    Replica(bus.member(), name, handle)
    assert [call.get(timeout=5).payload for call in calls] == list(range(5))
    assert attempts == [1] * 5
    assert not any(delivery.begin() for delivery in held), "it is another's now"


def test_a_late_end_of_what_was_given_away_does_not_count(bus: Bus) -> None:
    caller, name = bus.member(), fresh("service")
    held: list[Delivery] = []
    first = Replica(bus.member(), name, held.append)
    call = gevent.spawn(ask, caller, name, "mine")
    wait_until(lambda: held)
    first.subscription.cancel()
    answer(held[0], "too late")
    Replica(bus.member(), name, echo)
    assert call.get(timeout=5).payload == "mine"


def test_a_message_whose_deadline_is_over_is_not_run(bus: Bus) -> None:
    caller, name = bus.member(), fresh("service")
    ran: list[Any] = []

    def slow(delivery: Delivery) -> None:
        ran.append(delivery.request.payload)
        gevent.sleep(0.3)
        echo(delivery)

    Replica(bus.member(), name, slow, room=1)
    first = gevent.spawn(ask, caller, name, "first")
    wait_until(lambda: ran)
    with pytest.raises(errors.CallTimeout):
        ask(caller, name, "late", timeout=0.1)
    assert ask(caller, name, "next").payload == "next"
    assert first.get().payload == "first"
    assert ran == ["first", "next"]


def test_the_deadline_of_a_call_is_known_where_it_runs(bus: Bus) -> None:
    caller, name = bus.member(), fresh("service")

    def handle(delivery: Delivery) -> None:
        deadline = delivery.request.deadline
        answer(delivery, None if deadline is None else deadline - time.monotonic())

    Replica(bus.member(), name, handle)
    left = ask(caller, name, timeout=3.0).payload
    assert 1.5 < left <= 3.0


def test_calls_beyond_the_queue_are_refused_at_once_and_stored_messages_are_not(bus: Bus) -> None:
    caller, name = bus.member(), fresh("service")
    full = Replica(bus.member(queue=3), name, never, room=1)
    calls = [gevent.spawn(ask, caller, name, number, 20.0) for number in range(1)]
    wait_until(lambda: full.running)
    calls += [gevent.spawn(ask, caller, name, number, 20.0) for number in range(1, 4)]
    gevent.sleep(0.05)
    begun = time.monotonic()
    assert ask(caller, name, timeout=20).code == errors.OVERLOADED
    assert time.monotonic() - begun < 5
    assert caller.send(Request(name, "note")) == 1
    assert not any(call.ready() for call in calls)
    for call in calls:
        call.kill()


def test_messages_of_one_sender_run_in_their_order(bus: Bus) -> None:
    caller, name = bus.member(), fresh("service")
    seen: list[Any] = []

    def handle(delivery: Delivery) -> None:
        seen.append(delivery.request.raw["n"])
        delivery.settle(DONE)

    Replica(bus.member(), name, handle, room=1)
    for number in range(100):
        caller.send(Request(name, "note", raw={"action": "note", "n": number}))
    wait_until(lambda: len(seen) == 100)
    assert seen == list(range(100))


def test_a_handler_that_was_never_answered_for_is_still_acknowledged(bus: Bus) -> None:
    """A stored message has no reply; it runs once."""
    caller, name = bus.member(), fresh("service")
    seen: list[Any] = []

    def handle(delivery: Delivery) -> None:
        seen.append(delivery.request.raw)
        delivery.settle(DONE)

    first = Replica(bus.member(), name, handle)
    assert caller.send(Request(name, "note", raw={"action": "note", "n": 1})) == 1
    wait_until(lambda: seen)
    gevent.sleep(0.05)
    first.subscription.cancel()
    Replica(bus.member(), name, handle)
    gevent.sleep(0.1)
    assert seen == [{"action": "note", "n": 1}]


def test_a_request_over_publish_subscribe_is_answered_too(bus: Bus) -> None:
    caller, name = bus.member(), fresh("service")
    Replica(bus.member(), name, echo)
    replies: list[bytes] = []
    inbox = caller.subscribe(reply_to := fresh("caller"), lambda channel, data: replies.append(data))
    wait_until(lambda: inbox.confirmed)
    message = {"action": "do", "payload": 7, "request_id": "mine", "reply_to": reply_to}
    assert caller.publish(name, json.dumps(message).encode()) == 1
    wait_until(lambda: replies)
    assert json.loads(replies[0]) == {"status": "success", "payload": 7, "request_id": "mine", "final": True}
