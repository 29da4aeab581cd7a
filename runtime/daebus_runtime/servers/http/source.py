"""The bytes that a client sends, as a file: fair to the other clients, and counted. Knows no HTTP."""

from __future__ import annotations

import io
import ssl
from typing import Any

from ...turn import Share
from .clock import BODY, HEADER, LINGER, Clock

BUFFER = 8192
# Between requests the connection itself sees to its turns, and so does a WebSocket, which lives in HANDLER.
_GREEDY = (HEADER, BODY, LINGER)


class Source(io.RawIOBase):
    """Reads from a gevent socket.

    A read that finds bytes does not wait, so a client that always has some ready would keep the loop to itself: such
    reads are held to the connection's share of the loop. Where clients wait for their answers, reads wait too.
    """

    def __init__(self, sock: Any, clock: Clock) -> None:
        self._socket, self._clock = sock, clock
        self._receive = sock._sock.recv_into
        self.share = Share()
        self.patient = True
        self.waited = False
        """Whether the loop has turned, since a read had to wait, after somebody set this to False."""

    def readable(self) -> bool:
        return True

    def arrived(self, file: io.BufferedReader) -> bytes:
        """The next bytes of the file over this, as far as they are here; never waits."""
        self.patient = False
        try:
            return file.peek(1)
        finally:
            self.patient = True

    def readinto(self, buffer: Any) -> int | None:
        clock = self._clock
        try:
            size: int = self._receive(buffer)
        except BlockingIOError:
            if not self.patient:
                return None
            size = self._wait(buffer)
        else:
            if clock.phase in _GREEDY:
                self.share.take()
        clock.moved += size
        return size

    def _wait(self, buffer: Any) -> int:
        while True:
            self._socket._wait(self._socket._read_event)
            self.waited = True
            try:
                size: int = self._receive(buffer)
            except BlockingIOError:  # somebody else's byte
                continue
            return size


class TlsSource(Source):
    """The same over TLS, where nobody can tell whether a read waited."""

    def readinto(self, buffer: Any) -> int | None:
        if not self.patient and not self._socket.pending():
            return None
        size: int = self._socket.recv_into(buffer)
        if self._clock.phase in _GREEDY:
            self.share.take()
        self._clock.moved += size
        return size


def open_source(sock: Any, clock: Clock) -> tuple[Source, io.BufferedReader]:
    """The source of a connection, and the buffered file over it."""
    source = TlsSource(sock, clock) if isinstance(sock, ssl.SSLSocket) else Source(sock, clock)
    return source, io.BufferedReader(source, BUFFER)
