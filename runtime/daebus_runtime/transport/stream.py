"""One connected socket to Redis: commands out, replies in order, pushes aside. It ends once, and says why.

redis-py has made the connection (URL, TLS, user, HELLO 3); from then on the socket is ours, and only watchers of the
loop touch it, so there is no greenlet that could outlive it. `post` appends a packed command and one `send` carries all
that gathered in a turn of the loop. Everything here runs on the home loop; callbacks run in the hub and must not block.
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

READ_BYTES = 256 * 1024
# For how long messages are handed over before the loop looks at its other sockets; the clock is read once for so many.
TURN_SECONDS, TURN_MESSAGES = 0.005, 32
# In a long turn of the loop the other side is not left idle until its end.
FLUSH_COMMANDS = 64
WOULD_BLOCK = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)
READ, WRITE = 1, 2

Callback = Callable[[Any], None]


def pack(*words: bytes | str) -> bytes:
    """One command in Redis' protocol."""
    packed: bytes = hiredis.pack_command(words)  # type: ignore[arg-type]
    return packed


PING = pack("PING")


class Stream:
    """`on_push` gets RESP3 pushes, `on_lost` a value that nobody waits for (an int, a text or an error reply), `on_end`
    the reason, once, and the callbacks that still wait for a reply."""

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
        # gevent's socket only adds waiting, which is not wanted here.
        self._socket: Any = sock if self._tls else getattr(sock, "_sock", sock)
        self._on_push, self._on_lost, self._on_end = on_push, on_lost, on_end
        self._soon = home.soon
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
        self._feed, self._take = parser.feed, parser.gets
        self._readable: Any = home.hub.loop.io(sock.fileno(), READ)
        self._writable = home.hub.loop.io(sock.fileno(), WRITE)
        self._later = NextTurn(home.hub.loop, self._take_in)
        self._readable.start(self._read)

    # --- reading --------------------------------------------------------------------------------------------------
    def _read(self) -> None:
        # Once for each time that the loop finds the socket readable: a sender that never pauses must not keep timers
        # and everybody else from running.
        try:
            data = self._socket.recv(READ_BYTES)
            while self._tls and (left := self._socket.pending()):  # decrypted already: the loop does not see it
                data += self._socket.recv(left)
        except WOULD_BLOCK:
            return
        except OSError as error:
            self.end(str(error) or type(error).__name__)
            return
        if not data:
            self.end("the server closed the connection")
            return
        self.heard, self.asked = time.monotonic(), 0.0
        self._feed(data)
        self._take_in()

    def _take_in(self) -> None:
        """Hand over what has arrived, for as long as one turn of the loop allows; the rest at the next turn."""
        try:
            done = self._hand_over()
        except hiredis.HiredisError as error:
            self.end(str(error))
        except Exception as error:
            # A fault in a callback must not leave the service deaf: say so, and begin with a new connection.
            runtime_logger.exception("a message from the bus could not be taken in")
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
        """Whether everything was handed over."""
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
        """A push that answers a command (SUBSCRIBE and its kin answer in no other way, except with an error)."""
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
        """The socket takes more of what was too much for it."""
        rest = self._rest
        if rest is None or (sent := self._try(rest)) < 0:
            self._writable.stop()
            return
        if sent:
            # A long message on its way is a sign of life.
            self.heard = time.monotonic()
            self.asked = self.heard if self.asked else 0.0
            self.queued -= sent
            self._rest = rest[sent:]
        if not self._rest:
            self._rest = None
            self._writable.stop()
            self._flush()

    def _try(self, data: bytes | memoryview) -> int:
        """How many bytes the socket took; -1 when it is broken, which the reader will see."""
        try:
            return int(self._socket.send(data))
        except WOULD_BLOCK:
            return 0
        except OSError:
            return -1

    # --- is anybody there? ----------------------------------------------------------------------------------------
    def ask(self) -> None:
        """Ask for a sign of life. The question leaves now: a loop that is held afterwards does not delay it."""
        self.asked = time.monotonic()
        self._unsent = self._in_kernel()
        self.post(PING)
        self._send()

    def stirs(self) -> bool:
        """Whether the other side has done something that the loop has not come to see yet: sent, or taken in.

        The kernel receives and sends while a handler holds the loop. So its view tells a dead server from a held loop.
        """
        poll = monkey.get_original("select", "poll")()
        poll.register(self._socket.fileno(), select.POLLIN)
        if poll.poll(0):
            return True
        before, self._unsent = self._unsent, self._in_kernel()
        return self._unsent < before

    def _in_kernel(self) -> int:
        """How many bytes the kernel has not got rid of, or that were not acknowledged; 0 where it does not say."""
        with contextlib.suppress(OSError):
            return int(struct.unpack("i", fcntl.ioctl(self._socket.fileno(), termios.TIOCOUTQ, b"\0\0\0\0"))[0])
        return 0

    # --- the end --------------------------------------------------------------------------------------------------
    def end(self, reason: str) -> None:
        """Close, and tell `on_end`. Does nothing the second time."""
        if self._socket is not None:
            self.forsake()
            pending, self._pending = self._pending, deque()
            self._on_end(reason, pending)

    def forsake(self) -> None:
        """Close, and tell nobody. The watchers end first: libev must not watch a descriptor that is closed, or that is
        another's by now."""
        self._socket = self._rest = None
        self._later.close()
        for watcher in (self._readable, self._writable):
            watcher.stop()
            watcher.close()
        self._out.clear()
        self.queued = 0
        self._connection.disconnect()
