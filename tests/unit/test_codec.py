"""JSON in and out: the same bytes and values with orjson and without. Output is always valid; errors leak no data."""

from __future__ import annotations

import collections
import dataclasses
import datetime
import decimal
import enum
import functools
import json
import math
import string
import traceback
import uuid
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import pytest
from daebus_runtime import codec
from daebus_runtime.codec import Codec
from hypothesis import example, given, settings
from hypothesis import strategies as st

BOTH = {"orjson": codec.fast, "standard library": codec.plain}


@pytest.fixture(params=BOTH)
def either(request: pytest.FixtureRequest) -> Codec:
    chosen = BOTH[request.param]
    if chosen is None:
        pytest.skip("orjson, the extra `fast`, is not installed")
    return chosen


@pytest.fixture
def dumps(either: Codec) -> Callable[[Any], bytes]:
    return either.dumps


@pytest.fixture
def loads(either: Codec) -> Callable[[Any], Any]:
    return either.loads


# --- writing ----------------------------------------------------------------------------------------------------------


@dataclasses.dataclass
class Plant:
    name: str
    height: float = 1.5
    _secret: str = "hidden"

    kinds: ClassVar[int] = 7
    seed: dataclasses.InitVar[str] = "hidden"

    def __post_init__(self, seed: str) -> None:
        self.password = "hidden"

    @property
    def label(self) -> str:
        return "hidden"

    @functools.cached_property
    def looked_up(self) -> str:
        return "hidden"


@dataclasses.dataclass(slots=True, frozen=True)
class Pot:
    plant: Any = None
    litres: decimal.Decimal = decimal.Decimal(2)


@dataclasses.dataclass
class Unready:
    later: int = dataclasses.field(init=False)


class Colour(enum.Enum):
    GREEN = "green"
    MIXED = (1, "x")
    DEEP = Plant("fern")


class Level(enum.IntEnum):
    HIGH = 3


class Word(enum.StrEnum):
    YES = "yes"


class Share(float, enum.Enum):
    HALF = 0.5


class Grade(int, enum.Enum):
    label: str

    def __new__(cls, number: int, label: str) -> Grade:
        grade = int.__new__(cls, number)
        grade._value_ = number
        grade.label = label
        return grade

    BEST = (1, "very good")


class Unknown:
    def __init__(self) -> None:
        self.password = "hidden"

    def __json__(self) -> str:
        return "hidden"


class Text(str):
    def __str__(self) -> str:
        return "other"


class Number(int):
    def __repr__(self) -> str:
        return "other"


class Real(float):
    def __repr__(self) -> str:
        return "other"


class Items(list[Any]):
    def __iter__(self) -> Iterator[Any]:
        return iter(["other"])


class Fields(dict[Any, Any]):
    def items(self) -> Any:
        return [("other", 1)]


