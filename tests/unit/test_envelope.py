"""The messages of the compatible wire format, byte by byte, and how messages of other programs are read."""

from __future__ import annotations

import json
from typing import Any

import pytest
from daebus_runtime.envelope import Reply, Request, error_reply, parse_replies, parse_request
from daebus_runtime.errors import MalformedMessage


def request(message: Any) -> Request:
    return parse_request(json.dumps(message).encode(), "garden")


def reply(message: Any) -> Reply:
    [reply] = parse_replies(json.dumps(message).encode())
    return reply


def test_a_request_as_it_travels() -> None:
    sent = Request("garden", "water", {"plant": "fern"}, reply_to="caller:1", request_id="7")
    assert json.loads(sent.encode()) == {
        "action": "water",
        "payload": {"plant": "fern"},
        "reply_to": "caller:1",
        "request_id": "7",
        "service": "garden",
    }


def test_a_reply_as_it_travels() -> None:
    assert json.loads(Reply("7", {"ok": 1}).encode()) == {
        "status": "success",
        "payload": {"ok": 1},
        "request_id": "7",
        "final": True,
    }


def test_an_error_reply_carries_the_code_beside_the_payload() -> None:
    assert json.loads(error_reply("7", "no water", "handler_error").encode()) == {
        "status": "error",
        "payload": {"error": "no water"},
        "request_id": "7",
        "final": True,
        "code": "handler_error",
    }


def test_a_request_is_read_back() -> None:
    sent = Request("garden", "water", [1], reply_to="caller:1", request_id="7")
    read = parse_request(sent.encode(), "garden")
    assert (read.action, read.payload, read.reply_to, read.request_id) == ("water", [1], "caller:1", "7")


@pytest.mark.parametrize("request_id", ["text", 7, 1.5, None, True, ["a"], {"a": 1}])
def test_a_request_id_of_any_json_type_is_kept(request_id: Any) -> None:
    assert request({"action": "water", "request_id": request_id}).request_id == request_id


@pytest.mark.parametrize(
    ("message", "payload"),
    [
        ({"action": "a"}, {}),
        ({"action": "a", "payload": {"x": 1}}, {"x": 1}),
        ({"action": "a", "payload": [1]}, [1]),
        ({"action": "a", "payload": None}, None),
        ({"action": "a", "payload": '{"x": 1}'}, {"x": 1}),
        ({"action": "a", "payload": "7"}, 7),
        ({"action": "a", "payload": "just text"}, "just text"),
        ({"action": "a", "payload": ""}, ""),
    ],
)
def test_the_payload_as_a_handler_sees_it(message: Any, payload: Any) -> None:
    assert request(message).payload == payload


def test_without_reply_to_the_reply_goes_to_the_services_own_channel() -> None:
    for absent in ({}, {"reply_to": None}, {"reply_to": ""}, {"reply_to": 7}):
        assert request({"action": "a", **absent}).reply_to == "garden.responses"


def test_unknown_fields_are_kept_where_a_handler_finds_them() -> None:
    assert request({"action": "a", "mood": "good", "traceparent": "00-x"}).raw["mood"] == "good"
    assert request({"action": "a", "traceparent": "00-x"}).traceparent == "00-x"


@pytest.mark.parametrize("data", [b"", b"no json", b"\xff", b"[1]", b'"text"', b"7", b"null", b"{}", b'{"action": 7}'])
def test_a_message_that_is_not_a_request_is_malformed(data: bytes) -> None:
    with pytest.raises(MalformedMessage):
        parse_request(data, "garden")


def test_the_reply_address_of_a_malformed_request_is_kept() -> None:
    with pytest.raises(MalformedMessage) as caught:
        request({"reply_to": "caller:1", "request_id": 7})
    assert (caught.value.reply_to, caught.value.request_id) == ("caller:1", 7)
    with pytest.raises(MalformedMessage) as caught:
        request({"reply_to": ["caller:1"], "action": ""})
    assert caught.value.reply_to is None


@pytest.mark.parametrize("data", [b"", b"no json", b"[1]", b"null"])
def test_a_message_that_is_not_a_reply_is_malformed(data: bytes) -> None:
    with pytest.raises(MalformedMessage):
        parse_replies(data)


def test_a_missing_final_counts_as_true() -> None:
    assert reply({"status": "success", "payload": 1}).final
    assert not reply({"status": "success", "payload": 1, "final": False}).final


@pytest.mark.parametrize(
    ("payload", "text"),
    [
        ({"error": "no water"}, "no water"),
        ("no water", "no water"),
        ({"error": {"a": 1}}, '{"a":1}'),
        ({"x": 1}, '{"x":1}'),
    ],
)
def test_the_text_of_an_error_is_found_in_any_shape(payload: Any, text: str) -> None:
    read = reply({"status": "error", "payload": payload, "request_id": "7"})
    assert not read.ok
    assert read.error_text == text


def test_an_error_code_that_is_not_text_is_ignored() -> None:
    assert reply({"status": "error", "payload": {}, "code": 7}).code is None
    assert reply({"status": "error", "payload": {}, "code": "late"}).code == "late"
