"""The outbox of one client: frames leave in order and whole, its memory is limited and released."""

from __future__ import annotations

from collections.abc import Iterator

import gevent
import pytest
from daebus_runtime.servers.websocket import outbox as module
from daebus_runtime.servers.websocket.frames import BINARY, PING, Frame
from daebus_runtime.servers.websocket.outbox import Outbox
from gevent import socket

from tests.support.waiting import wait_until


class Pair:
    """An outbox and the client's end of its connection."""

    def __init__(self) -> None:
        self.near, self.far = socket.socketpair()
        self.full = 0
        self.outbox = Outbox(self.near, self._count)

    def _count(self) -> None:
        self.full += 1

    def put(self, data: bytes) -> None:
        """Queue a frame of exactly these bytes, without a header."""
        frame = Frame(BINARY, b"")
        frame.data = data
        self.outbox.put(frame)

    def fill(self) -> int:
        """Sends until the socket is full and something waits; the number of bytes sent."""
        size = 0
        while not self.outbox._size:
            self.put(b"." * 50_000)
            size += 50_000
        return size

    def read(self, size: int) -> bytes:
        data = b""
        while len(data) < size and (more := self.far.recv(min(65_536, size - len(data)))):
            data += more
        return data

    def close(self) -> None:
        self.outbox.stop()
        self.near.close()
        self.far.close()


@pytest.fixture
def pair() -> Iterator[Pair]:
    before = Outbox.total
    pair = Pair()
    yield pair
    pair.close()
    assert Outbox.total == before


def test_bytes_arrive_in_order_through_a_full_socket(pair: Pair) -> None:
    size = pair.fill()
    sent = b"".join(b"%d," % n for n in range(10_000))
    for n in range(10_000):
        pair.put(b"%d," % n)
    assert pair.outbox.crowded
    assert pair.read(size) == b"." * size
    assert pair.read(len(sent)) == sent
    wait_until(lambda: not pair.outbox._size)
    assert pair.full == 0
    pair.put(b"directly")
    assert pair.read(8) == b"directly"


def test_more_waiting_bytes_than_allowed_are_reported(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    pair.fill()
    monkeypatch.setattr(module, "MOST_BYTES", 200_000)
    pair.put(b"x" * 100_000)
    assert pair.full == 0
    pair.put(b"x" * 100_000)
    assert pair.full == 1


def test_many_small_frames_count_for_more_than_their_bytes(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    pair.fill()
    monkeypatch.setattr(module, "MOST_BYTES", 200_000)
    for _ in range(2000):
        pair.put(b"x")
    assert pair.full > 0


def test_one_frame_may_be_larger_than_the_limit(pair: Pair) -> None:
    pair.put(b"x" * (module.MOST_BYTES * 2))
    assert pair.full == 0
    assert len(pair.read(module.MOST_BYTES * 2)) == module.MOST_BYTES * 2


def test_all_clients_together_have_a_limit(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    pair.fill()
    pair.put(b"x" * 100_000)
    assert pair.full == 0
    monkeypatch.setattr(module, "TOTAL_BYTES", Outbox.total)
    pair.put(b"x")
    assert pair.full == 1


def test_a_frame_that_is_partly_sent_is_finished_when_the_rest_is_dropped(pair: Pair) -> None:
    size = pair.fill()
    gevent.sleep(0)  # lets the writer begin with the first entry
    for _ in range(100):
        pair.put(b"x" * 1000)
    pair.outbox.put(Frame(PING, b"kept"))
    pair.outbox.shorten()
    pair.put(b"end")
    rest = Frame(PING, b"kept").data + b"end"
    assert pair.read(size + len(rest)) == b"." * size + rest
    wait_until(lambda: not pair.outbox._size)


def test_nothing_more_is_sent_once_the_client_has_gone(pair: Pair) -> None:
    pair.fill()
    pair.far.close()
    wait_until(lambda: pair.outbox.lost)
    pair.put(b"x")
    assert not pair.outbox._size
    other = Pair()
    other.far.close()
    other.put(b"x")
    assert other.outbox.lost
    other.close()
