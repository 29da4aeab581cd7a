"""Requests to a service, and the replies that find their way back."""

from __future__ import annotations

import gc
import json
import time
from collections.abc import Callable
from typing import Any

import gevent
import pytest
from daebus_runtime import errors
from daebus_runtime.envelope import Reply, Request, error_reply
from daebus_runtime.metrics import Metrics
from daebus_runtime.transport import DONE, Delivery, Outcome
from daebus_runtime.transport.home import Waiter

from tests.conformance.buses import Bus, Heard, answer, ask, echo, fresh, serve
from tests.support.waiting import wait_until

JSON_VALUES: list[Any] = ["text", "", 7, -1.5, True, False, [1, [2]], {"deep": {"er": None}}, 2**53]


def test_a_request_arrives_complete_and_its_reply_comes_back(bus: Bus) -> None:
    caller, member = bus.member(), bus.member()
    seen: list[Request] = []

    def handle(delivery: Delivery) -> None:
        seen.append(delivery.request)
        answer(delivery, {"sum": 3})

    serve(member, name := fresh("service"), handle)
    reply = caller.request(Request(name, "add", {"a": 1, "b": 2}), 5.0)
    assert reply.ok
    assert reply.final
    assert reply.payload == {"sum": 3}
    (request,) = seen
    assert (request.service, request.action, request.payload) == (name, "add", {"a": 1, "b": 2})
    assert request.reply_to
    assert request.reply_to.startswith("caller:")
    assert request.raw["request_id"] == request.request_id == reply.request_id


@pytest.mark.parametrize("payload", [*JSON_VALUES, None], ids=repr)
def test_any_json_value_is_a_payload_and_a_result(bus: Bus, payload: Any) -> None:
    caller, member = bus.member(), bus.member()
    serve(member, name := fresh("service"), echo)
    assert ask(caller, name, payload).payload == payload


@pytest.mark.parametrize("identity", JSON_VALUES, ids=repr)
def test_an_id_of_any_json_type_is_echoed_as_it_is(bus: Bus, identity: Any) -> None:
    caller, member = bus.member(), bus.member()
    serve(member, name := fresh("service"), echo)
    inbox = Heard(caller, reply_to := fresh("caller"))
    message = {"action": "do", "request_id": identity, "reply_to": reply_to}
    assert caller.publish(name, json.dumps(message).encode()) == 1
    (data,) = inbox.wait_for(1)
    assert json.loads(data) == {"status": "success", "payload": {}, "request_id": identity, "final": True}


def test_a_caller_may_choose_the_id(bus: Bus) -> None:
    caller, member = bus.member(), bus.member()
    serve(member, name := fresh("service"), echo)
    reply = caller.request(Request(name, "do", 1, request_id="mine"), 5.0)
    assert reply.request_id == "mine"


def test_progress_comes_in_order_before_the_final_reply_and_in_the_callers_greenlet(bus: Bus) -> None:
    def handle(delivery: Delivery) -> None:
        for step in range(100):
            answer(delivery, step, final=False)
        answer(delivery, "done")

    caller, member = bus.member(), bus.member()
    serve(member, name := fresh("service"), handle)
    steps: list[Any] = []
    where: set[Any] = set()

    def progress(reply: Reply) -> None:
        steps.append(reply.payload)
        where.add(gevent.getcurrent())

    assert ask(caller, name, on_progress=progress).payload == "done"
    assert steps == list(range(100))
    assert where == {gevent.getcurrent()}


def test_without_on_progress_intermediate_replies_are_skipped(bus: Bus) -> None:
    def handle(delivery: Delivery) -> None:
        answer(delivery, "half", final=False)
        assert not delivery.answered
        answer(delivery, "whole")
        assert delivery.answered

    caller, member = bus.member(), bus.member()
    serve(member, name := fresh("service"), handle)
    assert ask(caller, name).payload == "whole"


