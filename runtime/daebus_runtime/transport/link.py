"""One connection to Redis that pipelines by itself and heals by itself. Knows commands and bytes, no messages.

redis-py makes the connection (URL, TLS, user, HELLO 3); from then on the socket is ours. `post` appends a packed
command and one `send` per turn of the loop carries all that gathered. One greenlet reads; replies go to callbacks in
order, RESP3 pushes to `on_push`. Everything here runs on the home loop; others come in through `Home.run`.
"""

from __future__ import annotations

import contextlib
import random
import ssl
import time
from collections import deque
from collections.abc import Callable
from typing import Any, ClassVar

import gevent
import hiredis
import redis
from gevent import monkey

from ..errors import BusError, BusUnavailable
from ..logs import runtime_logger
from .home import Home
from .topology import Role, Topology

# Noticing a half-open connection within 3 s: silent for 1 s, asked, 1.25 s without an answer, looked at 4 times a
# second.
SILENT_SECONDS = 1.0
ANSWER_SECONDS = 1.25
BEAT_SECONDS = 0.25
# Serving again within 500 ms of Redis being back: never more than 0.3 s between attempts.
BACKOFF_FIRST, BACKOFF_MOST = 0.02, 0.2
READ_BYTES = 256 * 1024
# In a long turn of the loop the other side is not left idle until its end.
FLUSH_COMMANDS = 64
QUEUE_BYTES = 64 * 1024 * 1024
WOULD_BLOCK = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)

Callback = Callable[[Any], None]


def pack(*words: bytes | str) -> bytes:
    """One command in Redis' protocol."""
    packed: bytes = hiredis.pack_command(words)  # type: ignore[arg-type]
    return packed


