"""One connected socket to Redis: sends commands, matches replies to them in order, passes on pushes. When it ends, it
reports the reason, once.

redis-py makes the connection (URL, TLS, user, HELLO 3). After that only this class uses the socket, with watchers of
the loop and no greenlet, so nothing can outlive it. `post` appends a packed command; one `send` carries everything that
was appended in a turn of the loop. Everything here runs on the home loop; callbacks run in the hub and must not block.
"""

from __future__ import annotations

import contextlib
import fcntl
import select
import ssl
import struct
import termios
import time
from collections import deque
from collections.abc import Callable
from typing import Any

import hiredis
from gevent import monkey

from ..logs import runtime_logger
from ..turn import NextTurn
from .home import Home

# How long messages are handed over before the loop polls its other sockets; the clock is read once per TURN_MESSAGES.
TURN_SECONDS, TURN_MESSAGES = 0.005, 32
# In a long turn of the loop, send after this many commands already: the server need not wait for the end of the turn.
FLUSH_COMMANDS = 64
WOULD_BLOCK = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)
READ, WRITE = 1, 2

Callback = Callable[[Any], None]


def pack(*words: bytes | str | int) -> bytes:
    """One command in Redis' protocol."""
    packed: bytes = hiredis.pack_command(words)  # type: ignore[arg-type]
    return packed


PING = pack("PING")


