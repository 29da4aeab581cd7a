"""The rules of HTTP/1.1 for a server, each with requests that keep or break it, byte by byte.

A `Rule` names the section that it comes from (`9112 3.2` is RFC 9112, section 3.2), the statuses of its answers, and
whether the connection then ends. test_http_rules.py sends each request, and FOLLOWING behind it.
"""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class Rule:
    """`answers`: a status for each answer, interim ones included. `ends`: the connection, so that FOLLOWING gets no
    answer. `head`: the answers have no body. `said`: text that the last answer contains."""

    section: str
    text: str
    answers: tuple[int, ...]
    ends: bool
    requests: tuple[bytes, ...]
    head: bool = False
    said: str = ""


RULES: list[Rule] = []
INCOMPLETE: list[Rule] = []
HOST = b"Host: x\r\n"
FOLLOWING = b"GET /following HTTP/1.1\r\nHost: x\r\n\r\n"
BODY_LIMIT = 100_000


def kept(section: str, text: str, *requests: bytes, status: int | tuple[int, ...] = 200, **more: object) -> None:
    """A request that is answered, and the connection goes on."""
    answers = status if isinstance(status, tuple) else (status,)
    RULES.append(Rule(section, text, answers, False, requests, **more))  # type: ignore[arg-type]


def last(section: str, text: str, *requests: bytes, status: int | tuple[int, ...] = 200, **more: object) -> None:
    """A request whose answer is the last one of its connection."""
    answers = status if isinstance(status, tuple) else (status,)
    RULES.append(Rule(section, text, answers, True, requests, **more))  # type: ignore[arg-type]


def incomplete(section: str, text: str, *requests: bytes) -> None:
    """Half a request. The client ends its side behind it."""
    INCOMPLETE.append(Rule(section, text, (400,), True, requests))


def refused(section: str, text: str, *requests: bytes, status: int = 400) -> None:
    last(section, text, *requests, status=status)


def get(
    target: bytes, *fields: bytes, method: bytes = b"GET", version: bytes = b"HTTP/1.1", host: bytes = HOST
) -> bytes:
    lines = b"".join(field + b"\r\n" for field in fields)
    return method + b" " + target + b" " + version + b"\r\n" + host + lines + b"\r\n"


def first_line(line: bytes) -> bytes:
    return line + b"\r\n" + HOST + b"\r\n"


def with_host(host: bytes, version: bytes = b"HTTP/1.1") -> bytes:
    return get(b"/", version=version, host=b"Host: " + host + b"\r\n")


def fields(*lines: bytes) -> bytes:
    return get(b"/", *lines)


def post(*lines: bytes, body: bytes = b"", target: bytes = b"/echo", version: bytes = b"HTTP/1.1") -> bytes:
    return get(target, *lines, method=b"POST", version=version) + body


def chunks(body: bytes) -> bytes:
    return post(b"Transfer-Encoding: chunked", body=body)


def names(rules: list[Rule]) -> list[tuple[str, Rule, bytes]]:
    """(name of the test, rule, request) for every request."""
    return [
        (f"{rule.section.replace(' ', '-')} {rule.text} {number}", rule, request)
        for rule in rules
        for number, request in enumerate(rule.requests)
    ]