def test_an_exception_in_on_progress_is_raised_to_the_caller(bus: Bus) -> None:
    def handle(delivery: Delivery) -> None:
        answer(delivery, "half", final=False)
        gevent.sleep(0)
        answer(delivery, "whole")

    def progress(reply: Reply) -> None:
        raise KeyError("from on_progress")

    caller, member = bus.member(), bus.member()
    serve(member, name := fresh("service"), handle)
    with pytest.raises(KeyError, match="from on_progress"):
        ask(caller, name, on_progress=progress)
    assert ask(caller, name).payload == "whole"


def test_a_call_from_inside_on_progress_works(bus: Bus) -> None:
    def handle(delivery: Delivery) -> None:
        if delivery.request.payload == "outer":
            answer(delivery, "half", final=False)
        answer(delivery, delivery.request.payload)

    caller, member = bus.member(), bus.member()
    serve(member, name := fresh("service"), handle)
    inner: list[Any] = []
    outer = ask(caller, name, "outer", on_progress=lambda reply: inner.append(ask(caller, name, "inner").payload))
    assert (outer.payload, inner) == ("outer", ["inner"])


def test_an_error_reply_carries_text_and_code(bus: Bus) -> None:
    def handle(delivery: Delivery) -> None:
        delivery.settle(Outcome(error_reply(delivery.request.request_id, "no such tank", "empty")))

    caller, member = bus.member(), bus.member()
    serve(member, name := fresh("service"), handle)
    reply = ask(caller, name)
    assert not reply.ok
    assert (reply.error_text, reply.code) == ("no such tank", "empty")


def test_an_unanswered_request_ends_with_service_action_and_seconds(bus: Bus) -> None:
    caller, member = bus.open_member(), bus.member()
    serve(member, name := fresh("service"), lambda delivery: None)
    begun = time.monotonic()
    with pytest.raises(errors.CallTimeout, match=f"'{name}'.*'do'.*0.2 seconds"):
        ask(caller, name, timeout=0.2)
    assert 0.15 < time.monotonic() - begun < 2


def test_a_late_reply_is_counted_and_delivered_to_no_one(bus: Bus) -> None:
    late: list[Delivery] = []
    metrics = Metrics()
    caller, member = bus.open_member(metrics=metrics), bus.member()
    held = serve(member, name := fresh("service"), late.append)
    with pytest.raises(errors.CallTimeout):
        ask(caller, name, timeout=0.05)
    held.cancel()
    serve(member, name, echo)
    answer(late[0], "too late")
    assert ask(caller, name, "next").payload == "next"
    wait_until(lambda: metrics.dropped.get("late_reply") == 1, message=lambda: str(metrics.dropped))


@pytest.mark.parametrize("identity", ["nobody's", None, 7, ["a"], {"a": 1}], ids=repr)
def test_a_reply_to_something_that_was_never_asked_is_counted(bus: Bus, identity: Any) -> None:
    inboxes: list[str | None] = []

    def handle(delivery: Delivery) -> None:
        inboxes.append(delivery.request.reply_to)
        echo(delivery)

    metrics = Metrics()
    caller, member = bus.member(metrics=metrics), bus.member()
    serve(member, name := fresh("service"), handle)
    ask(caller, name)
    member.publish(str(inboxes[0]), Reply(identity, "surprise").encode())
    wait_until(lambda: metrics.dropped.get("late_reply") == 1, message=lambda: str(metrics.dropped))
    assert ask(caller, name, 1).payload == 1


@pytest.mark.parametrize("data", [b"", b"no JSON", b"[1]", b'"text"', b"\xff\xfe", b"NaN", b"[" * 5000], ids=repr)
def test_a_malformed_reply_is_counted_and_the_inbox_goes_on(bus: Bus, data: bytes) -> None:
    inboxes: list[str | None] = []

    def handle(delivery: Delivery) -> None:
        inboxes.append(delivery.request.reply_to)
        echo(delivery)

    metrics = Metrics()
    caller, member = bus.member(metrics=metrics), bus.member()
    serve(member, name := fresh("service"), handle)
    ask(caller, name)
    member.publish(str(inboxes[0]), data)
    wait_until(lambda: metrics.dropped.get("malformed_message") == 1, message=lambda: str(metrics.dropped))
    assert ask(caller, name, 1).payload == 1


