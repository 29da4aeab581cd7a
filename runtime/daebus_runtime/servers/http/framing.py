"""Finds the end of a request's body and reads its bytes: `wsgi.input`. Does not interpret the content.

A body that is malformed or ends early raises `BrokenBody`. After the answer, the connection decides what to do with an
unread rest (`unread`, `skip`).
"""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Iterator
from typing import Any

from ...turn import Share
from .clock import ANSWER, BODY, HANDLER, Clock
from .head import MOST_LINE, NEVER_TRAILERS, read_fields, read_lines
from .target import TOKEN, Refused, bad

MOST_EXTENSIONS = 65_536
"""Limit for the bytes of chunk extensions in one body."""
SKIP_BYTES = 65_536
"""Up to this many unread body bytes are discarded to keep the connection; above that it is closed."""
CHUNK = 65_536
PIECE = 64
"""After this many chunks the connection takes its share of the loop again, because one read may bring a thousand."""

_TOKEN = TOKEN.encode()
_QUOTED = rb'"(?:[\t \x21\x23-\x5b\x5d-\x7e\x80-\xff]|\\[\t \x21-\x7e\x80-\xff])*"'
_CHUNK_LINE = re.compile(
    rb"([0-9A-Fa-f]{1,16})((?:[ \t]*;[ \t]*%b(?:[ \t]*=[ \t]*(?:%b|%b))?)*)\r\n" % (_TOKEN, _TOKEN, _QUOTED)
).fullmatch


class BrokenBody(OSError):
    """A body that is malformed, ends early or takes too long. `status`: of the answer."""

    def __init__(self, status: str, reason: str, early: bool = False) -> None:
        super().__init__(reason)
        self.status, self.reason, self.early = status, reason, early


class NoBody:
    """The body of a request without one."""

    unread = False
    unskippable = False

    def read(self, size: int | None = -1) -> bytes:
        return b""

    readline = read

    def readlines(self, hint: int = -1) -> list[bytes]:
        return list(self)

    def __iter__(self) -> Iterator[bytes]:
        while line := self.readline():
            yield line

    def _discard(self) -> None:
        """Overrides pywsgi's method: the connection handles the rest."""


class Body(NoBody):
    """A body of `length` bytes, or a chunked one if `length` is None.

    waiting: the socket of a client that waits for `100 Continue` before it sends the body; it is sent with the first
    read.
    """

    def __init__(self, file: Any, clock: Clock, length: int | None, waiting: Any = None) -> None:
        self._file, self._clock, self._waiting = file, clock, waiting
        self._chunked = length is None
        self._left = length or 0  # bytes left of the body, or of the current chunk
        self._ended = length == 0
        self._broken = self._begun = False
        self._extensions = self._chunks = 0
        self._share = Share()

    @property
    def unread(self) -> bool:  # type: ignore[override]
        """Whether the body has not been read to its end."""
        return not self._ended

    @property
    def ahead(self) -> int:
        """How many more bytes are announced, in a chunked body those of the current chunk."""
        return self._left

    @property
    def unskippable(self) -> bool:  # type: ignore[override]
        """Whether the unread rest is, or could be, so long that the connection is closed after the answer."""
        return not self._ended and (
            self._chunked or self._broken or self._waiting is not None or self._left > SKIP_BYTES
        )

    def skip(self) -> None:
        """Read and discard the rest."""
        with contextlib.suppress(OSError):
            while self.read(CHUNK):
                pass

    def read(self, size: int | None = -1) -> bytes:
        """Exactly `size` bytes, fewer only at the end of the body; without a size, all of them. BrokenBody."""
        self._begin()
        pieces = []
        wanted = -1 if size is None else size
        while wanted and not self._ended:
            piece = self._piece(CHUNK if wanted < 0 else min(wanted, CHUNK))
            pieces.append(piece)
            if wanted > 0:
                wanted -= len(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def readline(self, size: int | None = -1) -> bytes:
        line = bytearray()
        while not line.endswith(b"\n") and len(line) != size and (byte := self.read(1)):
            line += byte
        return bytes(line)

    # --- inside ---------------------------------------------------------------------------------------------------
    def _begin(self) -> None:
        if self._broken:
            raise BrokenBody("400 Bad Request", "the body is broken")
        if self._begun:
            return
        self._begun = True
        if self._waiting is not None:
            self._clock.enter(ANSWER)
            self._waiting.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
            self._waiting = None
        if not self._ended:
            self._clock.enter(BODY)

    def _piece(self, most: int) -> bytes:
        """At most `most` bytes, but at least one unless the body ends."""
        try:
            if self._chunked and not self._left:
                self._left = self._next_chunk()
                if not self._left:
                    self._end()
                    return b""
            data: bytes = self._file.read(min(most, self._left))
            self._left -= len(data)
            if not data:
                raise EOFError
            if not self._left:
                if self._chunked:
                    self._check_end_of_chunk()
                else:
                    self._end()
            return data
        except EOFError:
            raise self._failed("the body ends early", early=True) from None
        except Refused as refused:
            raise self._failed(f"the chunked body is malformed: {refused}") from None

    def _end(self) -> None:
        self._ended = True
        self._clock.enter(HANDLER)

    def _failed(self, reason: str, early: bool = False) -> BrokenBody:
        self._broken = True
        if self._clock.expired:
            return BrokenBody("408 Request Timeout", "the body takes too long")
        return BrokenBody("400 Bad Request", reason, early)

    def _next_chunk(self) -> int:
        """The size of the next chunk. For the last one, 0, the trailers are read."""
        self._chunks += 1
        if self._chunks % PIECE == 0:
            self._share.take()
        line: bytes = self._file.readline(MOST_LINE + 2)
        match = _CHUNK_LINE(line)
        if match is None:
            if len(line) < MOST_LINE and not line.endswith(b"\n"):
                raise EOFError
            raise bad("malformed chunk size")
        self._extensions += len(match[2])
        if self._extensions > MOST_EXTENSIONS:
            raise bad(f"more than {MOST_EXTENSIONS} bytes of chunk extensions")
        size = int(match[1], 16)
        if not size:
            self._read_trailers()
        return size

    def _read_trailers(self) -> None:
        """Read them and discard them. Merged into the header, they could replace fields that were checked."""
        forbidden = NEVER_TRAILERS.intersection(read_fields(read_lines(self._file.readline)))
        if forbidden:
            raise bad(f"{min(forbidden)} comes as a trailer")

    def _check_end_of_chunk(self) -> None:
        end = self._file.read(2)
        if end != b"\r\n":
            if b"\r\n".startswith(end):
                raise EOFError
            raise bad("a chunk is longer than its size")


NO_BODY = NoBody()


def malformed(arrived: bytes) -> bool:
    """Whether a chunked body is malformed already in the bytes that have arrived."""
    try:
        Body(io.BytesIO(arrived), Clock(), None).read()
    except BrokenBody as broken:
        return not broken.early
    return False
