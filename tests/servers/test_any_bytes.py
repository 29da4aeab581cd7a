"""Random bytes from a client: a head, a body or a frame is accepted or refused, without any other exception and
with the same result however the bytes are cut into pieces."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from typing import Any, cast

import falcon
from daebus_runtime.servers.http.bodies import parse
from daebus_runtime.servers.http.clock import Clock
from daebus_runtime.servers.http.framing import Body, BrokenBody, malformed
from daebus_runtime.servers.http.head import MOST_FIELDS, MOST_HEADER, MOST_LINE, read_head
from daebus_runtime.servers.http.requests import Content
from daebus_runtime.servers.http.target import Refused
from daebus_runtime.servers.websocket.frames import FrameReader, Violation
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.servers.rules.mutations import requests

QUICK = settings(deadline=None, max_examples=120)
STARTS = [
    *(
        b"",
        b"GET /a HTTP/1.1\r\n",
        b"GET /a HTTP/1.1\r\nHost: a\r\n",
        b"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n",
    ),
    *(b"OPTIONS * HTTP/1.1\r\n", b"POST http://a/b?c HTTP/1.0\r\n", b"GET /%zz HTTP/1.1\r\n", b"GET * HTTP/1.1\r\n"),
]
LINES = [
    *(b"Host: a", b"host:b:80", b"Host: a b", b"Content-Length: 5", b"Content-Length: 5, 5", b"Content-Length: +5"),
    *(b"Transfer-Encoding: chunked", b"Transfer-Encoding: gzip", b"Expect: 100-continue", b"Connection: close"),
    *(b" folded", b"Name : value", b": no name", b"X: \x00", b"X: caf\xe9", b"", b"\t"),
]
SIZES = [
    *(b"5", b"0", b"00", b"a", b"FFFFFFFFFFFFFFFFF", b"-1", b"+5", b"0x5", b"1_0", b"", b"5;a=b", b'5;a="\x01"', b" 5"),
    *(b"12345", b"A: b"),
]
ENDS = [*[b"\r\n"] * 12, b"\n", b"\r", b"\r\r\n", b""]
LONG = st.sampled_from([1, 700, MOST_LINE - 3, MOST_LINE + 9]).map(lambda size: b"a: " + b"b" * size)


def lines(usual: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
    return st.builds(bytes.__add__, usual | st.binary(max_size=20), st.sampled_from(ENDS))


HEADS = st.builds(
    lambda start, more: start + b"".join(more),
    st.sampled_from(STARTS),
    st.lists(lines(st.sampled_from(LINES)), max_size=7),
)
CHUNKS = st.lists(lines(st.sampled_from(SIZES)), max_size=9).map(b"".join)
CUTS = st.lists(st.integers(1, 20), max_size=30)


class Pieces(io.RawIOBase):
    """The bytes in pieces of these sizes, as a socket may deliver them."""

    def __init__(self, data: bytes, cuts: list[int]) -> None:
        self._data, self._cuts = data, list(cuts)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        size = min(self._cuts.pop(0) if self._cuts else len(self._data), len(buffer), len(self._data))
        buffer[:size], self._data = self._data[:size], self._data[size:]
        return size


def buffered(data: bytes, cuts: list[int]) -> Any:
    return io.BufferedReader(cast("Any", Pieces(data, cuts)))


def outcome(read: Callable[[], object], *refusals: type[Exception]) -> object:
    """The reader's result, or the name and text of its refusal. Any other exception is a bug."""
    try:
        return read()
    except refusals as refusal:
        return type(refusal).__name__, str(refusal)


def head_of(data: bytes, cuts: list[int], known_host: str | None = None) -> object:
    file = buffered(data, cuts)

    def read() -> object:
        head = read_head(file, file.peek(1), known_host)
        return head.method, head.target, head.version, head.fields, head.length, head.chunked, file.read()

    return outcome(read, Refused, EOFError)


