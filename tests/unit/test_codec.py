"""JSON in and out: the same bytes with orjson and without it, always valid, and nothing leaked."""

from __future__ import annotations

import collections
import dataclasses
import datetime
import decimal
import enum
import json
import math
import uuid
from collections.abc import Callable
from typing import Any

import pytest
from daebus_runtime import codec
from hypothesis import given
from hypothesis import strategies as st


@dataclasses.dataclass
class Plant:
    name: str
    height: float = 1.5
    _secret: str = "hidden"


class Colour(enum.Enum):
    GREEN = "green"


class Level(enum.IntEnum):
    HIGH = 3


class Unknown:
    def __init__(self) -> None:
        self.password = "hidden"


Pair = collections.namedtuple("Pair", ["x", "y"])


@pytest.fixture(params=["orjson", "standard library"])
def dumps(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Callable[[Any], bytes]:
    if request.param == "standard library":
        monkeypatch.setattr(codec, "orjson", None)
    elif not codec.ACCELERATED:
        pytest.skip("orjson, the extra `fast`, is not installed")
    return codec.dumps


@pytest.fixture(params=["orjson", "standard library"])
def loads(request: pytest.FixtureRequest) -> Callable[[Any], Any]:
    if request.param == "standard library":
        return codec._loads_plain
    if not codec.ACCELERATED:
        pytest.skip("orjson, the extra `fast`, is not installed")
    return codec.loads


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"a": [1, 2.5, None, True, "ü"]}, '{"a":[1,2.5,null,true,"ü"]}'),
        (datetime.datetime(2026, 11, 23, 8, 5), '"2026-11-23T08:05:00"'),  # noqa: DTZ001 (what a naive one becomes)
        (datetime.datetime(2026, 11, 23, 8, 5, 0, 250, datetime.UTC), '"2026-11-23T08:05:00.000250+00:00"'),
        (datetime.date(2026, 11, 23), '"2026-11-23"'),
        (datetime.time(8, 5), '"08:05:00"'),
        (datetime.time(8, 5, tzinfo=datetime.UTC), '"08:05:00+00:00"'),
        (uuid.UUID(int=1), '"00000000-0000-0000-0000-000000000001"'),
        (decimal.Decimal("1.5"), "1.5"),
        (Colour.GREEN, '"green"'),
        (Level.HIGH, "3"),
        ({7}, "[7]"),
        (frozenset(), "[]"),
        (Plant("fern"), '{"name":"fern","height":1.5}'),
        ([Plant("fern"), {"p": Plant("moss", 0.5)}], None),
        (Pair(1, 2), "[1,2]"),
        (b"text", '"text"'),
        (bytearray(b"text"), '"text"'),
        (b"\xff\x00", '"ff00"'),
        (2**70, "1180591620717411303424"),
        ({1: "a", None: "b"}, '{"1":"a","null":"b"}'),
        (collections.OrderedDict(b=1, a=2), '{"b":1,"a":2}'),
        ("\ud800", '"?"'),
    ],
)
def test_what_can_be_written(dumps: Callable[[Any], bytes], value: Any, text: str | None) -> None:
    written = dumps(value)
    if text is not None:
        assert written.decode() == text
    json.loads(written)


@pytest.mark.parametrize(
    "value",
    [
        math.nan,
        -math.inf,
        {"a": [math.nan, {"b": math.inf}]},
        (math.nan,),
        Plant("fern", math.nan),
        {"s": {math.nan}},
        decimal.Decimal("NaN"),
    ],
)
def test_nan_and_infinities_become_null(dumps: Callable[[Any], bytes], value: Any) -> None:
    written = dumps(value)
    assert b"null" in written
    assert b"NaN" not in written
    assert b"Infinity" not in written


def contains_itself(*beside: Any) -> list[Any]:
    value: list[Any] = list(beside)
    value.append(value)
    return value


@pytest.mark.parametrize(
    "value",
    [
        object(),
        Unknown(),
        {"deep": [Unknown()]},
        Unknown,
        Plant,
        len,
        datetime.timedelta(1),
        1j,
        {b"key": 1},
        {Colour.GREEN: 1},
        {math.nan: 1},
        contains_itself(),
        contains_itself(math.nan),
        contains_itself(2**70),
    ],
)
def test_what_has_no_json_form_is_a_type_error_that_leaks_nothing(dumps: Callable[[Any], bytes], value: Any) -> None:
    with pytest.raises(TypeError) as caught:
        dumps(value)
    assert "hidden" not in str(caught.value)


def test_an_unknown_type_is_named(dumps: Callable[[Any], bytes]) -> None:
    with pytest.raises(TypeError, match="Unknown has no JSON form"):
        dumps([Unknown()])


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview, bytes.decode])
def test_bytes_and_text_can_be_read(loads: Callable[[Any], Any], kind: Callable[[bytes], Any]) -> None:
    assert loads(kind('{"a": ["ü", 1, 2.5, null, true]}'.encode())) == {"a": ["ü", 1, 2.5, None, True]}


@pytest.mark.parametrize(
    "data",
    [
        "",
        "{",
        "[1,]",
        '{"a":1} x',
        "NaN",
        "Infinity",
        "-Infinity",
        "'a'",
        "01",
        "[" * 100_000,
        b"\xff",
        b'"\xed\xa0\x80"',
    ],
)
def test_what_is_no_json_is_a_value_error(loads: Callable[[Any], Any], data: Any) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 (two libraries, two texts)
        loads(data)


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(JSON)
def test_any_json_value_comes_back_as_it_was(value: Any) -> None:
    for written in (codec.dumps(value), codec._dumps_plain(value)):
        for read in (codec.loads, codec._loads_plain):
            assert read(written) == value
