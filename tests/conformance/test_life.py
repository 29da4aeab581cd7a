"""Opening, closing, flushing, and the state that watchers are notified of."""

from __future__ import annotations

import time
from collections.abc import Callable

import gevent
import pytest
from daebus_runtime.errors import BusUnavailable
from daebus_runtime.transport import Delivery, State

from tests.conformance.buses import ALL, Bus, Heard, ask, echo, fresh, serve
from tests.support.waiting import wait_until

KINDS = ALL


def test_watchers_get_the_present_state_and_each_change_once(bus: Bus) -> None:
    member = bus.member()
    told: list[State] = []
    member.watch(lambda state, reason: told.append(state))
    assert told == [State.CONNECTING] == [member.state]
    member.open()
    member.open()
    wait_until(lambda: member.state is State.UP)
    member.close()
    wait_until(lambda: member.state is State.CLOSED)
    member.close()
    assert told == [State.CONNECTING, State.UP, State.CLOSED]


def test_a_member_opens_itself_at_first_use(bus: Bus) -> None:
    for use in ("publish", "subscribe", "request"):
        member, service = bus.member(), bus.member()
        serve(service, name := fresh("service"), echo)
        if use == "publish":
            member.publish(fresh("channel"), b"{}")
        elif use == "subscribe":
            Heard(member, fresh("channel"))
        else:
            ask(member, name)
        wait_until(lambda member=member: member.state is State.UP)  # type: ignore[misc]


def test_close_fails_the_calls_that_wait(bus: Bus) -> None:
    waiting: list[Delivery] = []
    caller, member = bus.open_member(), bus.member()
    serve(member, name := fresh("service"), waiting.append)
    calls = [gevent.spawn(ask, caller, name, number, 60.0) for number in range(10)]
    wait_until(lambda: len(waiting) == 10)
    begun = time.monotonic()
    caller.close()
    gevent.joinall(calls, timeout=5)
    assert time.monotonic() - begun < 1
    for call in calls:
        assert isinstance(call.exception, BusUnavailable), call.exception
        assert f"'{name}'" in str(call.exception)
        assert "'do'" in str(call.exception)
        assert "closed" in str(call.exception)


def test_a_closed_member_refuses_every_use_at_once(bus: Bus) -> None:
    member = bus.open_member()
    member.close()
    wait_until(lambda: member.state is State.CLOSED)
    uses: list[Callable[[], object]] = [
        lambda: member.publish("channel", b"{}"),
        lambda: member.subscribe("channel", lambda name, data: None),
        lambda: ask(member, "service"),
        lambda: member.open(),
    ]
    for use in uses:
        with pytest.raises(BusUnavailable, match="closed"):
            use()
    assert member.flush(0.1) is False


def test_a_closed_member_receives_nothing_and_does_not_count_as_receiver(bus: Bus) -> None:
    sender, gone = bus.member(), bus.member()
    heard = Heard(gone, channel := fresh("channel"))
    gone.close()
    wait_until(lambda: sender.publish(channel, b"late") == 0)
    assert heard.data == []


def test_a_member_that_was_never_opened_can_be_closed(bus: Bus) -> None:
    member = bus.member()
    member.close()
    wait_until(lambda: member.state is State.CLOSED)


def test_after_flush_the_server_has_received_what_was_sent(bus: Bus) -> None:
    """A reply that is sent just before a service ends must not be lost when its connection closes."""
    caller, member = bus.open_member(), bus.open_member()
    done: list[bool] = []

    def handle(delivery: Delivery) -> None:
        echo(delivery)
        done.append(member.flush(2.0))
        member.close()

    serve(member, name := fresh("service"), handle)
    assert ask(caller, name, "last words").payload == "last words"
    wait_until(lambda: done)
    assert done == [True]


def test_flush_without_a_connection_raises(bus: Bus) -> None:
    assert bus.member().flush(0.05) is False