def test_a_reply_without_final_is_the_final_one(bus: Bus) -> None:
    def handle(delivery: Delivery) -> None:
        text = json.dumps({"status": "success", "payload": 5, "request_id": delivery.request.request_id})
        member.publish(str(delivery.request.reply_to), text.encode())

    caller, member = bus.member(), bus.member()
    serve(member, name := fresh("service"), handle)
    assert ask(caller, name).payload == 5


def test_a_sent_request_without_reply_to_is_answered_on_the_services_own_channel(bus: Bus) -> None:
    caller, member = bus.member(), bus.member()
    serve(member, name := fresh("service"), echo)
    responses = Heard(caller, f"{name}.responses")
    assert caller.send(Request(name, "do", {"x": 1}, request_id="r1")) == 1
    (data,) = responses.wait_for(1)
    assert json.loads(data) == {"status": "success", "payload": {"x": 1}, "request_id": "r1", "final": True}


def test_a_thousand_requests_at_the_same_time_each_get_their_own_reply(bus: Bus) -> None:
    def handle(delivery: Delivery) -> None:
        gevent.sleep(0.001 * (delivery.request.payload % 7))  # so that replies arrive out of order
        answer(delivery, delivery.request.payload)

    caller, member = bus.open_member(), bus.open_member()
    serve(member, name := fresh("service"), handle)
    calls = [gevent.spawn(ask, caller, name, number, 30.0) for number in range(1000)]
    assert [call.get().payload for call in calls] == list(range(1000))


def test_callers_of_one_member_share_one_inbox(bus: Bus) -> None:
    inboxes: set[str | None] = set()

    def handle(delivery: Delivery) -> None:
        inboxes.add(delivery.request.reply_to)
        echo(delivery)

    caller, member = bus.member(), bus.member()
    one, two = fresh("service"), fresh("service")
    serve(member, one, handle)
    serve(member, two, handle)
    gevent.joinall([gevent.spawn(ask, caller, name) for name in (one, two) * 10], raise_error=True)
    assert len(inboxes) == 1


def test_a_greenlet_killed_while_it_waits_leaves_nothing_behind(bus: Bus) -> None:
    waiting: list[Delivery] = []
    metrics = Metrics()
    caller, member = bus.open_member(metrics=metrics), bus.member()
    serve(member, name := fresh("service"), waiting.append)
    before, ended = _waiters(), []

    def call(number: int) -> None:
        try:
            ask(caller, name, number, 60.0)
        except gevent.GreenletExit:  # not re-raised: its traceback would keep the waiter alive
            ended.append(number)

    calls = [gevent.spawn(call, number) for number in range(20)]
    wait_until(lambda: len(waiting) == 20)
    gevent.killall(calls)
    assert len(ended) == 20
    _wait_for_at_most(before)
    for delivery in waiting:
        answer(delivery, "for the dead")
    wait_until(lambda: metrics.dropped.get("late_reply") == 20, message=lambda: str(metrics.dropped))


def test_a_gevent_timeout_around_a_call_leaves_nothing_behind(bus: Bus) -> None:
    waiting: list[Delivery] = []
    caller, member = bus.open_member(), bus.member()
    serve(member, name := fresh("service"), waiting.append)
    before = _waiters()
    with gevent.Timeout(0.05, False):  # type: ignore[arg-type]
        ask(caller, name, timeout=60.0)
        pytest.fail("the call was not given up")
    _wait_for_at_most(before)
    wait_until(lambda: waiting)
    serve(member, other := fresh("service"), echo)
    answer(waiting[0], "late")
    assert ask(caller, other, "next").payload == "next"


def test_of_two_members_that_serve_one_name_one_gets_a_request_if_the_bus_says_so(bus: Bus) -> None:
    """Over pub/sub every replica gets every request."""
    caller, one, two = bus.member(), bus.member(), bus.member()
    promised = caller.capabilities
    assert promised.competing == promised.durable
    seen: list[str] = []
    name = fresh("service")
    serve(one, name, lambda delivery: seen.append("one"))
    serve(two, name, lambda delivery: seen.append("two"))
    assert caller.send(Request(name, "do")) == (1 if promised.competing else 2)
    wait_until(lambda: len(seen) == (1 if promised.competing else 2))
    gevent.sleep(0.02)
    assert len(set(seen)) == len(seen) == (1 if promised.competing else 2)


