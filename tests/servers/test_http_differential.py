"""The same bytes for our parser and for gunicorn's: each difference is one of a table, which docs/http-standard.md
explains."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import pytest
from daebus_runtime.servers.http.clock import Clock
from daebus_runtime.servers.http.framing import Body, BrokenBody
from daebus_runtime.servers.http.head import read_head
from daebus_runtime.servers.http.target import Refused
from gunicorn.config import Config
from gunicorn.http.parser import RequestParser
from hypothesis import HealthCheck, given, settings

from tests.servers.rules import INCOMPLETE, RULES
from tests.servers.rules.mutations import requests

PAGE = Path(__file__).parents[2] / "docs/http-standard.md"
Taken = tuple[str, str, str, dict[str, str], bytes]
"""Method, path, query, fields by lower-case name, body; of a refusal only the reason, and nothing else."""

HERE = {
    "no Host": "missing Host",
    "malformed Host": "malformed Host",
    "malformed target": "malformed target",
    "a dot segment in the path": "dot segment",
    ".* comes twice": "field that comes twice",
    "the target of CONNECT is not an authority|CONNECT: this is no proxy": "CONNECT",
    "a transfer coding other than chunked": "other transfer coding",
    r"a Content-Length of more than \d+ digits": "endless Content-Length",
    ".* comes as a trailer": "forbidden trailer",
    "the body ends early": "body that ends early",
    "more than .* header lines or .* bytes": "large header",
}
"""Why we refuse what gunicorn accepts."""
THERE = {
    "InvalidRequestMethod": "unusual method",
    "ExpectationFailed": "empty Expect",
    "LimitRequestLine": "long request line",
}
"""Why gunicorn refuses what we accept."""


def ours(data: bytes) -> str | Taken:
    file: Any = io.BufferedReader(io.BytesIO(data))
    try:
        head = read_head(file, file.peek(1))
        body = Body(file, Clock(), None if head.chunked else head.length or 0).read()
    except (Refused, BrokenBody) as refused:
        return str(refused)
    except EOFError:
        return "the header ends early"
    return head.method, head.target.partition("?")[0], head.query, head.fields, body


def theirs(data: bytes) -> str | Taken:
    try:
        request = next(RequestParser(Config(), iter([data]), ("127.0.0.1", 1)))
        body = request.body.read()
    except Exception as refused:
        return type(refused).__name__
    fields: dict[str, str] = {}
    for name, value in request.headers:
        key, glue = name.lower(), "; " if name.lower() == "cookie" else ", "
        fields[key] = fields[key] + glue + value if key in fields else value
    return request.method, request.path, request.query or "", fields, body


def difference(data: bytes) -> str:
    """The name of the difference between the two, in the table; empty if there is none."""
    here, there = ours(data), theirs(data)
    if here == there or (isinstance(here, str) and isinstance(there, str)):
        return ""
    if isinstance(here, str):
        return next((name for pattern, name in HERE.items() if re.fullmatch(rf"(.*: )?({pattern})", here)), here)
    if isinstance(there, str):
        return THERE.get(there, there)
    absolute = re.match(rb"(\r\n)?\S+ https?:", data, re.IGNORECASE)
    same = (here[0], here[2], here[4]) == (there[0], there[2], there[4])
    return "absolute target" if absolute and same else f"{here} {there}"


EXPLAINED = set(re.findall(r"(?m)^\| ([^|]+?) \| [^|]+ \| [^|]+ \| [^|]+ \|$", PAGE.read_text())) - {"difference"}
"""The first column of the page's table."""


def test_every_difference_is_in_the_table_and_every_row_is_a_difference() -> None:
    corpus = [request for rule in RULES + INCOMPLETE for request in rule.requests]
    assert {difference(request) for request in corpus} - {""} == EXPLAINED


@settings(deadline=None, max_examples=400, suppress_health_check=[HealthCheck.too_slow])
@given(requests())
def test_changed_requests_differ_only_as_the_table_says(data: bytes) -> None:
    assert difference(data) in EXPLAINED | {""}


@pytest.mark.long
@settings(deadline=None, max_examples=4000, suppress_health_check=[HealthCheck.too_slow])
@given(requests())
def test_many_changed_requests_do_too(data: bytes) -> None:
    assert difference(data) in EXPLAINED | {""}
