"""Malformed messages are counted, answered where possible, and disturb no other message."""

from __future__ import annotations

import json
from typing import Any

import pytest
from daebus_runtime.metrics import Metrics

from tests.conformance.buses import Bus, Heard, ask, echo, fresh, serve
from tests.support.waiting import wait_until

UNREADABLE = [
    b"",
    b"not JSON",
    b'{"action": "do"',
    b'{"action": "do"} trailing',
    b"\xff\xfe\x00",
    b"[]",
    b"5",
    b"null",
    b'"text"',
    b'{"action": NaN}',
    b"[" * 100_000,
    b'{"a":' * 100_000,
]


@pytest.mark.parametrize("data", UNREADABLE, ids=lambda data: repr(data[:20]))
def test_unreadable_messages_are_counted_and_the_service_stays_up(bus: Bus, data: bytes) -> None:
    metrics = Metrics()
    caller, member = bus.member(), bus.member(metrics=metrics)
    serve(member, name := fresh("service"), echo)
    assert caller.publish(name, data) == 1
    assert ask(caller, name, "after").payload == "after"
    wait_until(lambda: metrics.dropped.get("malformed_message") == 1, message=lambda: str(metrics.dropped))
    assert metrics.reconnects == 0


@pytest.mark.parametrize("action", ["", None, 5, ["do"], {"do": 1}, True], ids=repr)
def test_a_message_without_an_action_is_answered_with_its_id(bus: Bus, action: Any) -> None:
    metrics = Metrics()
    caller, member = bus.member(), bus.member(metrics=metrics)
    serve(member, name := fresh("service"), echo)
    inbox = Heard(caller, reply_to := fresh("caller"))
    message = {"action": action, "reply_to": reply_to, "request_id": [7]}
    caller.publish(name, json.dumps(message).encode())
    (data,) = inbox.wait_for(1)
    reply = json.loads(data)
    assert (reply["status"], reply["final"], reply["request_id"]) == ("error", True, [7])
    assert reply["code"] == "malformed_message"
    assert "action" in reply["payload"]["error"]
    assert metrics.dropped == {"malformed_message": 1}


@pytest.mark.parametrize("reply_to", [None, "", 5, ["caller"], {}], ids=repr)
def test_a_message_without_action_and_without_a_usable_reply_to_is_only_counted(bus: Bus, reply_to: Any) -> None:
    metrics = Metrics()
    caller, member = bus.member(), bus.member(metrics=metrics)
    serve(member, name := fresh("service"), echo)
    caller.publish(name, json.dumps({"reply_to": reply_to, "payload": 1}).encode())
    assert ask(caller, name, "after").payload == "after"
    assert metrics.dropped == {"malformed_message": 1}


@pytest.mark.parametrize("reply_to", [None, "", 5, ["caller"], {}], ids=repr)
def test_a_request_with_an_unusable_reply_to_runs_and_is_answered_on_the_services_channel(
    bus: Bus, reply_to: Any
) -> None:
    caller, member = bus.member(), bus.member()
    serve(member, name := fresh("service"), echo)
    responses = Heard(caller, f"{name}.responses")
    caller.publish(name, json.dumps({"action": "do", "payload": 1, "reply_to": reply_to}).encode())
    (data,) = responses.wait_for(1)
    assert json.loads(data)["payload"] == 1


def test_a_payload_of_text_holding_json_is_parsed_and_unknown_fields_are_kept_in_raw(bus: Bus) -> None:
    seen: list[Any] = []
    caller, member = bus.member(), bus.member()
    serve(member, name := fresh("service"), lambda delivery: seen.append(delivery.request))
    caller.publish(name, json.dumps({"action": "do", "payload": '{"in": [1]}', "extra": {"x": 1}}).encode())
    caller.publish(name, json.dumps({"action": "do", "payload": "plain text"}).encode())
    caller.publish(name, json.dumps({"action": "do"}).encode())
    wait_until(lambda: len(seen) == 3)
    assert [request.payload for request in seen] == [{"in": [1]}, "plain text", {}]
    assert seen[0].raw["extra"] == {"x": 1}
    assert seen[0].service == name


def test_lone_surrogates_and_very_large_numbers_come_through(bus: Bus) -> None:
    """Programs on the original can send both, since json.dumps writes them."""
    caller, member = bus.member(), bus.member()
    serve(member, name := fresh("service"), echo)
    inbox = Heard(caller, reply_to := fresh("caller"))
    text = f'{{"action": "do", "payload": {{"n": {10**30}}}, "reply_to": "{reply_to}", "request_id": 1}}'
    caller.publish(name, text.encode())
    inbox.wait_for(1)
    caller.publish(name, b'{"action": "do", "payload": {"s": "\\ud800"}, "reply_to": "%s"}' % reply_to.encode())
    assert ask(caller, name, "after").payload == "after"


def test_a_flood_of_unreadable_messages_is_one_line_in_the_log(bus: Bus, caplog: pytest.LogCaptureFixture) -> None:
    metrics = Metrics()
    caller, member = bus.member(), bus.member(metrics=metrics)
    serve(member, name := fresh("service"), echo)
    for _ in range(200):
        caller.publish(name, b"not JSON")
    wait_until(lambda: metrics.dropped.get("malformed_message") == 200, message=lambda: str(metrics.dropped))
    lines = [record.getMessage() for record in caplog.records if "refused" in record.getMessage()]
    assert len(lines) == 1
    assert "only counted" in lines[0]