# --- settling -------------------------------------------------------------------------------------------------------
def settled(bus: Bus, act: Callable[[Delivery], Outcome], keep: bool) -> list[tuple[str, Any]]:
    """The replies that a caller gets to one request. `act` is the handler; its outcome settles the delivery."""
    caller, member = bus.member(), bus.member()
    ended: list[Delivery] = []

    def handle(delivery: Delivery) -> None:
        delivery.keep = keep
        delivery.settle(act(delivery))
        delivery.settle(Outcome(error_reply(delivery.request.request_id, "a second end")))
        ended.append(delivery)

    serve(member, name := fresh("service"), handle)
    inbox = Heard(caller, reply_to := fresh("caller"))
    caller.publish(name, json.dumps({"action": "do", "request_id": 1, "reply_to": reply_to}).encode())
    wait_until(lambda: ended)
    assert ended[0].answered
    member.publish(reply_to, b'{"payload": "marker"}')
    wait_until(lambda: inbox.data and json.loads(inbox.data[-1])["payload"] == "marker")
    replies = [json.loads(data) for data in inbox.data[:-1]]
    return [(reply["status"], reply["payload"]) for reply in replies]


@pytest.mark.parametrize("keep", [False, True], ids=["at once", "kept"])
def test_the_outcomes_own_reply_is_sent_once(bus: Bus, keep: bool) -> None:
    def act(delivery: Delivery) -> Outcome:
        return Outcome(error_reply(1, "planted"), ValueError("planted"), retry_after=5.0)

    assert settled(bus, act, keep) == [("error", {"error": "planted"})]


def test_a_final_reply_is_sent_at_once_and_a_later_failure_changes_nothing(bus: Bus) -> None:
    def act(delivery: Delivery) -> Outcome:
        delivery.reply(Reply(1, "half", final=False))
        delivery.reply(Reply(1, "whole"))
        return Outcome(error_reply(1, "too late"), ValueError("too late"))

    assert settled(bus, act, keep=False) == [("success", "half"), ("success", "whole")]


def test_a_final_reply_that_is_kept_is_sent_when_the_delivery_is_settled(bus: Bus) -> None:
    def act(delivery: Delivery) -> Outcome:
        delivery.reply(Reply(1, "whole"))
        delivery.reply(Reply(1, "half", final=False))
        return DONE

    assert settled(bus, act, keep=True) == [("success", "half"), ("success", "whole")]


def test_a_final_reply_that_is_kept_is_not_sent_when_the_run_fails_afterwards(bus: Bus) -> None:
    def act(delivery: Delivery) -> Outcome:
        delivery.reply(Reply(1, "whole"))
        assert delivery.answered
        return Outcome(error_reply(1, "afterwards"), ValueError("afterwards"))

    assert settled(bus, act, keep=True) == [("error", {"error": "afterwards"})]


@pytest.mark.parametrize("keep", [False, True], ids=["at once", "kept"])
def test_a_final_reply_without_a_json_form_is_refused_at_once(bus: Bus, keep: bool) -> None:
    def act(delivery: Delivery) -> Outcome:
        with pytest.raises(TypeError, match="no JSON form"):
            delivery.reply(Reply(1, object()))
        assert not delivery.answered
        return Outcome(Reply(1, "instead"))

    assert settled(bus, act, keep) == [("success", "instead")]


def _waiters() -> int:
    gc.collect()
    return sum(isinstance(thing, Waiter) for thing in gc.get_objects())


def _wait_for_at_most(count: int) -> None:
    # The connection's reader still refers to the last waiter that it woke, until it wakes another: at the latest at the
    # next heartbeat.
    wait_until(lambda: _waiters() <= count, message=lambda: f"at most {count} waiters, there are {_waiters()}")
