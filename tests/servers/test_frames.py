"""The format of frames: the messages are the same, whatever pieces the frames arrive in."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from daebus_runtime.servers.websocket import frames
from daebus_runtime.servers.websocket.frames import Fragments, Frame, FrameReader, Violation, unmask
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.servers import raw


def reader_of(data: bytes, cuts: list[int]) -> Callable[[int], bytes]:
    """A stream that delivers the data in pieces of these sizes, then ends."""
    position, sizes = 0, list(cuts)

    def read(most: int) -> bytes:
        nonlocal position
        size = min(sizes.pop(0) if sizes else most, most)
        piece = data[position : position + size]
        position += size
        return piece

    return read


@settings(deadline=None)
@given(st.binary(max_size=2000), st.binary(min_size=4, max_size=4))
def test_unmasking_is_the_plain_xor(data: bytes, key: bytes) -> None:
    assert unmask(data, key) == raw.mask(data, key)


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from([1, 2, 9, 10]), st.binary(max_size=120)), max_size=10),
    st.lists(st.integers(1, 50), max_size=100),
)
def test_frames_are_the_same_however_they_arrive(sent: list[tuple[int, bytes]], cuts: list[int]) -> None:
    reader = FrameReader(reader_of(b"".join(raw.frame(opcode, data) for opcode, data in sent), cuts))
    assert [reader.next(1000) for _ in sent] == [(True, opcode, data) for opcode, data in sent]
    with pytest.raises(EOFError):
        reader.next(1000)


@pytest.mark.parametrize("size", [125, 126, 65_535, 65_536, 200_000])
def test_frames_of_every_length_are_read_and_written(size: int) -> None:
    data = bytes(i % 251 for i in range(size))
    assert FrameReader(reader_of(raw.frame(2, data), [3] * 1000)).next(size) == (True, 2, data)
    written = Frame(2, data).data
    assert written == raw.frame(2, data, masked=False)
    with pytest.raises(Violation) as caught:
        FrameReader(reader_of(raw.frame(2, data), [])).next(size - 1)
    assert caught.value.code == 1009


@settings(deadline=None)
@given(st.text(max_size=200), st.lists(st.integers(0, 30), max_size=30))
def test_a_text_may_be_split_anywhere(text: str, cuts: list[int]) -> None:
    data, message = text.encode(), Fragments(frames.TEXT)
    for cut in cuts:
        message.add(data[:cut], last=False)
        data = data[cut:]
    message.add(data, last=True)
    assert message.value() == text
    assert message.size == len(text.encode())


@settings(deadline=None)
@given(st.binary(max_size=300))
def test_any_bytes_are_a_frame_a_violation_or_incomplete(data: bytes) -> None:
    reader = FrameReader(reader_of(data, []))

    def read_all() -> None:
        while True:
            _, opcode, payload = reader.next(100)
            assert opcode in (0, 1, 2, 8, 9, 10)
            assert len(payload) <= 125

    with pytest.raises((Violation, EOFError)) as caught:
        read_all()
    assert getattr(caught.value, "code", 1002) in (1002, 1009)


def test_a_long_close_reason_is_cut_between_characters() -> None:
    assert frames.close_payload(1000, "ü" * 100) == b"\x03\xe8" + "ü".encode() * 61
    assert frames.close_payload(1005, "ignored") == b""
