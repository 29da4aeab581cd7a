"""Broadcasts: bytes on a channel, to whoever listens."""

from __future__ import annotations

import gevent
import pytest
from daebus_runtime.metrics import Metrics

from tests.conformance.buses import Bus, Heard, fresh
from tests.support.waiting import wait_until


def test_a_message_arrives_unchanged_with_its_channel(bus: Bus) -> None:
    sender, receiver = bus.member(), bus.member()
    channel = fresh("channel")
    heard = Heard(receiver, channel)
    data = b'{"a": "\xc3\xa4"}\r\n\x00\xff any bytes'
    assert sender.publish(channel, data) == 1
    heard.wait_for(1)
    assert heard.messages == [(channel, data)]


def test_publish_counts_receivers(bus: Bus) -> None:
    sender, one, two = bus.member(), bus.member(), bus.member()
    channel = fresh("channel")
    assert sender.publish(channel, b"{}") == 0
    Heard(one, channel)
    assert sender.publish(channel, b"{}") == 1
    Heard(two, channel)
    assert sender.publish(channel, b"{}") == 2


def test_messages_of_one_sender_arrive_in_order(bus: Bus) -> None:
    sender, receiver = bus.member(), bus.member()
    channel = fresh("channel")
    heard = Heard(receiver, channel)
    sent = [str(number).encode() for number in range(500)]
    for data in sent:
        sender.publish(channel, data)
    assert heard.wait_for(500) == sent


def test_a_member_hears_itself(bus: Bus) -> None:
    member = bus.member()
    heard = Heard(member, channel := fresh("channel"))
    assert member.publish(channel, b"echo") == 1
    assert heard.wait_for(1) == [b"echo"]


def test_several_subscribers_of_one_channel_in_one_member_each_hear_once(bus: Bus) -> None:
    sender, receiver = bus.member(), bus.member()
    channel = fresh("channel")
    first, second = Heard(receiver, channel), Heard(receiver, channel)
    assert sender.publish(channel, b"one") == 1  # receivers are members, not callbacks
    sender.publish(channel, b"two")
    assert first.wait_for(2) == second.wait_for(2) == [b"one", b"two"]


@pytest.mark.parametrize(
    ("pattern", "fitting", "other"),
    [
        ("{}.*", "{}.door", "{}"),
        ("{}.*", "{}.door.left", "other.door"),
        ("{}.d?or", "{}.door", "{}.dooor"),
        ("{}.d[ou]or", "{}.duor", "{}.dior"),
        ("{}.d[^ou]or", "{}.dior", "{}.door"),
        ("{}.d[a-m]or", "{}.dior", "{}.duor"),
        ("{}.[!x]*", "{}.!all", "{}.all"),
        ("{}.\\**", "{}.*all", "{}.all"),
        ("{}.[*]", "{}.*", "{}.x"),
    ],
)
def test_patterns_match_as_redis_globs_do(bus: Bus, pattern: str, fitting: str, other: str) -> None:
    sender, receiver = bus.member(), bus.member()
    name = fresh("channel")
    heard = Heard(receiver, pattern.format(name))
    assert sender.publish(other.format(name), b"other") == 0
    assert sender.publish(fitting.format(name), b"fitting") == 1
    heard.wait_for(1)
    assert heard.messages == [(fitting.format(name), b"fitting")]


def test_a_message_reaches_both_a_channel_and_a_pattern_that_match(bus: Bus) -> None:
    sender, receiver = bus.member(), bus.member()
    name = fresh("channel")
    exact, pattern = Heard(receiver, f"{name}.door"), Heard(receiver, f"{name}.*")
    assert sender.publish(f"{name}.door", b"open") == 2
    assert exact.wait_for(1) == pattern.wait_for(1) == [b"open"]


def test_a_cancelled_subscription_receives_nothing_more(bus: Bus) -> None:
    sender, receiver = bus.member(), bus.member()
    channel = fresh("channel")
    gone, staying = Heard(receiver, channel), Heard(receiver, channel)
    gone.subscription.cancel()
    sender.publish(channel, b"later")
    staying.wait_for(1)
    assert gone.data == []