@QUICK
@given(HEADS, CUTS)
@example(STARTS[3] + b"Transfer-Encoding: chunked", [])
def test_a_head_is_unambiguous_or_refused_however_it_arrives(sent: bytes, cuts: list[int]) -> None:
    data = sent + b"\r\n\r\n"
    taken = head_of(data, [])
    assert head_of(data, cuts) == taken
    assert head_of(data, cuts, "a") == taken  # the same on a connection that has seen a Host before
    if isinstance(taken, tuple) and len(taken) == 7:
        method, target, version, fields, length, chunked, _ = taken
        assert re.fullmatch(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+", method)
        assert target == "*" or target.startswith("/")
        assert version == "1.0" or "host" in fields
        assert len(fields) <= MOST_FIELDS
        assert not (chunked and length is not None)
        assert not [
            text for text in (target, *fields, *fields.values()) if re.search(r"[\x00-\x08\x0a-\x1f\x7f]", text)
        ]


@QUICK
@given(st.sampled_from(STARTS), lines(LONG).filter(bool))
def test_an_endless_head_is_refused_at_its_limits(sent: bytes, again: bytes) -> None:
    raw = io.BytesIO(sent + again * (3 * MOST_HEADER // len(again)))
    file = io.BufferedReader(raw)
    outcome(lambda: read_head(file, file.peek(1)), Refused)
    assert file.tell() <= MOST_HEADER + 4 * (MOST_LINE + 2)


def body_of(data: bytes, cuts: list[int], length: int | None = None) -> object:
    file = buffered(data, cuts)
    return outcome(lambda: (Body(file, Clock(), length).read(), file.read()), BrokenBody)


@QUICK
@given(CHUNKS, CUTS)
def test_a_chunked_body_is_complete_or_refused_however_it_arrives(sent: bytes, cuts: list[int]) -> None:
    data = sent + b"\r\n0\r\n\r\nnext"
    taken = body_of(data, [])
    assert body_of(data, cuts) == taken
    if isinstance(taken, tuple) and isinstance(taken[0], bytes):
        assert taken[1].endswith(b"next")


@QUICK
@given(st.binary(max_size=60), st.integers(0, 80), CUTS)
def test_a_body_has_its_announced_length_or_is_refused(data: bytes, length: int, cuts: list[int]) -> None:
    whole = (data[:length], data[length:])
    assert body_of(data, cuts, length) == (whole if length <= len(data) else ("BrokenBody", "the body ends early"))


@QUICK
@given(st.binary(max_size=60), st.sampled_from([0, 0x40, 0x70]), st.lists(st.integers(1, 9), max_size=20))
def test_frames_are_read_or_refused_and_reserved_bits_need_an_extension(
    data: bytes, reserved: int, cuts: list[int]
) -> None:
    stream = buffered(data, cuts)
    reader = FrameReader(stream.read1, reserved=reserved)
    while True:
        found = outcome(lambda: reader.next(1000), Violation, EOFError)
        if isinstance(found, tuple) and isinstance(found[0], str):
            return
        assert not reader.bits & ~reserved


# --- requests that resemble real ones, and the contents of bodies


def whole(data: bytes, cuts: list[int]) -> object:
    """Head and body of a request, and the bytes behind it."""
    file = buffered(data, cuts)

    def read() -> object:
        head = read_head(file, file.peek(1))
        body = Body(file, Clock(), None if head.chunked else head.length or 0).read()
        return head.method, head.target, head.version, head.fields, head.close, body, file.read()

    return outcome(read, Refused, BrokenBody, EOFError)


@settings(QUICK, max_examples=300)
@given(requests(), CUTS)
def test_a_changed_request_is_understood_in_one_way_however_it_arrives(data: bytes, cuts: list[int]) -> None:
    taken = whole(data, [])
    assert whole(data, cuts) == taken
    _, found, chunks = data.partition(b"\r\n\r\n")
    if found and malformed(chunks):  # a chunked body that is refused early is refused anyway
        refusal = body_of(chunks, [])
        assert isinstance(refusal, tuple)
        assert refusal[0] == "BrokenBody"


MULTIPART = "multipart/form-data"
KINDS = [
    *("application/json", "application/problem+json; charset=x", "application/x-www-form-urlencoded", "text/plain"),
    *(f"{MULTIPART}; boundary=X", MULTIPART, f'{MULTIPART}; boundary="', f"{MULTIPART}; boundary=", "", ";", "/"),
]
PART = b"Content-Disposition: form-data; name="
CONTENTS = [
    *(b'{"a": 1}', b"[1,", b"[" * 2000, b"a=1&b=%C3%BC", b"a=%", b"%ff=%ff", b"&" * 1001, b"=", b"\xff"),
    *(b"a" * 5000 + b"%", b"--X\r\n", b"--X--", b"\r\n--X\r\n", b"\r\n\r\n", b"Content-Disposition: x\r\n"),
    *(PART + b'"a"\r\n\r\n', PART + b'"f"; filename="\xc3\xbc"\r\nContent-Type: image/x\r\n\r\n', PART),
]


@settings(QUICK, max_examples=300)
@given(st.sampled_from(KINDS), st.lists(st.sampled_from(CONTENTS) | st.binary(max_size=20), max_size=6))
def test_the_content_of_a_body_is_parsed_or_refused(kind: str, pieces: list[bytes]) -> None:
    body = b"".join(pieces)
    found = outcome(lambda: parse(body, kind, 10_000), falcon.HTTPBadRequest)
    assert isinstance(found, tuple) or (isinstance(found, Content) and found.body == body)
