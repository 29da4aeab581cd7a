"""JSON in and out, one place for every part of Daebus. Compact, UTF-8, always valid: NaN and infinities become null.

Beside JSON's own types these are written: datetime, date and time (ISO 8601), Decimal (number), UUID (text), Enum
(its value), set and frozenset (array), dataclass (object; fields that start with `_` are left out), bytes (UTF-8 text
when it is that, else hexadecimal). Anything else is a TypeError: attributes of unknown objects are never written out.
"""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
import json
import math
import uuid
from collections.abc import Callable
from typing import Any

try:
    import orjson
except ImportError:  # the extra `fast`
    orjson = None  # type: ignore[assignment]

ACCELERATED = orjson is not None


def dumps(value: Any) -> bytes:
    """Encode `value`; TypeError names a type that has no JSON form."""
    if orjson is not None:
        try:
            return orjson.dumps(value, default=_default)
        except orjson.JSONEncodeError:
            # Integers over 64 bits, keys that are no text, lone surrogates: rare, and the slow path decides.
            pass
    return _dumps_plain(value)


def _loads_plain(data: bytes | bytearray | memoryview | str) -> Any:
    try:
        return json.loads(data if isinstance(data, str) else bytes(data).decode(), parse_constant=_refuse_constant)
    except RecursionError:
        raise ValueError("JSON is nested too deeply") from None


def _dumps_plain(value: Any) -> bytes:
    try:
        text = _encode(value)
    except RecursionError:
        raise TypeError("the value is nested too deeply or contains itself") from None
    return text.encode("utf-8", "replace")


def _encode(value: Any) -> str:
    try:
        return _ENCODER.encode(value)
    except ValueError as error:
        if "Circular" in str(error):
            raise TypeError("the value contains itself") from None
    try:
        return _ENCODER.encode(_without_nan(value))
    except ValueError as error:  # NaN as a key
        raise TypeError(f"the value has no JSON form: {error}") from None


def _default(value: Any) -> Any:
    if isinstance(value, (datetime.datetime, datetime.date, datetime.time)):
        return value.isoformat()
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, decimal.Decimal):
        return float(value)
    if isinstance(value, uuid.UUID):
        return str(value)
    if isinstance(value, (set, frozenset)):
        return list(value)
    if isinstance(value, (bytes, bytearray)):
        return _text(bytes(value))
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: getattr(value, f.name) for f in dataclasses.fields(value) if not f.name.startswith("_")}
    raise TypeError(f"{type(value).__qualname__} has no JSON form; send plain values or a dataclass")


def _text(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.hex()


def _without_nan(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {k: _without_nan(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_nan(v) for v in value]
    if value is None or isinstance(value, (str, int, bool)):
        return value
    return _without_nan(_default(value))


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


_ENCODER = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=_default)

loads: Callable[[bytes | bytearray | memoryview | str], Any] = _loads_plain if orjson is None else orjson.loads
"""Decode strict JSON (no NaN, no trailing text); ValueError otherwise, also for nesting that is too deep."""
