"""Ids that authors give: the same call, message or event again is not another one."""

from __future__ import annotations

from typing import Any

import gevent
import pytest
from daebus_runtime import errors
from daebus_runtime.envelope import Identity, Reply, Request
from daebus_runtime.transport import DONE, Delivery, Transport

from tests.conformance.buses import DURABLE, Bus, echo, fresh
from tests.conformance.test_durable import Replica
from tests.conformance.test_durable_events import Listening
from tests.support.waiting import wait_until

KINDS = DURABLE


def call(to: Transport, service: str, payload: Any, identity: str, action: str = "do", timeout: float = 10.0) -> Reply:
    request = Request(service, action, payload, request_id=identity, identity=Identity.given(identity, payload))
    return to.request(request, timeout)


def note(to: Transport, service: str, payload: Any, identity: str) -> int:
    raw = {"action": "note", "payload": payload, "request_id": identity}
    return to.send(Request(service, "note", raw=raw, identity=Identity.given(identity, payload)))


def event(to: Transport, channel: str, number: int, identity: str) -> int:
    payload = {"n": number}
    return to.send_event(Request("", channel, payload, request_id=identity, identity=Identity.given(identity, payload)))


class Counting(Replica):
    """Answers with how many calls it has run, after `seconds`."""

    def __init__(self, member: Transport, service: str, seconds: float = 0.0) -> None:
        self.seen: list[Any] = []

        def handle(delivery: Delivery) -> None:
            request = delivery.request
            self.seen.append((request.action, request.request_id, request.payload))
            gevent.sleep(seconds)
            delivery.reply(Reply(request.request_id, len(self.seen)))
            delivery.settle(DONE)

        super().__init__(member, service, handle)


def test_the_same_call_again_gets_the_recorded_reply(bus: Bus) -> None:
    name, first, second = fresh("service"), bus.member(), bus.member()
    replica = Counting(bus.member(), name)
    assert call(first, name, {"a": 1, "b": 2}, "order-1").payload == 1
    assert call(first, name, {"b": 2, "a": 1}, "order-1").payload == 1, "the order of keys is no difference"
    assert call(second, name, {"a": 1, "b": 2}, "order-1").payload == 1
    assert call(second, name, {"a": 1, "b": 2}, "order-2").payload == 2
    assert replica.seen == [("do", "order-1", {"a": 1, "b": 2}), ("do", "order-2", {"a": 1, "b": 2})]


def test_the_same_call_at_the_same_time_runs_once(bus: Bus) -> None:
    name, members = fresh("service"), [bus.member(), bus.member()]
    replica = Counting(bus.member(), name, seconds=0.3)
    calls = [gevent.spawn(call, members[number % 2], name, 7, "one") for number in range(6)]
    assert [one.get(timeout=10).payload for one in calls] == [1] * 6
    assert len(replica.seen) == 1


def test_each_of_many_ids_runs_once_however_often_it_is_sent(bus: Bus) -> None:
    name, members = fresh("service"), [bus.member(), bus.member()]
    replica = Counting(bus.member(), name)
    calls = [gevent.spawn(call, members[number % 2], name, number % 50, f"id-{number % 50}") for number in range(200)]
    gevent.joinall(calls, timeout=20)
    assert len(replica.seen) == 50
    for number, one in enumerate(calls):
        assert one.get().payload == calls[number % 50].get().payload


def test_an_error_is_an_outcome_too(bus: Bus) -> None:
    name, caller, runs = fresh("service"), bus.member(), list[int]()

    def fail(delivery: Delivery) -> None:
        runs.append(1)
        delivery.reply(Reply(delivery.request.request_id, {"error": "no"}, status="error", code="no"))
        delivery.settle(DONE)

    Replica(bus.member(), name, fail)
    assert [call(caller, name, 1, "x").code for _ in range(2)] == ["no", "no"]
    assert len(runs) == 1