class Stream:
    """`on_push` gets RESP3 pushes. `on_lost` gets replies to commands without a callback, unless they are an integer.
    `on_end` gets, once, the reason and the callbacks that still wait for a reply."""

    def __init__(
        self,
        home: Home,
        connection: Any,
        on_push: Callable[[list[Any]], None],
        on_lost: Callback,
        on_end: Callable[[str, deque[Callback | None]], None],
    ) -> None:
        sock = connection._sock
        sock.setblocking(False)
        self._connection = connection
        self._tls = isinstance(sock, ssl.SSLSocket) or hasattr(sock, "_sslobj")
        # gevent's socket would wait when it is not ready; the plain socket below it does not.
        self._socket: Any = sock if self._tls else getattr(sock, "_sock", sock)
        self._on_push, self._on_lost, self._on_end = on_push, on_lost, on_end
        self._soon, self._buffer = home.soon, home.buffer
        self._out: list[bytes] = []
        self._rest: memoryview | None = None
        self._scheduled = False
        self.queued = 0
        """Bytes that wait to be sent."""
        self.heard = time.monotonic()
        self.asked = 0.0
        self._unsent = 0
        self._pending: deque[Callback | None] = deque()
        parser = hiredis.Reader(notEnoughData=False)
        self._feed: Any = parser.feed  # takes any buffer, which its declared types do not say
        self._take = parser.gets
        self._readable: Any = home.hub.loop.io(sock.fileno(), READ)
        self._writable = home.hub.loop.io(sock.fileno(), WRITE)
        self._later = NextTurn(home.hub.loop, self._take_in)
        self._readable.start(self._read)

    # --- reading --------------------------------------------------------------------------------------------------
    def _read(self) -> None:
        # One `recv` each time the loop reports the socket readable, so that a sender that never pauses cannot starve
        # timers and other sockets.
        try:
            size = self._receive()
            while self._tls and self._socket.pending():  # already decrypted, so the loop will not report it
                size += self._receive()
        except WOULD_BLOCK:
            return
        except OSError as error:
            self.end(str(error) or type(error).__name__)
            return
        if not size:
            self.end("the server closed the connection")
            return
        self.heard, self.asked = time.monotonic(), 0.0
        self._take_in()

    def _receive(self) -> int:
        """Pass what the socket has to the parser; returns its size in bytes."""
        size = int(self._socket.recv_into(self._buffer))
        self._feed(self._buffer, 0, size)
        return size

    def _take_in(self) -> None:
        """Hand over what has arrived, within the time for one turn of the loop; the rest follows at the next turn."""
        try:
            done = self._hand_over()
        except hiredis.HiredisError as error:
            self.end(str(error))
        except Exception as error:
            # After a fault in a callback the service must still receive messages: log it and reconnect.
            runtime_logger.exception("a message from the bus could not be processed")
            self.end(repr(error))
        else:
            if self._socket is not None:
                self._go_on_reading(done)

    def _go_on_reading(self, done: bool) -> None:
        if not done:
            self._readable.stop()
            self._later.ask()
        elif not self._readable.active:
            self._readable.start(self._read)

    def _hand_over(self) -> bool:
        """Returns whether everything was handed over."""
        take, pending, push = self._take, self._pending, hiredis.PushNotification
        until, count = time.monotonic() + TURN_SECONDS, 0
        while (value := take()) is not False:
            if type(value) is push:
                self._on_push(value)
            elif not pending:
                self.end(f"a reply that was not asked for: {value!r}"[:200])
                return True
            elif (callback := pending.popleft()) is not None:
                callback(value)
            elif type(value) is not int:
                self._on_lost(value)
            count += 1
            if not count % TURN_MESSAGES and time.monotonic() > until:
                return False
        return True

    def confirm(self, push: list[Any]) -> None:
        """Match a push to the command that it answers: (P)SUBSCRIBE and (P)UNSUBSCRIBE reply only by push or error."""
        expects = getattr(self._pending[0], "expects", None) if self._pending else None
        if expects is not None and expects(push):
            callback = self._pending.popleft()
            assert callback is not None
            callback(push)

    # --- writing --------------------------------------------------------------------------------------------------
    def post(self, data: bytes, callback: Callback | None = None) -> None:
        """Send one packed command; `callback` gets its reply, an error reply as a value."""
        self._pending.append(callback)
        self._out.append(data)
        self.queued += len(data)
        if not self._scheduled:
            self._scheduled = True
            self._soon(self._flush)
        elif len(self._out) >= FLUSH_COMMANDS:
            self._send()

    def _flush(self) -> None:
        self._scheduled = False
        self._send()

    def _send(self) -> None:
        out = self._out
        if not out or self._rest is not None or self._socket is None:
            return
        data = out[0] if len(out) == 1 else b"".join(out)
        self._out = []
        sent = self._try(data)
        if sent == len(data):
            self.queued = 0
        elif sent >= 0:
            self.queued = len(data) - sent
            self._rest = memoryview(data)[sent:]
            self._writable.start(self._go_on)

    def _go_on(self) -> None:
        """The socket is writable again: send more of the rest."""
        rest = self._rest
        if rest is None or (sent := self._try(rest)) < 0:
            self._writable.stop()
            return
        if sent:
            # Progress with a long message proves that the server is alive.
            self.heard = time.monotonic()
            self.asked = self.heard if self.asked else 0.0
            self.queued -= sent
            self._rest = rest[sent:]
        if not self._rest:
            self._rest = None
            self._writable.stop()
            self._flush()

    def _try(self, data: bytes | memoryview) -> int:
        """How many bytes the socket accepted; -1 if it is broken, which the reader will notice."""
        try:
            return int(self._socket.send(data))
        except WOULD_BLOCK:
            return 0
        except OSError:
            return -1

    # --- is anybody there? ----------------------------------------------------------------------------------------
    def ask(self) -> None:
        """Send a PING to check that the server is alive. It is sent now, so a loop held afterwards cannot delay it."""
        self.asked = time.monotonic()
        self._unsent = self._in_kernel()
        self.post(PING)
        self._send()

    def stirs(self) -> bool:
        """Whether the server has sent or acknowledged bytes that the loop has not noticed yet.

        The kernel sends and receives while a handler holds the loop, so it can tell a dead server from a held loop.
        """
        poll = monkey.get_original("select", "poll")()
        poll.register(self._socket.fileno(), select.POLLIN)
        if poll.poll(0):
            return True
        before, self._unsent = self._unsent, self._in_kernel()
        return self._unsent < before

    def _in_kernel(self) -> int:
        """How many bytes in the kernel are unsent or not acknowledged; 0 if the kernel does not say."""
        with contextlib.suppress(OSError):
            return int(struct.unpack("i", fcntl.ioctl(self._socket.fileno(), termios.TIOCOUTQ, b"\0\0\0\0"))[0])
        return 0

    # --- the end --------------------------------------------------------------------------------------------------
    def end(self, reason: str) -> None:
        """Close and call `on_end`. Further calls do nothing."""
        if self._socket is not None:
            self.forsake()
            pending, self._pending = self._pending, deque()
            self._on_end(reason, pending)

    def forsake(self) -> None:
        """Close without calling `on_end`. The watchers end first: libev must not watch a descriptor that is closed or
        already reused."""
        self._socket = self._rest = None
        self._later.close()
        for watcher in (self._readable, self._writable):
            watcher.stop()
            watcher.close()
        self._out.clear()
        self.queued = 0
        self._connection.disconnect()
