"""Whatever bytes a client sends: a head, a body and frames are taken or refused, in one way only, and nothing else."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from typing import Any, cast

from daebus_runtime.servers.http.clock import Clock
from daebus_runtime.servers.http.framing import Body, BrokenBody
from daebus_runtime.servers.http.head import MOST_FIELDS, Head, Refused
from daebus_runtime.servers.websocket.frames import FrameReader, Violation
from hypothesis import given, settings
from hypothesis import strategies as st

QUICK = settings(deadline=None, max_examples=300)
LINES = [
    *(
        b"GET /a HTTP/1.1",
        b"GET * HTTP/1.1",
        b"OPTIONS * HTTP/1.1",
        b"POST http://a/b?c HTTP/1.0",
        b"GET /%zz HTTP/1.1",
    ),
    *(b"Host: a", b"host:b:80", b"Host: a b", b"Content-Length: 5", b"Content-Length: 5, 5", b"Content-Length: +5"),
    *(b"Transfer-Encoding: chunked", b"Transfer-Encoding: gzip", b"Expect: 100-continue", b"Connection: close"),
    *(b" folded", b"Name : value", b": no name", b"X: \x00", b"X: caf\xe9", b"", b"\t"),
]
ENDS = [b"\r\n", b"\r\n", b"\r\n", b"\n", b"\r", b"\r\r\n", b""]
HEADS = st.lists(
    st.tuples(st.one_of(st.sampled_from(LINES), st.binary(max_size=20)), st.sampled_from(ENDS)), max_size=9
)
SIZES = [
    b"5",
    b"0",
    b"00",
    b"a",
    b"FFFFFFFFFFFFFFFFF",
    b"-1",
    b"+5",
    b"0x5",
    b"1_0",
    b"",
    b"5;a=b",
    b'5;a="\x01"',
    b" 5",
]
CHUNKS = st.lists(
    st.tuples(st.one_of(st.sampled_from([*SIZES, b"12345", b"A: b"]), st.binary(max_size=6)), st.sampled_from(ENDS)),
    max_size=9,
)


class Pieces(io.RawIOBase):
    """The bytes as a socket may bring them: in pieces of these sizes."""

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


def joined(lines: list[tuple[bytes, bytes]]) -> bytes:
    return b"".join(line + end for line, end in lines)


def outcome(read: Callable[[], object], *refusals: type[Exception]) -> object:
    """What a reader makes of its bytes; a refusal as its text. Any other exception is a fault."""
    try:
        return read()
    except refusals as refusal:
        return type(refusal).__name__, str(refusal)


def head_of(data: bytes, cuts: list[int]) -> object:
    file = buffered(data, cuts)

    def read() -> object:
        head = Head(file.readline)
        return head.method, head.target, head.version, head.fields, head.length, head.chunked, file.read()

    return outcome(read, Refused, EOFError)


@QUICK
@given(HEADS, st.lists(st.integers(1, 20), max_size=30))
def test_a_head_is_unambiguous_or_refused_however_it_arrives(lines: list[tuple[bytes, bytes]], cuts: list[int]) -> None:
    data = joined(lines) + b"\r\n\r\n"
    taken = head_of(data, [])
    assert head_of(data, cuts) == taken
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


def body_of(data: bytes, cuts: list[int]) -> object:
    file = buffered(data, cuts)
    return outcome(lambda: (Body(file, Clock(), None).read(), file.read()), BrokenBody)


@QUICK
@given(CHUNKS, st.lists(st.integers(1, 20), max_size=30))
def test_a_chunked_body_is_whole_or_refused_however_it_arrives(
    lines: list[tuple[bytes, bytes]], cuts: list[int]
) -> None:
    data = joined(lines) + b"\r\n0\r\n\r\nnext"
    taken = body_of(data, [])
    assert body_of(data, cuts) == taken
    if isinstance(taken, tuple) and isinstance(taken[0], bytes):
        assert taken[1].endswith(b"next")


@QUICK
@given(st.binary(max_size=60), st.sampled_from([0, 0x40, 0x70]), st.lists(st.integers(1, 9), max_size=20))
def test_frames_are_read_or_refused_and_reserved_bits_need_an_agreement(
    data: bytes, reserved: int, cuts: list[int]
) -> None:
    stream = buffered(data, cuts)
    reader = FrameReader(stream.read1, reserved=reserved)
    while True:
        found = outcome(lambda: reader.next(1000), Violation, EOFError)
        if isinstance(found, tuple) and isinstance(found[0], str):
            return
        assert not reader.bits & ~reserved