def test_another_payload_under_the_same_id_is_an_error_and_another_action_is_not(bus: Bus) -> None:
    name, caller = fresh("service"), bus.member()
    replica = Counting(bus.member(), name)
    assert call(caller, name, 1, "x").payload == 1
    with pytest.raises(errors.IdReused, match="this id was given to a message with another content"):
        call(caller, name, 2, "x")
    assert call(caller, name, 2, "x", action="other").payload == 2
    assert [one[0] for one in replica.seen] == ["do", "other"]


def test_a_stored_message_is_stored_once(bus: Bus) -> None:
    name, caller = fresh("service"), bus.member()
    replica = Counting(bus.member(), name)
    assert [note(caller, name, {"n": 1}, "x") for _ in range(3)] == [1, 1, 1]
    assert note(caller, name, {"n": 2}, "y") == 1
    wait_until(lambda: len(replica.seen) == 2)
    with pytest.raises(errors.IdReused):
        note(caller, name, {"n": 3}, "x")
    assert call(caller, name, 1, "z").payload == 3


def test_an_event_is_stored_once_for_each_service(bus: Bus) -> None:
    sender, channel, plain = bus.open_member(), fresh("rain"), list[bytes]()
    heard = bus.member().subscribe(channel, lambda channel, data: plain.append(data))
    wait_until(lambda: heard.confirmed)
    garden = Listening(bus.member(), "garden", channel)
    assert event(sender, channel, 1, "x") == 1
    shop = Listening(bus.member(), "shop", channel)
    assert event(bus.open_member(), channel, 1, "x") == 2, "the shop did not have it"
    assert event(sender, channel, 1, "x") == 2
    with pytest.raises(errors.IdReused, match=f"channel '{channel}'"):
        event(sender, channel, 2, "x")
    assert event(sender, channel, 2, "y") == 2
    wait_until(lambda: garden.seen == [1, 2] and shop.seen == [1, 2])
    assert [one.request_id for one in garden.requests] == ["x", "y"]
    # Plain listeners get it with each send that stores something.
    wait_until(lambda: len(plain) == 3)
    assert plain == [b'{"n":1}', b'{"n":1}', b'{"n":2}']


def test_the_same_id_while_the_first_waits_for_a_replica(bus: Bus) -> None:
    name, callers = fresh("service"), [bus.member(), bus.member()]
    before = Counting(bus.member(), name)
    assert call(callers[0], name, 0, "before").payload == 1
    before.subscription.retire()
    wait_until(lambda: before.subscription.retired)
    before.subscription.cancel()
    calls = [gevent.spawn(call, one, name, 5, "x") for one in callers]
    gevent.sleep(0.1)
    replica = Counting(bus.member(), name)
    assert [one.get(timeout=10).payload for one in calls] == [1, 1]
    assert len(replica.seen) == 1


def test_nobody_waits_longer_than_the_timeout_for_the_first(bus: Bus) -> None:
    name, caller = fresh("service"), bus.member()
    Counting(bus.member(), name, seconds=1.5)
    first = gevent.spawn(call, caller, name, 1, "x")
    gevent.sleep(0.05)
    with pytest.raises(errors.CallTimeout):
        call(caller, name, 1, "x", timeout=0.2)
    assert first.get(timeout=10).payload == 1


@pytest.mark.parametrize("identity", ["", "two words", "a\nb", "x" * 201, 7, None, "\ud800"])
def test_what_cannot_be_an_id(identity: Any) -> None:
    with pytest.raises(errors.InvalidArgument, match="an id has 1 to 200 characters"):
        Identity.given(identity, {})


def test_ordinary_calls_beside(bus: Bus) -> None:
    name, caller = fresh("service"), bus.member()
    Replica(bus.member(), name, echo)
    calls = [
        gevent.spawn(call, caller, name, number, f"x{number}")
        if number % 3
        else gevent.spawn(caller.request, Request(name, "do", number), 10.0)
        for number in range(60)
    ]
    assert [one.get(timeout=10).payload for one in calls] == list(range(60))
