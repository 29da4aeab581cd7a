"""Frames of RFC 6455: reads frames and messages from bytes, and encodes messages. Knows nothing of connections."""

from __future__ import annotations

import codecs
import io
import struct
from collections.abc import Callable

from geventwebsocket.exceptions import ProtocolError

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
NORMAL, GOING_AWAY, PROTOCOL_ERROR, NO_CODE, LOST = 1000, 1001, 1002, 1005, 1006
BAD_TEXT, TOO_BIG, TRY_AGAIN_LATER = 1007, 1009, 1013
VALID_CODES = frozenset((1000, 1001, 1002, 1003, *range(1007, 1015)))
RESERVED = 0x70
CHUNK = 65_536


class Violation(ProtocolError):  # type: ignore[misc]
    """The client violated the protocol; `code` is the close code for it."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code


# --- masks ------------------------------------------------------------------------------------------------------------
_BYTES, _ONES = int.from_bytes(bytes(range(256))), int.from_bytes(b"\1" * 256)
_XOR = [(_BYTES ^ _ONES * key).to_bytes(256) for key in range(256)]  # with big integers: a tenth of the time at import
_WHOLE_NUMBER = 400  # up to here one big number is faster than four translations


def unmask(data: bytes, key: bytes) -> bytes:
    """Apply or remove a frame's mask."""
    size = len(data)
    if size < _WHOLE_NUMBER:
        keys = (key * (size // 4 + 1))[:size]
        return (int.from_bytes(data, "little") ^ int.from_bytes(keys, "little")).to_bytes(size, "little")
    mixed = bytearray(data)
    for i in range(4):
        mixed[i::4] = mixed[i::4].translate(_XOR[key[i]])
    return bytes(mixed)


# --- writing ----------------------------------------------------------------------------------------------------------
class Frame:
    """One whole, unmasked frame, as servers send them. It is encoded once for any number of clients.

    data: its bytes on the wire. keep: whether it is sent even if the waiting messages of a slow client are dropped;
    true for control frames.
    """

    __slots__ = ("data", "keep")

    def __init__(self, opcode: int, payload: bytes) -> None:
        size, first = len(payload), 0x80 | opcode
        if size < 126:
            self.data = bytes((first, size)) + payload
        elif size < 65_536:
            self.data = struct.pack("!BBH", first, 126, size) + payload
        else:
            self.data = struct.pack("!BBQ", first, 127, size) + payload
        self.keep = opcode > 7

    @classmethod
    def of(cls, message: str | bytes) -> Frame:
        """A text or a binary message in one frame."""
        return cls(TEXT, message.encode()) if isinstance(message, str) else cls(BINARY, bytes(message))

    @property
    def payload(self) -> bytes:
        return self.data[{126: 4, 127: 10}.get(self.data[1], 2) :]


def close_payload(code: int, reason: str) -> bytes:
    """The payload of a close frame; a long reason is cut between characters."""
    if code == NO_CODE:
        return b""
    return struct.pack("!H", code) + reason.encode("utf-8", "replace")[:123].decode("utf-8", "ignore").encode()


def check_code(code: int) -> int:
    """Returns the code if a close frame may have it; ValueError otherwise."""
    if code in VALID_CODES or 3000 <= code <= 4999:
        return code
    raise ValueError(f"{code!r} is not a close code that may be sent: 1000 to 1003, 1007 to 1014, or 3000 to 4999")


# --- reading ----------------------------------------------------------------------------------------------------------
class FrameReader:
    """Reads frames from a byte stream. `read(n)` returns up to n bytes, none at the end of the stream; `between` is
    called between the reads of one large frame. reserved: the reserved bits (0x40, 0x20, 0x10) that an extension uses;
    `next` stores them in `bits`, and allows them only in the first frame of a message."""

    __slots__ = ("_between", "_buffer", "_forbidden", "_read", "_start", "bits")

    def __init__(
        self, read: Callable[[int], bytes], between: Callable[[], None] = lambda: None, reserved: int = 0
    ) -> None:
        self._read, self._between = read, between
        self._forbidden = RESERVED & ~reserved
        self.bits = 0
        self._buffer = b""
        self._start = 0

    def next(self, room: int) -> tuple[bool, int, bytes]:
        """(whether it is the last of its message, opcode, payload). EOFError; Violation, also for data above `room`
        bytes.

        A length above `room` is refused before the payload is read.
        """
        self._need(2)
        first, second = self._buffer[self._start], self._buffer[self._start + 1]
        opcode, size = first & 15, second & 127
        self.bits = first & RESERVED
        if self.bits and (self.bits & self._forbidden or opcode not in (TEXT, BINARY)):
            raise Violation(PROTOCOL_ERROR, "reserved bits are set")
        if not second & 0x80:
            raise Violation(PROTOCOL_ERROR, "a client's frame is masked")
        if opcode > 7:
            if opcode > PONG or not first & 0x80 or size > 125:
                raise Violation(PROTOCOL_ERROR, "malformed control frame")
        elif opcode > BINARY:
            raise Violation(PROTOCOL_ERROR, "reserved opcode")
        head = 6
        if size > 125:
            size, head = self._long(size)
        if opcode < 8 and size > room:
            raise Violation(TOO_BIG, "message too big")
        self._need(head + size)
        buffer, start = self._buffer, self._start + head
        end = start + size
        data = unmask(buffer[start:end], buffer[start - 4 : start]) if size else b""
        if end == len(buffer):
            self._buffer, self._start = b"", 0
        else:
            self._start = end
        return first > 127, opcode, data

    def _long(self, size: int) -> tuple[int, int]:
        """(length, size of the header) of a frame with an extended length field."""
        if size == 126:
            self._need(8)
            size = struct.unpack_from("!H", self._buffer, self._start + 2)[0]
            least, head = 126, 8
        else:
            self._need(14)
            size = struct.unpack_from("!Q", self._buffer, self._start + 2)[0]
            least, head = 65_536, 14
        if size < least or size >> 63:
            raise Violation(PROTOCOL_ERROR, "a length is not in its shortest form")
        return size, head

    def _need(self, size: int) -> None:
        """Read until the buffer has `size` bytes from `_start` on."""
        have = len(self._buffer) - self._start
        if have >= size:
            return
        if not have:
            self._buffer, self._start = self._more(), 0
            if len(self._buffer) >= size:
                return
        # One growing buffer, because a client may send a large frame byte by byte.
        grown = bytearray(self._buffer[self._start :])
        while len(grown) < size:
            self._between()
            grown += self._more()
        self._buffer, self._start = bytes(grown), 0

    def _more(self) -> bytes:
        data = self._read(CHUNK)
        if not data:
            raise EOFError
        return data


class Fragments:
    """The fragments of a message that consists of several frames."""

    def __init__(self, opcode: int) -> None:
        self.size = 0
        self._text: io.StringIO | None = None
        self._data = bytearray()
        if opcode == TEXT:
            self._text = io.StringIO()
            self._decoder = codecs.getincrementaldecoder("utf-8")("strict")

    def add(self, data: bytes, last: bool) -> None:
        """UnicodeDecodeError as soon as the text can no longer be UTF-8."""
        self.size += len(data)
        if self._text is not None:
            self._text.write(self._decoder.decode(data, last))
        else:
            self._data += data

    def value(self) -> str | bytes:
        return self._text.getvalue() if self._text is not None else bytes(self._data)
