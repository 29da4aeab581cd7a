"""A client's bytes as a file: counts them and is fair to other clients. Knows nothing of HTTP."""

from __future__ import annotations

import io
import ssl
from typing import Any

from gevent import get_hub, getcurrent

from ...turn import Share
from . import tls
from .clock import BODY, HEADER, IDLE, LINGER, Clock

BUFFER = 8192
# In other phases the connection itself takes its turns; so does a WebSocket, whose phase is HANDLER.
_GREEDY = (HEADER, BODY, LINGER)


class Source(io.RawIOBase):
    """Reads from a gevent socket.

    A read that finds bytes does not wait, so a client that always has bytes ready could hold the loop. Therefore such
    reads use the connection's share of the loop. A client that waits for answers is not affected.
    """

    def __init__(self, sock: Any, clock: Clock) -> None:
        self._socket, self._clock, self._hub = sock, clock, get_hub()
        self.receive: tls.Receive = sock._sock.recv_into
        """Reads what has arrived; BlockingIOError if that is nothing."""
        self.layered = False
        """Whether bytes can be here, decrypted, although the socket has none."""
        self.share = Share()
        self.patient = True
        self.waited = False
        """Set to True when a read had to wait, so the loop has turned. Users reset it to False."""

    def readable(self) -> bool:
        return True

    def arrived(self, file: io.BufferedReader) -> bytes:
        """The next bytes of the buffered file, as far as they have arrived; never waits."""
        self.patient = False
        try:
            return file.peek(1)
        finally:
            self.patient = True

    def readinto(self, buffer: Any) -> int | None:
        clock = self._clock
        if clock.phase is IDLE and self.patient and not self.layered:
            # A client that waits for its answer has hardly sent the next request.
            return self._wait(buffer)
        try:
            size: int = self.receive(buffer)
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
        watcher = self._socket._read_event
        while True:
            watcher.start(getcurrent().switch)
            try:
                self._hub.switch()
            finally:
                watcher.stop()
            self.waited = True
            try:
                size: int = self.receive(buffer)
            except BlockingIOError:  # woken, but there is nothing to read
                continue
            return size


def open_source(sock: Any, clock: Clock) -> tuple[Source, io.BufferedReader]:
    """The source of a connection, and a buffered file that reads from it."""
    source = Source(sock, clock)
    if isinstance(sock, ssl.SSLSocket):
        source.receive, source.layered = tls.receiver(sock), True
    return source, io.BufferedReader(source, BUFFER)