Pair = collections.namedtuple("Pair", ["x", "y"])


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"a": [1, 2.5, None, True, "ü"]}, '{"a":[1,2.5,null,true,"ü"]}'),
        (datetime.datetime(2026, 11, 23, 8, 5), '"2026-11-23T08:05:00"'),  # noqa: DTZ001 (what a naive one becomes)
        (datetime.datetime(2026, 11, 23, 8, 5, 0, 250, datetime.UTC), '"2026-11-23T08:05:00.000250+00:00"'),
        (
            datetime.datetime(9, 1, 1, tzinfo=datetime.timezone(datetime.timedelta(hours=1, seconds=5))),
            '"0009-01-01T00:00:00+01:00:05"',
        ),
        (datetime.date(2026, 11, 23), '"2026-11-23"'),
        (datetime.time(8, 5), '"08:05:00"'),
        (datetime.time(8, 5, tzinfo=datetime.UTC), '"08:05:00+00:00"'),
        (uuid.UUID(int=1), '"00000000-0000-0000-0000-000000000001"'),
        (decimal.Decimal("1.5"), "1.5"),
        (Colour.GREEN, '"green"'),
        (Colour.MIXED, '[1,"x"]'),
        (Colour.DEEP, '{"name":"fern","height":1.5}'),
        (Level.HIGH, "3"),
        (Word.YES, '"yes"'),
        (Share.HALF, "0.5"),
        (Grade.BEST, "1"),
        ({7}, "[7]"),
        (frozenset(), "[]"),
        (Plant("fern"), '{"name":"fern","height":1.5}'),
        (Pot(Plant("fern")), '{"plant":{"name":"fern","height":1.5},"litres":2.0}'),
        (
            [Plant("fern"), {"p": Plant("moss", 0.5)}],
            '[{"name":"fern","height":1.5},{"p":{"name":"moss","height":0.5}}]',
        ),
        (Pair(1, 2), "[1,2]"),
        (b"text", '"text"'),
        (bytearray(b"text"), '"text"'),
        (memoryview(b"text")[::2], '"tx"'),
        (b"\xff\x00", '"ff00"'),
        ((Text("a"), Number(5), Real(1.5), Items([1]), Fields(a=1)), '["a",5,1.5,[1],{"a":1}]'),
        (2**70, "1180591620717411303424"),
        ({"a": [-(2**63), -(2**63) - 1, 2**64 - 1, 2**64]}, None),
        (
            {1: "a", None: "b", False: "c", 1.5: "d", Text("e"): "e"},
            '{"1":"a","null":"b","false":"c","1.5":"d","e":"e"}',
        ),
        (
            {Colour.GREEN: 1, Word.YES: 2, Level.HIGH: 3, 2**70: 4},
            '{"green":1,"yes":2,"3":3,"1180591620717411303424":4}',
        ),
        (collections.OrderedDict(b=1, a=2), '{"b":1,"a":2}'),
        ([1e16, 1e15, 1e-4, 1e-5, -1.25e-5, 1e-6, 1.5e-300, -0.0, 5e-324], None),
        ('\x00\x1f\x7f\x85\u2028\\"/\b\f\n\r\t', '"\\u0000\\u001f\x7f\x85\u2028\\\\\\"/\\b\\f\\n\\r\\t"'),
        (["\ud800", {"\udfff": 1}], '["?",{"?":1}]'),
    ],
)
def test_what_can_be_written(dumps: Callable[[Any], bytes], value: Any, text: str | None) -> None:
    written = dumps(value)
    if text is not None:
        assert written.decode() == text
    else:
        assert json.loads(written) == value
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
        Real("inf"),
        decimal.Decimal("NaN"),
        decimal.Decimal("sNaN"),
        decimal.Decimal("-Infinity"),
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
        Colour,
        len,
        datetime.timedelta(1),
        1j,
        range(3),
        iter([1]),
        {b"key": 1},
        {(1, 2): 1},
        {Colour.MIXED: 1},
        {math.nan: 1},
        {1: "a", "1": "b"},
        {None: "a", "null": "b"},
        dict.fromkeys(["\ud800", "\udfff"]),
        decimal.Decimal("1e400"),
        pytest.param(10**5000, id="too many digits"),
        contains_itself(),
        contains_itself(math.nan),
        contains_itself(2**70),
    ],
)
def test_a_value_without_a_json_form_is_a_type_error_that_leaks_nothing(
    dumps: Callable[[Any], bytes], value: Any
) -> None:
    with pytest.raises(TypeError) as caught:
        dumps(value)
    assert "hidden" not in str(caught.value)


def test_a_type_without_json_form_is_named(dumps: Callable[[Any], bytes]) -> None:
    with pytest.raises(TypeError, match="Unknown has no JSON form; send plain values or a dataclass"):
        dumps([Unknown()])


def test_a_field_without_a_value_is_named(dumps: Callable[[Any], bytes]) -> None:
    with pytest.raises(TypeError, match=r"Unready\.later has no value"):
        dumps(Unready())


# --- reading ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("18446744073709551615", 2**64 - 1),
        ("18446744073709551616", 2**64),
        ("-9223372036854775808", -(2**63)),
        ("-9223372036854775809", -(2**63) - 1),
        ('{"n":[1,123456789012345678901234567890]}', {"n": [1, 123456789012345678901234567890]}),
        ('{"request_id":-99999999999999999999}', {"request_id": -99999999999999999999}),
        ("1" * 4000, int("1" * 4000)),
        ('["12345678901234567890123", 0.12345678901234567890123]', ["12345678901234567890123", 0.12345678901234568]),
        ("1764000000000000000", 1764000000000000000),
        ("-0", 0),
        ("-0.0", -0.0),
        ("1E+5", 100000.0),
        ("0e999", 0.0),
        ("1e-999", 0.0),
        (" \t\r\n[ 1 , 2 ] ", [1, 2]),
        ('{"a":1,"b":2,"a":3}', {"a": 3, "b": 2}),
        ('"\\ud83d\\ude00 \\\\ud800 \\u0000"', "😀 \\ud800 \0"),
        ('"\x7f\x85\u2028"', "\x7f\x85\u2028"),
    ],
)
def test_what_can_be_read_from_text_or_bytes_of_any_kind(loads: Callable[[Any], Any], text: str, value: Any) -> None:
    for data in (text, text.encode(), bytearray(text.encode()), memoryview(text.encode())):
        read = loads(data)
        assert read == value
        assert repr(read) == repr(value)