class Link:
    """A connection for one role. `on_up` runs after each connect, before anything that was held is sent."""

    def __init__(self, home: Home, topology: Topology, role: Role) -> None:
        self.home, self.topology, self.role = home, topology, role
        self.on_push: Callable[[list[Any]], None] = lambda push: None
        self.on_up: Callable[[], None] = lambda: None
        self.on_down: Callable[[str], None] = lambda reason: None
        self.up = False
        self.connects = 0
        self._closed = self._connecting = False
        self._connection: Any = None
        self._socket: Any = None
        self._readable: Any = None
        self._out: list[bytes] = []
        self._queued = self._held_bytes = 0
        self._scheduled = self._blocked = False
        self._why = ""
        self._pending: deque[Callback | None] = deque()
        self._held: deque[tuple[float, bytes, Callback | None]] = deque()
        self._heard = self._asked = 0.0
        self._greenlets: list[gevent.Greenlet[..., Any]] = []

    # --- life -----------------------------------------------------------------------------------------------------
    def open(self) -> None:
        if not self._greenlets and not self._closed:
            self._greenlets = [gevent.spawn(self._live), gevent.spawn(self._beat)]

    def close(self) -> None:
        self._closed = True
        self._lose("the connection was closed")
        self._refuse_held(BusUnavailable("the bus connection was closed"))
        # One that is connecting is let: it alone can close the socket that it has. It sees that it has come too late.
        for greenlet in self._greenlets[1 if self._connecting else 0 :]:
            greenlet.kill(block=False)

    def _live(self) -> None:
        backoff = BACKOFF_FIRST
        while not self._closed:
            try:
                self._connect()
                backoff = BACKOFF_FIRST
                if not self._closed:
                    self._read()
                reason = self._why or "the server closed the connection"
            except (OSError, redis.RedisError, hiredis.HiredisError) as error:
                reason = self._why or str(error) or type(error).__name__
            except Exception as error:
                # A fault in a callback must not leave the service deaf: say so, and begin with a new connection.
                runtime_logger.exception("a message from the bus could not be taken in")
                reason = repr(error)
            self._lose(reason)
            gevent.sleep(backoff * (0.5 + random.random()))
            backoff = min(backoff * 2, BACKOFF_MOST)

    def _connect(self) -> None:
        connection = self.topology.connection(self.role)
        self._connecting = True
        try:
            if monkey.is_module_patched("socket"):
                connection.connect()
            else:
                # redis-py connects with the standard library's blocking sockets here; the loop must not wait for them.
                self._connect_elsewhere(connection)
        finally:
            self._connecting = False
        if self._closed:
            connection.disconnect()
            return
        sock = connection._sock
        sock.setblocking(False)
        plain = not isinstance(sock, ssl.SSLSocket) and not hasattr(sock, "_sslobj")
        self._connection = connection
        self._socket = getattr(sock, "_sock", sock) if plain else sock
        self._readable = self.home.hub.loop.io(sock.fileno(), 1)
        self._blocked = False
        self._heard, self._asked, self._why = time.monotonic(), 0.0, ""
        self.up = True
        self.connects += 1
        self.on_up()
        held, self._held, self._held_bytes = self._held, deque(), 0
        for _, data, callback in held:
            self.post(data, callback)

    def _connect_elsewhere(self, connection: Any) -> None:
        def attempt() -> Exception | None:
            # As a value: gevent would write what is raised here to stderr, at every attempt.
            try:
                connection.connect()
            except Exception as error:
                return error
            return None

        error = self.home.hub.threadpool.apply(attempt)
        if error is not None:
            raise error

    def _lose(self, reason: str) -> None:
        was_up, self.up = self.up, False
        self._out.clear()
        self._queued = 0
        pending, self._pending = self._pending, deque()
        self._socket = None
        if self._readable is not None:
            self._readable.stop()
            self._readable.close()
            self._readable = None
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.disconnect()
        if pending:
            error = BusUnavailable(f"the connection to the bus was lost while an answer was awaited: {reason}")
            for callback in pending:
                if callback is not None:
                    callback(error)
        if not self._closed:
            self.on_down(reason if was_up or self.connects else f"cannot connect: {reason}")

    # --- reading --------------------------------------------------------------------------------------------------
    def _read(self) -> None:
        parser = hiredis.Reader(notEnoughData=False)
        feed, take = parser.feed, parser.gets
        push = hiredis.PushNotification
        sock, readable, wait = self._socket, self._readable, self.home.hub.wait
        while sock is self._socket:
            try:
                data = sock.recv(READ_BYTES)
            except WOULD_BLOCK:
                wait(readable)
                continue
            if not data:
                return
            self._heard, self._asked = time.monotonic(), 0.0
            feed(data)
            pending = self._pending
            while (value := take()) is not False:
                if type(value) is push:
                    self.on_push(value)
                elif not pending:
                    raise redis.ResponseError(str(value))  # a SUBSCRIBE was refused; only errors are not pushed
                elif (callback := pending.popleft()) is not None:
                    callback(value)
            # A sender that never pauses must not keep everybody else from running.
            gevent.sleep(0)

    # --- writing --------------------------------------------------------------------------------------------------
    def post(self, data: bytes, callback: Callback | None = None, hold: float = 0.0) -> None:
        """Send one packed command; `callback` gets its reply, or an exception as a value.

        Without a connection the command is held for `hold` seconds and then fails with BusUnavailable.
        """
        waiting = self._queued + self._held_bytes
        if waiting and waiting + len(data) > QUEUE_BYTES:  # a message by itself may be as large as messages may be
            text = f"more than {QUEUE_BYTES} bytes wait to be sent to the bus"
            if callback is not None:
                callback(BusError(text))
            else:
                runtime_logger.error("a message was dropped: %s", text)
            return
        if not self.up:
            if hold <= 0:
                if callback is not None:
                    callback(BusUnavailable("there is no connection to the bus"))
                return
            self._held_bytes += len(data)
            self._held.append((time.monotonic() + hold, data, callback))
            return
        self._pending.append(callback)
        self._out.append(data)
        self._queued += len(data)
        if not self._scheduled:
            self._scheduled = True
            self.home.soon(self._flush)
        elif len(self._out) >= FLUSH_COMMANDS:
            self._send()

    def post_unanswered(self, data: bytes) -> None:
        """Send a command that is answered by a push only (SUBSCRIBE and its kin)."""
        if not self.up:
            return
        self._out.append(data)
        self._queued += len(data)
        if not self._scheduled:
            self._scheduled = True
            self.home.soon(self._flush)

    def _flush(self) -> None:
        self._scheduled = False
        self._send()

    def _send(self) -> None:
        if self._blocked or not self._out or self._socket is None:
            return
        out = self._out
        data = out[0] if len(out) == 1 else b"".join(out)
        self._out = []
        try:
            sent = self._socket.send(data)
        except WOULD_BLOCK:
            sent = 0
        except OSError:
            return  # the reader notices
        if sent == len(data):
            self._queued = 0
            return
        self._queued = len(data) - sent
        self._blocked = True
        gevent.spawn(self._flush_slowly, self._socket, memoryview(data)[sent:])

    def _flush_slowly(self, sock: Any, data: memoryview) -> None:
        writable = self.home.hub.loop.io(sock.fileno(), 2)
        try:
            while len(data):
                try:
                    sent = sock.send(data)
                except WOULD_BLOCK:
                    sent = 0
                if not sent:  # gevent's TLS socket says so instead of raising
                    self.home.hub.wait(writable)
                    continue
                data = data[sent:]
                self._queued = max(0, self._queued - sent)
                self._heard = time.monotonic()  # a long message on its way is a sign of life
        except OSError:
            return
        finally:
            writable.stop()
            writable.close()
        if sock is self._socket:
            self._blocked = False
            self._flush()

    # --- heartbeat ------------------------------------------------------------------------------------------------
    def _beat(self) -> None:
        while not self._closed:
            gevent.sleep(BEAT_SECONDS)
            now = time.monotonic()
            self._expire_held(now)
            if not self.up:
                continue
            if self._asked:
                if now - self._asked > ANSWER_SECONDS:
                    self._abandon()
            elif now - self._heard > SILENT_SECONDS:
                self._asked = now
                self.post(pack("PING"))

    def _abandon(self) -> None:
        # Closing under a greenlet that waits for the socket wakes nobody: shut it down, and the reader sees the end.
        self._asked = 0.0
        self._why = f"no answer for {SILENT_SECONDS + ANSWER_SECONDS:g} s"
        with contextlib.suppress(OSError):
            self._socket.shutdown(2)

    def _expire_held(self, now: float) -> None:
        held = self._held
        while held and held[0][0] <= now:
            _, data, callback = held.popleft()
            self._held_bytes -= len(data)
            if callback is not None:
                callback(BusUnavailable("there was no connection to the bus"))

    def _refuse_held(self, error: Exception) -> None:
        held, self._held, self._held_bytes = self._held, deque(), 0
        for _, _, callback in held:
            if callback is not None:
                callback(error)


