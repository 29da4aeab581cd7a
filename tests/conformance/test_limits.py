"""Messages above the limit are refused by the sender, with both sizes in the text, and nothing is sent."""

from __future__ import annotations

import gevent
import pytest
from daebus_runtime.envelope import Request
from daebus_runtime.errors import MessageTooLarge
from daebus_runtime.transport import Delivery

from tests.conformance.buses import ALL, Bus, Heard, answer, ask, echo, fresh, serve

SMALL = 2048

KINDS = ALL


def test_the_largest_allowed_message_arrives(bus: Bus) -> None:
    sender, receiver = bus.member(limit=SMALL), bus.member()
    heard = Heard(receiver, channel := fresh("channel"))
    assert sender.publish(channel, b"x" * SMALL) == 1
    assert heard.wait_for(1) == [b"x" * SMALL]


def test_one_byte_more_is_refused_with_both_sizes(bus: Bus) -> None:
    sender, receiver = bus.member(limit=SMALL), bus.member()
    heard = Heard(receiver, channel := fresh("channel"))
    with pytest.raises(MessageTooLarge, match=r"2049 bytes.*2048.*DAEBUS_MESSAGE_LIMIT.*not sent") as refused:
        sender.publish(channel, b"x" * (SMALL + 1))
    assert isinstance(refused.value, ValueError)
    sender.publish(channel, b"next")
    assert heard.wait_for(1) == [b"next"]


def test_a_request_that_is_too_large_fails_at_once_and_is_not_sent(bus: Bus) -> None:
    caller, member = bus.member(limit=SMALL), bus.member()
    seen: list[Delivery] = []

    def handle(delivery: Delivery) -> None:
        seen.append(delivery)
        echo(delivery)

    serve(member, name := fresh("service"), handle)
    for attempt in (lambda: ask(caller, name, "x" * SMALL), lambda: caller.send(Request(name, "do", "x" * SMALL))):
        with pytest.raises(MessageTooLarge):
            attempt()
    assert ask(caller, name, "small").payload == "small"
    assert len(seen) == 1


def test_a_reply_that_is_too_large_can_be_replaced_by_an_error(bus: Bus) -> None:
    def handle(delivery: Delivery) -> None:
        try:
            answer(delivery, "x" * SMALL)
        except MessageTooLarge:
            assert not delivery.answered
            answer(delivery, "too large")

    caller, member = bus.member(), bus.member(limit=SMALL)
    serve(member, name := fresh("service"), handle)
    assert ask(caller, name).payload == "too large"


def test_a_value_without_json_form_is_refused_before_anything_is_sent(bus: Bus) -> None:
    caller, member = bus.member(), bus.member()
    serve(member, name := fresh("service"), echo)
    with pytest.raises(TypeError, match="object has no JSON form"):
        ask(caller, name, object())
    assert ask(caller, name, "next").payload == "next"


def test_large_messages_and_small_ones_travel_together(bus: Bus) -> None:
    caller, member = bus.open_member(limit=16 * 1024 * 1024), bus.open_member(limit=16 * 1024 * 1024)
    serve(member, name := fresh("service"), echo)
    large = "x" * (2 * 1024 * 1024)
    calls = [gevent.spawn(ask, caller, name, large if n % 5 == 0 else n, 30.0) for n in range(30)]
    assert [call.get().payload for call in calls] == [large if n % 5 == 0 else n for n in range(30)]
