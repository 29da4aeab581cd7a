"""One Redis connection for all greenlets; once per turn of the loop it writes all that was posted in this turn."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

import gevent
import hiredis
import redis
from gevent import get_hub, getcurrent

CHUNK = 262_144
OnMessage = Callable[[bytes, bytes], None]
OnReply = Callable[[Any], object]


def pack(*command: Any) -> bytes:
    """A command in Redis's own format."""
    packed: bytes = hiredis.pack_command(command)
    return packed


class BareLink:
    """The connection. When it is lost, the greenlet that reads ends with the error."""

    def __init__(self, url: str, on_message: OnMessage | None = None) -> None:
        pool = redis.ConnectionPool.from_url(url, protocol=3, socket_timeout=None)
        connection: Any = pool.make_connection()
        connection.connect()
        self._connection = connection  # kept, because it closes the socket when it is garbage collected
        wrapped = connection._sock
        wrapped.settimeout(None)
        self._wrapped = wrapped
        # The plain socket below gevent's: a send that does not block costs only the system call.
        self._socket = wrapped._sock
        self._on_message = on_message
        self._posted: list[bytes] = []
        self._expected: deque[OnReply | None] = deque()
        self._flush_due = False
        self._full = False
        self._hub = get_hub()
        self._soon = self._hub.loop.run_callback
        self.reader = gevent.spawn(self._read)

    def post(self, command: bytes, on_reply: OnReply | None = None) -> None:
        """Sends a packed command together with the others of this turn."""
        self._posted.append(command)
        self._expected.append(on_reply)
        self._flush_soon()

    def call(self, *command: Any) -> Any:
        """Sends a command and waits for its reply."""
        caller = getcurrent()
        self.post(pack(*command), lambda reply: self._soon(caller.switch, reply))
        return self._hub.switch()

    def subscribe(self, channel: str) -> None:
        """From now on messages go to `on_message`. RESP3 confirms with a push, so no reply is awaited."""
        self._posted.append(pack("SUBSCRIBE", channel))
        self._flush_soon()

    def _flush_soon(self) -> None:
        if not self._flush_due:
            self._flush_due = True
            self._soon(self._flush)

    def _flush(self) -> None:
        self._flush_due = False
        if self._full or not self._posted:
            return
        data = b"".join(self._posted)
        self._posted.clear()
        try:
            sent = self._socket.send(data)
        except BlockingIOError:
            sent = 0
        if sent < len(data):
            self._full = True
            gevent.spawn(self._send_rest, data[sent:])

    def _send_rest(self, data: bytes) -> None:
        self._wrapped.sendall(data)
        self._full = False
        if self._posted:
            self._flush_soon()

    def _read(self) -> None:
        parser = hiredis.Reader(notEnoughData=False)
        receive, feed, parse = self._wrapped.recv, parser.feed, parser.gets
        on_message, expected = self._on_message, self._expected
        push = hiredis.PushNotification
        while data := receive(CHUNK):
            feed(data)
            while (reply := parse()) is not False:
                if type(reply) is push:
                    if reply[0] == b"message" and on_message:
                        on_message(reply[1], reply[2])
                    continue
                done = expected.popleft()
                if done is not None:
                    done(reply)
            gevent.sleep(0)
        raise ConnectionError("Redis closed the connection")
