"""What durable events promise on every bus: one replica of each service that listens, and nothing lost."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gevent
import pytest
from daebus_runtime import errors
from daebus_runtime.envelope import EventRequest, Request
from daebus_runtime.transport import DONE, Delivery, EventSubscription, Transport
from daebus_runtime.transport.durable import incoming

from tests.conformance.buses import DURABLE, Bus, fresh
from tests.support.waiting import wait_until

KINDS = DURABLE


class Listening:
    """A replica of a service that listens durably."""

    def __init__(
        self,
        member: Transport,
        service: str,
        *channels: str,
        handle: Callable[[Delivery], Any] | None = None,
        room: int = 100,
    ) -> None:
        self.seen: list[Any] = []
        self.requests: list[Request] = []
        self.running: list[Delivery] = []
        self._handle = handle or (lambda delivery: delivery.settle(DONE))
        self.subscription: EventSubscription = member.consume_events(
            service, self._take, lambda: room - len(self.running)
        )
        for channel in channels:
            self.subscription.listen(channel)
        self.ready()

    def ready(self) -> None:
        wait_until(lambda: self.subscription.confirmed, 5, "the confirmation of a durable listener")

    def stop(self) -> None:
        self.subscription.retire()
        wait_until(lambda: self.subscription.retired)
        self.subscription.cancel()

    def _take(self, delivery: Delivery) -> None:
        self.running.append(delivery)
        gevent.spawn(self._run, delivery)

    def _run(self, delivery: Delivery) -> None:
        if delivery.begin():
            self.seen.append(delivery.request.payload["n"])
            self.requests.append(delivery.request)
            self._handle(delivery)
        self.running.remove(delivery)


def emit(member: Transport, channel: str, number: int = 1, **raw: Any) -> int:
    return member.send_event(Request("", channel, {"n": number}, raw=raw))


def never(delivery: Delivery) -> None:
    gevent.sleep(3600)


def test_each_service_gets_an_event_once_whatever_its_replicas(bus: Bus) -> None:
    sender, channel = bus.open_member(), fresh("rain")
    gardens = [Listening(bus.member(), "garden", channel) for _ in range(3)]
    shop = Listening(bus.member(), "shop", channel)
    assert [emit(sender, channel, number) for number in range(60)] == [2] * 60
    wait_until(lambda: sum(len(one.seen) for one in gardens) == 60 == len(shop.seen), 10)
    assert sorted(number for one in gardens for number in one.seen) == list(range(60))
    assert shop.seen == list(range(60))


def test_nobody_listens(bus: Bus) -> None:
    sender = bus.open_member()
    assert emit(sender, fresh("rain")) == 0


def test_plain_listeners_get_it_once_and_plain_events_are_not_stored(bus: Bus) -> None:
    sender, channel, plain = bus.open_member(), fresh("rain"), list[bytes]()
    heard = bus.member().subscribe(channel, lambda channel, data: plain.append(data))
    wait_until(lambda: heard.confirmed)
    garden = Listening(bus.member(), "garden", channel)
    assert emit(sender, channel, 7) == 1
    assert sender.publish(channel, b'{"n":8}') == 1
    wait_until(lambda: len(plain) == 2 and garden.seen)
    assert plain == [b'{"n":7}', b'{"n":8}']
    assert garden.seen == [7]


def test_an_event_waits_while_no_replica_runs(bus: Bus) -> None:
    sender, channel = bus.open_member(), fresh("rain")
    Listening(bus.member(), "garden", channel).stop()
    assert [emit(sender, channel, number) for number in range(5)] == [1] * 5
    again = Listening(bus.member(), "garden", channel)
    wait_until(lambda: again.seen == [0, 1, 2, 3, 4])


def test_an_event_from_before_is_not_for_a_new_service(bus: Bus) -> None:
    sender, channel = bus.open_member(), fresh("rain")
    garden = Listening(bus.member(), "garden", channel)
    assert emit(sender, channel, 1) == 1
    shop = Listening(bus.member(), "shop", channel)
    assert emit(sender, channel, 2) == 2
    wait_until(lambda: garden.seen == [1, 2] and shop.seen == [2])


def test_a_channel_can_be_added_later(bus: Bus) -> None:
    sender, first, second = bus.open_member(), fresh("rain"), fresh("wind")
    garden = Listening(bus.member(), "garden", first)
    assert emit(sender, second, 1) == 0
    garden.subscription.listen(second)
    garden.ready()
    assert [emit(sender, second, 2), emit(sender, first, 3)] == [1, 1]
    wait_until(lambda: garden.seen == [2, 3])
    assert [type(one) for one in garden.requests] == [EventRequest] * 2
    assert [one.channel for one in garden.requests if isinstance(one, EventRequest)] == [second, first]


def test_what_a_replica_did_not_finish_is_repeated_with_its_id(bus: Bus) -> None:
    sender, channel = bus.open_member(), fresh("rain")
    first = Listening(bus.member(), "garden", channel, handle=never)
    emit(sender, channel, 5)
    wait_until(lambda: first.seen)
    first.subscription.cancel()
    second = Listening(bus.member(), "garden", channel)
    wait_until(lambda: second.seen == [5])
    (before,), (after,) = first.requests, second.requests
    assert before.request_id == after.request_id
    assert (before.redelivered, after.redelivered, after.attempt) == (False, True, 2)
    assert before.reply_to is after.reply_to is None


def test_what_was_not_begun_goes_back_and_counts_no_attempt(bus: Bus) -> None:
    sender, channel, held = bus.open_member(), fresh("rain"), list[Delivery]()
    subscription = bus.member().consume_events("garden", held.append, lambda: 10 - len(held))
    subscription.listen(channel)
    wait_until(lambda: subscription.confirmed)
    for number in range(4):
        emit(sender, channel, number)
    wait_until(lambda: len(held) == 4)
    subscription.retire()
    second = Listening(bus.member(), "garden", channel)
    wait_until(lambda: sorted(second.seen) == [0, 1, 2, 3])
    assert {one.attempt for one in second.requests} == {1}


def test_an_event_that_kills_each_replica_ends(bus: Bus, caplog: pytest.LogCaptureFixture) -> None:
    sender, channel = bus.open_member(), fresh("rain")
    for number in range(incoming.MOST_DEATHS):
        if number == 0:
            Listening(bus.member(), "garden", channel).stop()
            emit(sender, channel)
        victim = Listening(bus.member(), "garden", channel, handle=never)
        wait_until(lambda victim=victim: victim.seen)  # type: ignore[misc]
        victim.subscription.cancel()
    last = Listening(bus.member(), "garden", channel)
    emit(sender, channel, 2)
    wait_until(lambda: last.seen == [2])
    assert f"event '{channel}' was begun 3 times, and each time its worker died" in caplog.text


def test_a_replica_that_does_not_listen_leaves_an_event_to_one_that_does(
    bus: Bus, caplog: pytest.LogCaptureFixture
) -> None:
    """As during an update of the service, in both directions."""
    sender, both, new = bus.open_member(), fresh("rain"), fresh("wind")
    old = Listening(bus.member(), "garden", both)
    young = Listening(bus.member(), "garden", both, new)
    for number in range(40):
        emit(sender, new, number)
    wait_until(lambda: sorted(young.seen) == list(range(40)), 10)
    assert old.seen == []
    assert {one.attempt for one in young.requests} == {1}
    young.stop()
    for number in range(40, 50):
        emit(sender, new, number)
    emit(sender, both, 50)
    wait_until(lambda: old.seen == [50])
    assert caplog.text.count(f"this one has not a durable listener on '{new}'") == 1
    young = Listening(bus.member(), "garden", both, new)
    wait_until(lambda: sorted(young.seen) == list(range(40, 50)))
    assert {one.attempt for one in young.requests} == {1}


def test_requests_and_events_of_a_service_do_not_wait_for_each_other(bus: Bus) -> None:
    sender, channel, name = bus.open_member(), fresh("rain"), fresh("garden")
    member, held = bus.member(), list[Delivery]()
    requests = member.consume(name, held.append, lambda: 1 - len(held))
    events = Listening(member, name, channel)
    wait_until(lambda: requests.confirmed)
    for number in range(3):
        assert sender.send(Request(name, "note", {"n": number})) == 1
    emit(sender, channel, 9)
    wait_until(lambda: events.seen == [9] and len(held) == 1)


def test_an_event_is_part_of_the_chain_it_belongs_to(bus: Bus) -> None:
    sender, channel = bus.open_member(), fresh("rain")
    garden = Listening(bus.member(), "garden", channel)
    emit(sender, channel, 1, correlation="first", causation="before")
    wait_until(lambda: garden.requests)
    trail = garden.requests[0].trail
    assert (trail.correlation, trail.causation, trail.deadline) == ("first", "before", None)


def test_an_event_that_is_too_large_is_refused(bus: Bus) -> None:
    sender = bus.open_member()
    with pytest.raises(errors.MessageTooLarge):
        sender.send_event(Request("", fresh("rain"), {"text": "x" * 2_000_000}))