@pytest.mark.parametrize(
    "data",
    [
        "",
        b"",
        " ",
        "{",
        "[1,]",
        '{"a":1,}',
        '{"a":1} x',
        "NaN",
        "Infinity",
        "-Infinity",
        "'a'",
        "01",
        "+1",
        "1.",
        ".5",
        "1e999",
        "-1e999",
        '{"a":[1.8e308]}',
        "1" * 5000,
        '"a\nb"',
        '"\x01"',
        "\ufeff1",
        b"\xef\xbb\xbf1",
        "\xa01",
        "\x0c1",
        '"\\x"',
        "[" * 100_000,
        "[" * 1000 + "]" * 1000,
        b"\xff",
        b'"\xed\xa0\x80"',
        '"\ud800"',
        '"\\ud800"',
        '"\\uDC00\\ud800"',
        '{"\\ud83d":1}',
        '"\\ud83d\\u0041"',
        '"\\\\\\udfff"',
    ],
)
def test_invalid_json_is_a_value_error_with_the_same_text_everywhere(data: Any) -> None:
    texts = set()
    for loads in (one.loads for one in BOTH.values() if one is not None):
        with pytest.raises(ValueError) as caught:  # noqa: PT011 (that there is one text is what is tested)
            loads(data)
        texts.add(str(caught.value))
    assert len(texts) == 1
    assert texts != {""}


# --- depth ------------------------------------------------------------------------------------------------------------


def nested(levels: int, wrap: Callable[[Any], Any], innermost: Any = 1) -> Any:
    for _ in range(levels):
        innermost = wrap(innermost)
    return innermost


@pytest.mark.parametrize(
    "wrap", [lambda inner: [inner], lambda inner: {"a": inner}, Pot, lambda inner: ["[", {"b]": inner}][1]]
)
def test_reading_and_writing_have_the_same_depth_limit(either: Codec, wrap: Callable[[Any], Any]) -> None:
    deep = nested(codec.LEVELS, wrap)
    written = either.dumps(deep)
    assert either.dumps(either.loads(written)) == written
    with pytest.raises(TypeError, match="254 levels"):
        either.dumps(wrap(deep))
    with pytest.raises(ValueError, match="254 levels"):
        either.loads(b'{"a":' + written + b"}")
    with pytest.raises(ValueError, match="254 levels"):
        either.loads(b"[[]," + written + b"]")


def test_a_deep_value_does_not_make_a_deep_traceback(either: Codec) -> None:
    for deep in (nested(255, lambda inner: [inner]), nested(200, lambda inner: {"a": inner}, Unknown())):
        with pytest.raises(TypeError) as caught:
            either.dumps(deep)
        assert len("".join(traceback.format_exception(caught.value)).splitlines()) < 20
    for text in ("[" * 255 + "]" * 255, "[" * 50_000, "[" * 200 + "x"):
        with pytest.raises(ValueError) as refused:  # noqa: PT011 (only how it is shown matters here)
            either.loads(text)
        assert len("".join(traceback.format_exception(refused.value)).splitlines()) < 60


def test_an_empty_innermost_level_counts(either: Codec) -> None:
    innermost: Any
    for innermost in ([], {}):
        deep = nested(codec.LEVELS - 1, lambda inner: [inner], innermost)
        assert either.loads(either.dumps(deep)) == deep
        with pytest.raises(TypeError):
            either.dumps([deep])
        with pytest.raises(ValueError, match="levels"):
            either.loads("[" + json.dumps(deep) + "]")


def test_many_values_side_by_side_are_not_deep(either: Codec) -> None:
    value = [{"[{": [n]} for n in range(2000)]
    assert either.loads(either.dumps(value)) == value


