"""The answer to a request: status, header fields and body, made from what a handler returns. Knows no routes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

import falcon

from ... import codec

JSON = "application/json"
OWN_FIELDS = frozenset(("connection", "content-length", "transfer-encoding"))
EMPTY = frozenset((204, 205, 304))
"""Statuses without a body (RFC 9110, 15.3.5, 15.3.6, 15.4.5)."""
_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+").fullmatch
_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*").fullmatch
_JSON_FIELD = ("Content-Type", JSON)

Fields = list[tuple[str, str]]


class Answer:
    """status; fields: of the header, without Content-Length; body: the bytes, None if not even their length is sent."""

    __slots__ = ("body", "fields", "status")

    def __init__(self, status: int, fields: Fields, body: bytes | None = b"") -> None:
        self.status, self.fields, self.body = status, fields, body

    def set(self, name: str, value: str) -> None:
        """Set a field, or add to the list that it has already."""
        lower = name.lower()
        for place, (other, before) in enumerate(self.fields):
            if other.lower() == lower and lower != "set-cookie":
                self.fields[place] = other, f"{before}, {value}"
                return
        self.fields.append((name, value))

    def send(self, start_response: Any, head: bool = False) -> Iterable[bytes]:
        """Give it to a WSGI server. head: it answers a HEAD request."""
        body = self.body
        if body is None:
            start_response(falcon.code_to_http_status(self.status), self.fields)
            return []
        self.fields.append(("Content-Length", str(len(body))))
        start_response(falcon.code_to_http_status(self.status), self.fields)
        return [] if head else [body]


def as_json(status: int, content: Any, fields: Iterable[tuple[str, str]] = ()) -> Answer:
    """An answer with a JSON body."""
    return Answer(status, [_JSON_FIELD, *fields], codec.dumps(content))


def answer_of(result: Any) -> Answer:
    """The answer for a handler's result: data, (data, status) or (data, status, headers); None becomes JSON's null.

    TypeError for data without a JSON form, ValueError for a header that cannot be sent.
    """
    data, status, headers = _taken_apart(result)
    if not headers and status not in EMPTY:
        return Answer(status, [_JSON_FIELD], codec.dumps(data))
    return _with_fields(data, status, checked(headers))


def _with_fields(data: Any, status: int, fields: Fields) -> Answer:
    kind = next((value for name, value in reversed(fields) if name.lower() == "content-type"), JSON)
    if status in EMPTY:
        answer = Answer(status, [("Content-Type", kind)], b"") if status == 205 else Answer(status, [], None)
    elif isinstance(data, (str, bytes)) and not kind.partition(";")[0].strip().lower().endswith("json"):
        answer = Answer(status, [("Content-Type", kind)], data.encode() if isinstance(data, str) else data)
    else:
        answer = Answer(status, [("Content-Type", kind)], codec.dumps(data))
    for name, value in fields:
        if name.lower() != "content-type":
            answer.set(name, value)
    return answer


def refused(error: falcon.HTTPError, path: str) -> Answer:
    """The answer to a request that Falcon, a check or a handler refuses: `{"error": <name of the status>, …}`."""
    content: dict[str, Any] = {"error": falcon.code_to_http_status(error.status_code).partition(" ")[2]}
    if error.status_code == 404:
        content["path"] = path
    if error.description is not None:
        content["detail"] = error.description
    answer = as_json(error.status_code, content)
    for name, value in _pairs(error.headers):
        answer.set(name, value)
    return answer


def _taken_apart(result: Any) -> tuple[Any, int, Any]:
    if isinstance(result, tuple) and len(result) in (2, 3):
        status = result[1]
        if isinstance(status, int) and not isinstance(status, bool) and 200 <= status <= 599:
            return result[0], int(status), result[2] if len(result) == 3 else None
    return result, 200, None


def _pairs(headers: Any) -> Iterable[tuple[str, str]]:
    """The header fields of a dict (a list as value means several fields) or of pairs."""
    items = headers.items() if isinstance(headers, Mapping) else headers or ()
    for name, value in items:
        for one in value if isinstance(value, (list, tuple)) else (value,):
            yield _text(name, str), _text(one, object)


def _text(part: Any, kind: type) -> str:
    """A name or a value as text. Bytes are decoded. None and containers are refused: their str() is never intended."""
    if isinstance(part, (bytes, bytearray)):
        return part.decode("latin-1")
    if part is None or isinstance(part, (Mapping, list, tuple, set, frozenset)) or not isinstance(part, kind):
        raise ValueError(f"a header field is made of text, not of {part!r}")
    return str(part)


def checked(headers: Any) -> Fields:
    """A handler's header fields as pairs. ValueError for one that cannot be sent, or that only the server may set."""
    if not headers:
        return []
    fields = list(_pairs(headers))
    for name, value in fields:
        if not _TOKEN(name):
            raise ValueError(f"{name!r} is not a valid name of a header field")
        if name.lower() in OWN_FIELDS:
            raise ValueError(f"the header field {name!r} is the server's own")
        if not _VALUE(value):
            raise ValueError(
                f"the header field {name!r} contains a line break or a character outside Latin-1: {value!r}"
            )
    return fields
