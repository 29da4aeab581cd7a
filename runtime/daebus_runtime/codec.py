"""Writes and reads JSON for every part of Daebus. The output is compact, UTF-8 and always valid; the bytes are the same
with the extra `fast` (orjson) and without it.

Written: JSON's own types and their subclasses, datetime, date and time (ISO 8601), Decimal (number), UUID (text), Enum
(its value; an Enum that is also a text or a number is written as such), set and frozenset (array), dataclass (object of
its fields, without those that start with `_`), bytes, bytearray and memoryview (text if it is valid UTF-8, else
hexadecimal). Keys are text; int, float, bool, None and Enum become text. Integers are exact at any size, NaN and
infinities become null, a lone surrogate becomes `?`. Anything else is a TypeError: the attributes of unknown objects
are never written.

Read: strict JSON of at most `LEVELS` levels. Integers are exact at any size. A number outside the range of a double and
a lone surrogate are refused. If a name occurs twice, the last one counts.

`plain` is the reference. `fast` calls it for everything that orjson refuses or reads differently.
"""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
import json
import json.encoder
import math
import re
import uuid
from collections.abc import Callable
from typing import Any, NamedTuple

try:
    import orjson
except ImportError:  # the extra `fast`
    orjson = None  # type: ignore[assignment]

ACCELERATED = orjson is not None
LEVELS = 254
"""How deep arrays and objects may be nested, for writing and reading: orjson's own limit for writing."""

_TOO_DEEP = f"nested more than {LEVELS} levels deep"
_ENDLESS = f"the value is {_TOO_DEEP}, or contains itself"
_quote = json.encoder.encode_basestring


class Codec(NamedTuple):
    """One implementation. `dumps` raises TypeError for a value without a JSON form, `loads` ValueError for bad JSON."""

    dumps: Callable[[Any], bytes]
    loads: Callable[[bytes | bytearray | memoryview | str], Any]


# --- writing: the rules -----------------------------------------------------------------------------------------------


class _Refused(TypeError):
    pass


def _plain_dumps(value: Any) -> bytes:
    try:
        text = _write(value, LEVELS)
    except RecursionError:
        raise TypeError(_ENDLESS) from None
    except _Refused as error:  # the original traceback has an entry per level, and a client chooses the depth
        raise TypeError(*error.args) from None
    try:
        return text.encode()
    except UnicodeEncodeError:
        replaced = text.encode("utf-8", "replace")
    try:
        json.loads(replaced, object_pairs_hook=lambda pairs: _check_unique([name for name, _ in pairs]))
    except _Refused as error:
        raise TypeError(*error.args) from None
    return replaced


def _write(value: Any, room: int) -> str:
    """`value` as JSON. `room`: how many more levels may be opened."""
    return _WRITERS.get(type(value), _write_other)(value, room)


def _write_other(value: Any, room: int) -> str:
    # The checks are in orjson's order. Subclasses are written by their built-in value; overridden methods are ignored.
    if isinstance(value, str):
        return _quote(value)
    if isinstance(value, int):
        return _integer(value)
    if isinstance(value, list):
        return _list(list.__getitem__(value, slice(None)), room)
    if isinstance(value, dict):
        return _object(value, room)
    return _write(_default(value), room)