# --- with the extra and without, side by side -------------------------------------------------------------------------

TEXT = st.text(st.characters(exclude_categories=()), max_size=20)  # lone surrogates too
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)
TIMES = st.datetimes(timezones=st.none() | st.timezones()) | st.dates() | st.times(timezones=st.none() | st.timezones())
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(),
    TEXT,
    TEXT.map(Text),
    st.integers().map(Number),
    st.floats().map(Real),
    st.binary(max_size=8),
    st.decimals(),
    st.uuids(),
    st.fractions(),
    st.timedeltas(),
    TIMES,
    st.sampled_from([*Colour, *Level, *Word, *Share, *Grade, Unknown(), Plant, 1j]),
)
KEYS = TEXT | st.integers() | st.booleans() | st.none() | st.floats() | st.sampled_from([*Colour, *Level, *Word])
PYTHON = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.tuples(inner, inner),
        st.builds(Pair, inner, inner),
        st.dictionaries(KEYS, inner, max_size=4),
        st.dictionaries(TEXT, inner, max_size=4).map(Fields),
        st.lists(inner, max_size=3).map(Items),
        st.builds(Plant, st.text(), inner),
        st.builds(Pot, inner, st.decimals()),
        st.sets(st.integers() | st.text(), max_size=3),
    ),
    max_leaves=8,
)
# Fragments of JSON in any order: mostly invalid, with every kind of mistake in every position.
WORDS = (
    '[ ] { } , : " "a" "a": 1 - 0 .5 e9 E+400 99999999999999999999 true null NaN \\ \\ud83d \\ude00 \\u0041 \ud800 é'
)
PIECES = st.lists(st.sampled_from([*WORDS.split(" "), " ", "\n", "\x00", "\ufeff", "\xa0"]), max_size=10).map("".join)
NUMBERS = st.text(string.digits + "-+.eE", max_size=30) | st.from_regex(
    r"-?(0|[1-9][0-9]{0,30})(\.[0-9]{1,25})?([eE][-+]?[0-9]{1,4})?", fullmatch=True
)

both = pytest.mark.skipif(codec.fast is None, reason="orjson, the extra `fast`, is not installed")
bounded = settings(max_examples=100, deadline=None)


def outcome(function: Callable[[Any], Any], value: Any) -> Any:
    """The result, written so that 1 differs from 1.0 and 0.0 from -0.0; or the error with its text."""
    try:
        return repr(function(value))
    except (TypeError, ValueError) as error:
        return type(error), str(error)


@given(JSON)
@bounded
def test_any_json_value_comes_back_as_it_was(value: Any) -> None:
    codecs = [one for one in BOTH.values() if one is not None]
    for written in [one.dumps(value) for one in codecs]:
        assert [repr(one.loads(written)) for one in codecs] == [repr(value)] * len(codecs)


@both
@given(PYTHON)
@example({"a": 2**64, 1: (Text("x"),)})
@bounded
def test_any_python_value_is_written_the_same_with_and_without_orjson(value: Any) -> None:
    assert codec.fast is not None
    plain = outcome(codec.plain.dumps, value)
    assert outcome(codec.fast.dumps, value) == plain
    if isinstance(plain, str):  # whatever was written can be read back
        codec.plain.loads(codec.plain.dumps(value))


@both
@given(PIECES | NUMBERS | st.text(st.characters(exclude_categories=()), max_size=6))
@example('{"a":[99999999999999999999],"a":"\\ud83d"}')
@bounded
def test_any_text_is_read_or_refused_the_same_with_and_without_orjson(text: str) -> None:
    assert codec.fast is not None
    inputs: list[Any] = [text, text.encode("utf-8", "surrogatepass"), f'{{"request_id":{text}}}', f'["{text}"]']
    for data in inputs:
        assert outcome(codec.fast.loads, data) == outcome(codec.plain.loads, data)


@both
@given(st.floats() | st.floats(1e-7, 1e-3) | st.floats(1e14, 1e18))
@bounded
def test_a_float_is_written_the_same_with_and_without_orjson_and_comes_back(number: float) -> None:
    assert codec.fast is not None
    written = codec.fast.dumps([number])
    assert codec.plain.dumps([number]) == written
    if math.isfinite(number):
        assert repr(codec.loads(written)) == repr([number])