def test_the_last_cancel_unsubscribes_and_may_be_repeated(bus: Bus) -> None:
    sender, receiver = bus.member(), bus.member()
    channel = fresh("channel")
    first, second = Heard(receiver, channel), Heard(receiver, channel)
    for heard in (first, first, second):
        heard.subscription.cancel()
    wait_until(lambda: sender.publish(channel, b"nobody") == 0)
    assert first.data == second.data == []


def test_a_channel_can_be_subscribed_again_after_a_cancel(bus: Bus) -> None:
    sender, receiver = bus.member(), bus.member()
    channel = fresh("channel")
    Heard(receiver, channel).subscription.cancel()
    again = Heard(receiver, channel)
    assert sender.publish(channel, b"again") == 1
    assert again.wait_for(1) == [b"again"]


def test_a_callback_may_cancel_another_subscription_and_a_third_still_receives(bus: Bus) -> None:
    sender, receiver = bus.member(), bus.member()
    channel = fresh("channel")
    first = receiver.subscribe(channel, lambda name, data: first.cancel())
    third = Heard(receiver, channel)
    sender.publish(channel, b"one")
    sender.publish(channel, b"two")
    assert third.wait_for(2) == [b"one", b"two"]


def test_a_callback_that_raises_disturbs_neither_other_subscribers_nor_the_connection(
    bus: Bus, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(name: str, data: bytes) -> None:
        raise RuntimeError("planted")

    metrics = Metrics()
    sender, receiver = bus.member(), bus.member(metrics=metrics)
    channel = fresh("channel")
    receiver.subscribe(channel, fail)
    second = Heard(receiver, channel)
    sender.publish(channel, b"one")
    sender.publish(channel, b"two")
    assert second.wait_for(2) == [b"one", b"two"]
    assert metrics.reconnects == 0
    assert "planted" in caplog.text


def test_published_messages_are_counted(bus: Bus) -> None:
    metrics = Metrics()
    sender = bus.member(metrics=metrics)
    for _ in range(3):
        sender.publish(fresh("channel"), b"{}")
    assert metrics.sent == 3


def test_a_retiring_subscription_still_delivers_all_that_the_server_had_sent(bus: Bus) -> None:
    """A sender whose message had a receiver is answered, so a service that ends loses no requests."""
    sender, receiver = bus.open_member(), bus.open_member()
    channel = fresh("channel")
    first, second = Heard(receiver, channel), Heard(receiver, channel)
    counted: list[bytes] = []

    def publish(sender_number: int) -> None:
        for number in range(10_000):
            data = b"%d/%d" % (sender_number, number)
            if not sender.publish(channel, data):
                return
            counted.append(data)

    senders = [gevent.spawn(publish, number) for number in range(10)]
    first.wait_for(50)
    first.subscription.retire()
    second.subscription.retire()
    second.subscription.retire()
    gevent.joinall(senders, raise_error=True)
    wait_until(lambda: first.subscription.retired and second.subscription.retired)
    assert sorted(first.data) == sorted(second.data) == sorted(counted)


def test_a_retiring_subscription_leaves_the_others_of_its_channel_alone(bus: Bus) -> None:
    sender, receiver = bus.member(), bus.member()
    channel = fresh("channel")
    retiring, staying = Heard(receiver, channel), Heard(receiver, channel)
    retiring.subscription.retire()
    assert sender.publish(channel, b"on") == 1
    assert staying.wait_for(1) == [b"on"]
    staying.subscription.cancel()
    wait_until(lambda: sender.publish(channel, b"off") == 0)
    wait_until(lambda: retiring.subscription.retired)


def test_a_channel_can_be_subscribed_while_an_older_subscription_retires(bus: Bus) -> None:
    sender, receiver = bus.member(), bus.member()
    channel = fresh("channel")
    retiring = Heard(receiver, channel)
    retiring.subscription.retire()
    again = Heard(receiver, channel)
    wait_until(lambda: retiring.subscription.retired)
    assert sender.publish(channel, b"again") == 1
    assert again.wait_for(1) == [b"again"]
