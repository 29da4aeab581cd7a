"""Sends bytes to one client: in order, without waiting for the client, with a limit for what may wait.

First it tries a plain non-blocking send. What the kernel does not accept waits in a queue, which a greenlet empties.
Used on the home loop only.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

import gevent
import gevent.socket

from ...turn import Share
from .frames import Frame

MOST_BYTES = 4 * 1024 * 1024
"""How many bytes may wait for one client; a single frame may be larger."""
TOTAL_BYTES = 128 * 1024 * 1024
"""When more bytes than this wait for all clients of the process, the limit for each client becomes SHARE_BYTES."""
SHARE_BYTES = 64 * 1024
FRAME_BYTES = 100
"""Memory of a waiting frame besides its bytes."""
CROWDED = 64
BATCH = 65_536


class Outbox:
    """`full` is called when more waits than allowed. It decides what happens, for example dropping the client; the
    outbox itself accepts every frame."""

    total = 0
    """Bytes that wait for all clients."""

    def __init__(self, sock: Any, full: Callable[[], None]) -> None:
        self._sock, self._full = sock, full
        # A TLS socket has no underlying plain send, so all its frames go through the writer.
        self._plain: Any = getattr(sock, "_sock", None) if type(sock) is gevent.socket.socket else None
        self._begun: bytes | memoryview = (
            b""  # partly sent: must be completed, because half a frame would break the stream
        )
        self._queue: deque[Frame] = deque()
        self._size = 0  # bytes, with FRAME_BYTES for each entry
        self._writer: gevent.Greenlet[..., None] | None = None
        self.lost = False
        """Whether the connection can send nothing any more."""

    @property
    def crowded(self) -> bool:
        """Whether a sender should let other greenlets run first."""
        return len(self._queue) > CROWDED or self._size > BATCH

    def put(self, frame: Frame) -> None:
        """Send what is possible without waiting, and the rest as soon as the client reads."""
        if self.lost:
            return
        data, sent = frame.data, 0
        if not self._queue and not self._begun and self._plain is not None:
            try:
                sent = self._plain.send(data)
            except BlockingIOError:
                pass
            except OSError:
                self.stop()
                return
            if sent == len(data):
                return
        if sent:
            self._begun = memoryview(data)[sent:]
        else:
            self._queue.append(frame)
        self._resize(len(data) - sent + FRAME_BYTES)
        if self._writer is None:
            self._writer = gevent.spawn(self._write)
        most = MOST_BYTES if Outbox.total < TOTAL_BYTES else SHARE_BYTES
        if self._size > most and len(self._queue) + bool(self._begun) > 1:
            self._full()

    def shorten(self) -> None:
        """Drop waiting frames, except partly sent ones and those with `keep`."""
        kept = [frame for frame in self._queue if frame.keep]
        self._queue.clear()
        self._queue.extend(kept)
        begun = len(self._begun) + FRAME_BYTES if self._begun else 0
        self._resize(begun + sum(len(frame.data) + FRAME_BYTES for frame in kept) - self._size)

    def flush(self, timeout: float) -> None:
        """Wait until the queue is empty, at most `timeout` seconds."""
        if self._writer is not None:
            self._writer.join(timeout)

    def stop(self) -> None:
        """Send nothing any more."""
        self.lost = True
        self._forget()
        writer, self._writer = self._writer, None
        if writer is not None and writer is not gevent.getcurrent():
            writer.kill(block=False)

    def _write(self) -> None:
        share = Share()
        try:
            while self._begun or self._queue:
                data = self._begun = self._begun or self._batch()
                sent = self._sock.send(data)
                if self.lost:  # stopped meanwhile
                    return
                whole = sent == len(data)
                self._begun = b"" if whole else memoryview(data)[sent:]
                self._resize(-sent - FRAME_BYTES * whole)
                share.take()  # `send` never waits for a client that reads as fast as we write
        except OSError:
            self.stop()
        finally:
            self._writer = None

    def _batch(self) -> bytes:
        """The first frame, with small ones that follow it."""
        queue = self._queue
        parts = [queue.popleft().data]
        size = len(parts[0])
        while queue and size + len(queue[0].data) <= BATCH:
            parts.append(queue.popleft().data)
            size += len(parts[-1])
        self._resize(-FRAME_BYTES * (len(parts) - 1))
        return b"".join(parts) if len(parts) > 1 else parts[0]

    def _forget(self) -> None:
        self._queue.clear()
        self._begun = b""
        self._resize(-self._size)

    def _resize(self, change: int) -> None:
        self._size += change
        Outbox.total += change