def _default(value: Any) -> Any:
    """The JSON value for an object that is none of JSON's own types. TypeError if there is none."""
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, (datetime.datetime, datetime.date, datetime.time)):
        return value.isoformat()
    if isinstance(value, decimal.Decimal):
        return _decimal(value)
    if isinstance(value, uuid.UUID):
        return str(value)
    if isinstance(value, (set, frozenset, tuple)):
        return list(value)
    if isinstance(value, (bytes, bytearray, memoryview)):
        return _text(bytes(value))
    if isinstance(value, float):
        return float.__pos__(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return _fields(value)
    raise _Refused(f"{type(value).__qualname__} has no JSON form; send plain values or a dataclass")


def _fields(value: Any) -> dict[str, Any]:
    names = [field.name for field in dataclasses.fields(value) if not field.name.startswith("_")]
    try:
        return {name: getattr(value, name) for name in names}
    except AttributeError as error:
        raise _Refused(f"{type(value).__qualname__}.{error.name} has no value") from None


def _object(value: dict[Any, Any], room: int) -> str:
    if not room:
        raise _Refused(_ENDLESS)
    room -= 1
    odd, names, parts = False, [], []
    for key, item in dict.items(value):
        name = key
        if type(key) is not str:
            name, odd = _name(key), True
        names.append(name)
        text = _quote(item) if type(item) is str else _WRITERS.get(type(item), _write_other)(item, room)
        parts.append(f"{_quote(name)}:{text}")
    if odd:
        _check_unique(names)
    return "{" + ",".join(parts) + "}"


def _list(value: list[Any], room: int) -> str:
    if not room:
        raise _Refused(_ENDLESS)
    return _array(value, room - 1)


def _array(value: list[Any] | tuple[Any, ...], room: int) -> str:
    parts = []
    for item in value:  # a comprehension would add a stack frame per level
        parts.append(_quote(item) if type(item) is str else _WRITERS.get(type(item), _write_other)(item, room))
    return "[" + ",".join(parts) + "]"


def _name(key: Any) -> str:
    if isinstance(key, str):
        return str.__str__(key)
    if isinstance(key, enum.Enum) and not isinstance(key, int):
        return _name(key.value)
    if key is None or isinstance(key, (int, float)):
        text = _write(key, 0)
        if text != "null" or key is None:
            return text
    raise _Refused(f"{key!r} cannot be a key in JSON; keys are text, numbers, booleans or None")


def _check_unique(names: list[str]) -> None:
    if len(set(names)) != len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise _Refused(f"two keys of a dict would both become {twice!r} in JSON")


def _integer(value: int, room: int = 0) -> str:
    try:
        return int.__repr__(value)
    except ValueError:  # sys.get_int_max_str_digits
        raise _Refused("an integer has too many digits to be written") from None


def _number(value: float, room: int = 0) -> str:
    """Written as orjson does: 0.00001 and 1e-6, where `repr` gives 1e-05 and 1e-06."""
    text = float.__repr__(value)
    if "n" in text:  # nan, inf
        return "null"
    digits, _, exponent = text.partition("e-")
    if not exponent:
        return text
    if exponent == "05":
        sign = "-" if digits[0] == "-" else ""
        return f"{sign}0.0000{digits.lstrip('-').replace('.', '')}"
    return f"{digits}e-{int(exponent)}"


def _decimal(value: decimal.Decimal) -> float | None:
    if not value.is_finite():
        return None
    number = float(value)
    if math.isinf(number):
        raise _Refused(f"{value} is not a number in JSON; send it as text")
    return number


def _text(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.hex()


_WRITERS: dict[type, Callable[[Any, int], str]] = {
    str: lambda value, room: _quote(value),
    int: _integer,
    dict: _object,
    list: _list,
    tuple: _array,  # orjson does not count a tuple as a level
    float: _number,
    type(None): lambda value, room: "null",
    bool: lambda value, room: "true" if value else "false",
}

# --- reading: the rules -----------------------------------------------------------------------------------------------

_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
# Matches one escape at a time; the group matches a surrogate without its other half.
_ESCAPE = re.compile(r"\\u[dD][89abAB]..\\u[dD][c-fC-F]..|\\u([dD][89a-fA-F]..)|\\.", re.DOTALL)


def _plain_loads(data: bytes | bytearray | memoryview | str) -> Any:
    text = data if isinstance(data, str) else bytes(data).decode()
    if not text.isascii():
        text.encode()  # refuses lone surrogates
    try:
        value = _DECODER.decode(text)
    except RecursionError:
        raise ValueError(f"JSON is {_TOO_DEEP}") from None
    if _SURROGATE.search(text) and any(escape[1] for escape in _ESCAPE.finditer(text)):
        raise ValueError("a text in JSON has a lone surrogate, which is no character")
    if text.count("[") + text.count("{") > LEVELS and _is_deep(value):
        raise ValueError(f"JSON is {_TOO_DEEP}")
    return value


def _is_deep(value: Any) -> bool:
    level = [value]
    for _ in range(LEVELS):
        containers = [c for c in level if type(c) is dict or type(c) is list]
        level = [item for c in containers for item in (c.values() if type(c) is dict else c)]
    return any(type(item) is dict or type(item) is list for item in level)


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _finite(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise ValueError("a number in JSON is too large for a double")
    return number


_DECODER = json.JSONDecoder(parse_constant=_refuse_constant, parse_float=_finite)

plain = Codec(_plain_dumps, _plain_loads)

# --- the same, by orjson ----------------------------------------------------------------------------------------------

# orjson reads integers beyond 64 bits as floats. These have at least 20 digits in a row, or 19 after a minus. Every
# message is searched for such a run, so the search must be cheap: all digits become zeros, then it is a fixed text.
_AS_ZEROS = bytes(ord("0") if 48 <= code < 58 else code for code in range(256))
_RUN, _POSITIVE, _NEGATIVE = b"0" * 19, b"0" * 20, b"-" + b"0" * 19
_SHALLOW = 2 * LEVELS  # fewer bytes than this cannot be nested too deeply


def _fast_dumps(value: Any) -> bytes:
    try:
        return orjson.dumps(value, _default, _OPTIONS)
    except orjson.JSONEncodeError:
        pass  # raising here would chain the two errors in the traceback
    return _plain_dumps(value)


def _fast_loads(data: bytes | bytearray | memoryview | str) -> Any:
    if type(data) is not bytes:
        data = data.encode() if isinstance(data, str) else bytes(data)
    # `partition` is the fastest search: it takes one argument and copies nothing if nothing is found.
    if len(data) < _SHALLOW and not data.translate(_AS_ZEROS).partition(_RUN)[1]:
        try:
            return orjson.loads(data)
        except ValueError:
            return _plain_loads(data)
    return _careful_loads(data)


def _careful_loads(data: bytes) -> Any:
    """For texts that are long enough to be nested too deeply, or that may contain an integer beyond 64 bits."""
    zeros = data.translate(_AS_ZEROS)
    if _RUN in zeros and (_POSITIVE in zeros or _NEGATIVE in zeros):
        return _plain_loads(data)
    try:
        value = orjson.loads(data)
        if data.count(b"[") + data.count(b"{") > LEVELS:
            orjson.dumps(value)  # writing checks the depth, which reading does not; faster than a check here
    except (ValueError, TypeError):
        return _plain_loads(data)
    return value


if orjson is not None:
    # orjson would write a dataclass's `__dict__`, and times in a different form.
    _OPTIONS = orjson.OPT_PASSTHROUGH_DATACLASS | orjson.OPT_PASSTHROUGH_DATETIME

fast = Codec(_fast_dumps, _fast_loads) if ACCELERATED else None
"""The implementation with orjson; None without the extra."""

dumps, loads = fast or plain