class Subscriptions:
    """The channels and patterns wanted on a link, sent again after each connect, and those that the server
    confirmed."""

    COMMANDS: ClassVar = {False: ("SUBSCRIBE", "UNSUBSCRIBE"), True: ("PSUBSCRIBE", "PUNSUBSCRIBE")}

    def __init__(self, link: Link) -> None:
        self._link = link
        self._wanted: dict[bool, set[str]] = {False: set(), True: set()}
        self.confirmed: set[str] = set()

    def add(self, name: str, pattern: bool) -> None:
        if name not in self._wanted[pattern]:
            self._wanted[pattern].add(name)
            self._link.post_unanswered(pack(self.COMMANDS[pattern][0], name))

    def remove(self, name: str, pattern: bool) -> None:
        if name in self._wanted[pattern]:
            self._wanted[pattern].discard(name)
            self.confirmed.discard(name)
            self._link.post_unanswered(pack(self.COMMANDS[pattern][1], name))

    def renew(self) -> None:
        """After a connect: the new connection knows nothing of the old one's subscriptions."""
        self.confirmed.clear()
        for pattern, names in self._wanted.items():
            if names:
                self._link.post_unanswered(pack(self.COMMANDS[pattern][0], *sorted(names)))

    def lost(self) -> None:
        self.confirmed.clear()

    def pushed(self, kind: bytes, name: str) -> bool:
        """Take note of a confirmation; whether it was one, and not that of an end."""
        if kind in (b"subscribe", b"psubscribe"):
            if name in self._wanted[kind == b"psubscribe"]:
                self.confirmed.add(name)
            return True
        return False

    def complete(self) -> bool:
        """Whether the server has confirmed everything that is wanted."""
        return all(names <= self.confirmed for names in self._wanted.values())
