"""Every method may be called from any greenlet and any OS thread."""

from __future__ import annotations

import threading
from typing import Any

import gevent
import pytest
from daebus_runtime.envelope import Reply
from daebus_runtime.errors import CallTimeout
from daebus_runtime.transport import Delivery
from gevent import get_hub, monkey

from tests.conformance.buses import ALL, Bus, Heard, answer, ask, echo, fresh, in_native_threads, serve
from tests.support.waiting import wait_until

ident = monkey.get_original("_thread", "get_ident")
EachThread = pytest.mark.parametrize("own_hub", [False, True], ids=["thread", "greenlets-of-another-hub"])

KINDS = ALL


def run_there(count: int, function: Any, own_hub: bool) -> list[Any]:
    """Run in OS threads; with `own_hub`, in a greenlet of the hub that gevent creates for each thread."""

    def in_greenlet(number: int) -> Any:
        try:
            return gevent.spawn(function, number).get()
        finally:
            get_hub().destroy(destroy_loop=True)

    return in_native_threads(count, in_greenlet if own_hub else function)


@EachThread
def test_eight_threads_call_at_the_same_time(bus: Bus, own_hub: bool) -> None:
    caller, member = bus.member(), bus.member()
    serve(member, name := fresh("service"), echo)

    def call_often(thread: int) -> list[Any]:
        return [ask(caller, name, [thread, number]).payload for number in range(50)]

    results = run_there(8, call_often, own_hub)
    assert results == [[[thread, number] for number in range(50)] for thread in range(8)]


@EachThread
def test_threads_publish_and_get_the_number_of_receivers(bus: Bus, own_hub: bool) -> None:
    sender, receiver = bus.member(), bus.member()
    heard = Heard(receiver, channel := fresh("channel"))
    counts = run_there(4, lambda thread: [sender.publish(channel, b"%d" % thread) for _ in range(25)], own_hub)
    assert counts == [[1] * 25] * 4
    assert sorted(heard.wait_for(100)) == sorted([b"0", b"1", b"2", b"3"] * 25)


@EachThread
def test_progress_arrives_in_the_calling_thread(bus: Bus, own_hub: bool) -> None:
    def handle(delivery: Delivery) -> None:
        for step in range(20):
            answer(delivery, step, final=False)
        answer(delivery, "done")

    caller, member = bus.member(), bus.member()
    serve(member, name := fresh("service"), handle)

    def call(_: int) -> Any:
        here, seen = ident(), []

        def progress(reply: Reply) -> None:
            seen.append(reply.payload)
            assert ident() == here

        return ask(caller, name, on_progress=progress).payload, seen

    assert run_there(2, call, own_hub) == [("done", list(range(20)))] * 2


@EachThread
def test_a_timeout_ends_a_call_in_another_thread(bus: Bus, own_hub: bool) -> None:
    caller, member = bus.open_member(), bus.member()
    serve(member, name := fresh("service"), lambda delivery: None)
    (error,) = run_there(1, lambda _: ask(caller, name, timeout=0.1), own_hub)
    assert isinstance(error, CallTimeout), error


@EachThread
def test_a_thread_that_waits_delays_no_other(bus: Bus, own_hub: bool) -> None:
    waiting: list[Delivery] = []
    caller, member = bus.open_member(), bus.member()
    serve(member, slow := fresh("service"), waiting.append)
    serve(member, quick := fresh("service"), echo)
    results: list[Any] = []
    thread = gevent.spawn(lambda: results.extend(run_there(1, lambda _: ask(caller, slow).payload, own_hub)))
    wait_until(lambda: waiting)
    assert ask(caller, quick, "meanwhile").payload == "meanwhile"
    answer(waiting[0], "at last")
    thread.get(timeout=5)
    assert results == ["at last"]


def test_callbacks_run_on_the_home_loop_whichever_thread_subscribed(bus: Bus) -> None:
    sender, receiver = bus.member(), bus.member()
    where: list[int] = []
    channel = fresh("channel")
    (subscription,) = in_native_threads(1, lambda _: receiver.subscribe(channel, lambda n, d: where.append(ident())))
    wait_until(lambda: subscription.confirmed)
    sender.publish(channel, b"{}")
    wait_until(lambda: where)
    assert where == [ident()]


def test_a_subscription_can_be_cancelled_from_another_thread(bus: Bus) -> None:
    sender, receiver = bus.member(), bus.member()
    heard = Heard(receiver, channel := fresh("channel"))
    in_native_threads(1, lambda _: heard.subscription.cancel())
    wait_until(lambda: sender.publish(channel, b"late") == 0)
    assert heard.data == []


def test_a_delivery_can_be_answered_from_another_thread(bus: Bus) -> None:
    def handle(delivery: Delivery) -> None:
        in_native_threads(1, lambda _: answer(delivery, "from a thread"))

    caller, member = bus.member(), bus.member()
    serve(member, name := fresh("service"), handle)
    assert ask(caller, name).payload == "from a thread"


def test_a_member_is_closed_from_another_thread(bus: Bus) -> None:
    waiting: list[Delivery] = []
    caller, member = bus.open_member(), bus.member()
    serve(member, name := fresh("service"), waiting.append)
    call = gevent.spawn(ask, caller, name, None, 60.0)
    wait_until(lambda: waiting)
    in_native_threads(1, lambda _: caller.close())
    call.join(5)
    assert "closed" in str(call.exception)
    assert threading.current_thread() is threading.main_thread()
