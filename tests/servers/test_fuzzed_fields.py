"""Whatever is sent in the fields about a client is understood or refused, quickly, and is never an exception."""

from __future__ import annotations

import ipaddress
import time

import pytest
from daebus_runtime.context import trace
from daebus_runtime.servers.http import forwarded
from daebus_runtime.servers.http.identity import request_id
from daebus_runtime.servers.http.target import Refused, is_authority
from daebus_runtime.servers.http.trust import Trust
from hypothesis import example, given, settings
from hypothesis import strategies as st

TRUST = Trust(("10.0.0.0/8", "fd00::/8"))
WORDS = "for= proto= host= by= , ; : :: / // . .. % %2f %00 [ ] 10.0.0.1 203.0.113.9 fd00::1 [fd00::1]:80 https"
PIECES = st.sampled_from(
    [*WORDS.split(), "a.example", "unknown", "_x", '"', "\\", "é", "\x85", " ", "\t", "\x00", "9" * 30]
)
TEXT = st.one_of(st.lists(PIECES, max_size=20).map("".join), st.text(st.characters(max_codepoint=255), max_size=80))
FIELDS = st.dictionaries(st.sampled_from(forwarded.FIELDS), TEXT)


@given(FIELDS, st.sampled_from([("10.1.1.1", 1), ("203.0.113.1", 2), ("fd00::1%eth0", 3), "", None]))
@settings(max_examples=150, deadline=None)
def test_fields_of_a_proxy(fields: dict[str, str], peer: object) -> None:
    given_fields = dict(fields)
    try:
        origin = forwarded.read(TRUST, fields, peer)
    except Refused:
        return
    trusted = isinstance(peer, tuple) and peer[0] != "203.0.113.1"
    if not trusted:
        assert origin is None
        assert not fields
        return
    assert (origin is None) is not bool(given_fields)
    if origin is not None:
        assert not origin.address or ipaddress.ip_address(origin.address.partition("%")[0])
        assert 0 <= origin.port <= 65_535
        assert origin.scheme in (None, "http", "https")
        assert origin.host is None or is_authority(origin.host)
        assert origin.prefix == "" or (origin.prefix.startswith("/") and not origin.prefix.startswith("//"))
        assert "\x00" not in origin.prefix


@given(TEXT)
@example("00-" + "1" * 32 + "-" + "1" * 16 + "-01\n")
@settings(max_examples=100, deadline=None)
def test_ids_and_traces(text: str) -> None:
    assert request_id(text).isascii()
    assert request_id(text).isprintable()
    assert trace.onward(text) is None or trace.parse(trace.onward(text))
    state = trace.state(text)
    assert state is None or (len(state) <= trace.MOST_STATE and state.isascii() and state.isprintable())


PARTS = {
    **dict.fromkeys(forwarded.FIELDS, ("a", ",", "/a", "%20", '"\\"')),
    "forwarded": ("a", ",", "for=", "for=a;", "a=b;", 'a="', " ", "=;,", '"\\"'),
    "x-forwarded-for": ("a", ",", "1", "10.0.0.1,", "[", ":", "1:", "_a,"),
}


@pytest.mark.alone
@pytest.mark.parametrize(("name", "part"), [(name, part) for name, parts in PARTS.items() for part in parts])
def test_no_field_takes_long(name: str, part: str) -> None:
    begun = time.thread_time()
    with pytest.raises(Refused):
        forwarded.read(TRUST, {name: part * (60_000 // len(part))}, ("10.1.1.1", 1))
    assert time.thread_time() - begun < 0.1
