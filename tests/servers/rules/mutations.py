"""Requests that resemble those of the rules: a hypothesis strategy that changes a few bytes or lines of one."""

from __future__ import annotations

from hypothesis import strategies as st

from . import INCOMPLETE, RULES

REQUESTS = [request for rule in RULES + INCOMPLETE for request in rule.requests if len(request) < 2000]
PIECES = [
    *(
        b"",
        b" ",
        b"\t",
        b"\r",
        b"\n",
        b"\r\n",
        b"\x00",
        b"\x0b",
        b"\x7f",
        b"\x80",
        b"\xff",
        b":",
        b";",
        b",",
        b"=",
        b'"',
    ),
    *(
        b"/",
        b"//",
        b"/..",
        b"%",
        b"%2e",
        b"%2F",
        b"?",
        b"#",
        b"@",
        b"[",
        b"]",
        b"*",
        b"-",
        b"+",
        b"_",
        b"0",
        b"1",
        b"a",
    ),
    *(b"HTTP/1.1", b"HTTP/1.0", b"GET", b"POST", b"CONNECT", b"OPTIONS", b"http://x", b"x:80"),
]
LINES = [
    *(b"Host: x", b"Host: y:80", b"Host:", b"Content-Length: 5", b"Content-Length: 0", b"Content-Length: 5, 5"),
    *(
        b"Transfer-Encoding: chunked",
        b"Transfer-Encoding: gzip, chunked",
        b"Connection: close",
        b"Expect: 100-continue",
    ),
    *(b" folded", b"X : y", b"X: y", b"X_Y: z", b"no colon", b"", b"0", b"5", b"12345", b"5;a=b"),
]


def _changed(request: bytes, place: int, length: int, piece: bytes) -> bytes:
    place %= len(request) + 1
    return request[:place] + piece + request[place + length :]


def _with_line(request: bytes, place: int, length: int, line: bytes) -> bytes:
    lines = request.split(b"\r\n")
    place %= len(lines)
    return b"\r\n".join([*lines[:place], line, *lines[place + length :]])


@st.composite
def requests(draw: st.DrawFn) -> bytes:
    """A request of the rules with at most three changes."""
    request = draw(st.sampled_from(REQUESTS))
    for _ in range(draw(st.integers(0, 3))):
        place, length = draw(st.integers(0, 300)), draw(st.integers(0, 3))
        if draw(st.booleans()):
            request = _changed(request, place, length, draw(st.sampled_from(PIECES) | st.binary(max_size=2)))
        else:
            request = _with_line(request, place, min(length, 1), draw(st.sampled_from(LINES)))
    return request
