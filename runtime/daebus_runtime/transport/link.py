"""One connection to Redis that reconnects by itself. Handles commands and bytes, knows nothing of messages.

A link has a `Stream` while it is connected. After a loss it creates a new one and holds commands meanwhile. It also
detects a server that no longer answers. Everything here runs on the home loop; other threads use `Home.run`.
"""

from __future__ import annotations

import random
import time
from collections import deque
from collections.abc import Callable
from typing import Any

import gevent
import hiredis
from gevent import monkey

from ..aside import run_aside
from ..errors import BusError, BusUnavailable
from ..logs import runtime_logger
from . import redispy
from .holds import Hold, Holds
from .home import Home
from .stream import Callback, Stream, pack
from .topology import CONNECT_SECONDS, Role, Topology

# Detects a half-open connection within 3 s: after 1 s of silence (set by the role) a PING is sent, and 1.25 s without
# an answer end the connection. This is checked 4 times a second.
ANSWER_SECONDS = 1.25
BEAT_SECONDS = 0.25
# At most 0.3 s between attempts, so that messages flow again within 500 ms once Redis is back.
BACKOFF_FIRST, BACKOFF_MOST = 0.02, 0.2
# If a server accepts connections and closes them at once, the attempts become rarer and rarer.
SHORT_SECONDS, SHORT_MOST = 0.25, 5.0
QUEUE_BYTES = 64 * 1024 * 1024

__all__ = ["Link", "pack"]


class Link:
    """A connection for one role. `on_up` runs after each connect, before the held commands are sent.

    on_down: gets the reason of each loss and each failed attempt. on_lost: called for lost commands without a callback,
    with the reason (a word), a text and their number.
    """

    def __init__(self, home: Home, topology: Topology, role: Role, key: str | None = None) -> None:
        self.home, self.topology, self.role, self.key = home, topology, role, key
        self.on_push: Callable[[list[Any]], None] = lambda push: None
        self.on_up: Callable[[], None] = lambda: None
        self.on_down: Callable[[str], None] = lambda reason: None
        self.on_lost: Callable[[str, str, int], None] = lambda reason, text, count: None
        self.on_refused: Callback = lambda error: None
        self.connects = 0
        self.stream: Stream | None = None
        self._holds = Holds(home, self._expired)
        self._closed = self._opened = False
        self._connecting: Any = None
        self._beats = 0
        self._backoff = BACKOFF_FIRST
        self._since = 0.0
        self._pulse: Any = home.hub.loop.timer(BEAT_SECONDS, BEAT_SECONDS)

    @property
    def up(self) -> bool:
        return self.stream is not None

    # --- life -----------------------------------------------------------------------------------------------------
    def open(self) -> None:
        if not self._opened and not self._closed:
            self._opened = True
            self._pulse.start(self._beat)
            self._try_after(0.0)

    def close(self) -> None:
        """Close the connection. Does not kill a greenlet that is still connecting: only it can close its socket. It
        checks `_closed` and does."""
        self._closed = True
        self._pulse.close()
        if self.stream is not None:
            self.stream.end("the connection was closed")
        for hold in self._holds.take():
            self._fail(hold, BusUnavailable("the bus connection was closed"))

    def forsake(self) -> None:
        """In a forked child, which shares the parent's connection: close the copy without sending anything."""
        self._closed = True
        self._pulse.close()
        if self.stream is not None:
            self.stream.forsake()
            self.stream = None
        if self._connecting is not None:
            self._connecting.kill(block=False)

    def _try_after(self, seconds: float) -> None:
        # Spawned by the hub: a greenlet keeps the context of its creator alive, and with it a finished request.
        self.home.soon(gevent.spawn_later, seconds, self._attempt)

    def _attempt(self) -> None:
        if self._closed:
            return
        try:
            connection = self._connect()
        except (OSError, redispy.RedisError, hiredis.HiredisError) as error:
            self._again(str(error) or type(error).__name__)
        except Exception as error:
            runtime_logger.exception("no connection to the bus could be made")
            self._again(repr(error))
        else:
            if self._closed:
                connection.disconnect()
            else:
                self._connected(connection)

    def _connect(self) -> Any:
        connection = self.topology.connection(self.role, self.key)
        if not monkey.is_module_patched("socket"):
            # Here redis-py connects with blocking sockets, and the loop must not wait for them.
            run_aside(connection.connect)
            return connection
        # redis-py's timeouts are off: when a handler holds the loop they expire although the answer has arrived.
        # `_beat` measures the time instead, and only while the loop turns.
        connection.socket_timeout = connection.socket_connect_timeout = None
        self._beats, self._connecting = 0, gevent.getcurrent()
        try:
            connection.connect()
        finally:
            self._connecting = None
        return connection

    def _connected(self, connection: Any) -> None:
        self._since = time.monotonic()
        self.stream = stream = Stream(self.home, connection, self.on_push, self._unawaited, self._ended)
        # Not done by redis-py, which would fail for a user without the permission for CLIENT SETNAME.
        stream.post(pack("CLIENT", "SETNAME", self.topology.client_name), _ignore)
        self.connects += 1
        self.on_up()
        for hold in self._holds.take():
            stream.post(hold.data, hold.callback)

    def _ended(self, reason: str, pending: deque[Callback | None]) -> None:
        self.stream = None
        error = BusUnavailable(f"the connection to the bus was lost while an answer was awaited: {reason}")
        unawaited = 0
        for callback in pending:
            if callback is None:
                unawaited += 1
            else:
                callback(error)
        if self._closed:
            return
        if unawaited:
            self.on_lost(
                "connection_lost", f"messages may be lost with the connection to the bus ({reason})", unawaited
            )
        if time.monotonic() - self._since > SHORT_SECONDS:
            self._backoff = BACKOFF_FIRST
        self._again(reason, SHORT_MOST)

    def _again(self, reason: str, most: float = BACKOFF_MOST) -> None:
        if self._closed:
            return
        self.on_down(reason if self.connects else f"cannot connect: {reason}")
        pause = min(self._backoff, most)
        self._backoff = min(self._backoff * 2, most)
        self._try_after(pause * (0.5 + random.random()))

    # --- commands -------------------------------------------------------------------------------------------------
    def post(self, data: bytes, callback: Callback | None = None, hold: float = 0.0) -> Hold | None:
        """Send one packed command; `callback` gets its reply, or an exception as a value.

        Without a connection the command is held for `hold` seconds and then fails with BusUnavailable.
        """
        stream = self.stream
        waiting = self._holds.bytes if stream is None else stream.queued
        if waiting and waiting + len(data) > QUEUE_BYTES:  # a single message may have any allowed size
            text = f"more than {QUEUE_BYTES} bytes wait to be sent to the bus"
            if callback is not None:
                callback(BusError(text))
            else:
                self.on_lost("send_queue_full", f"a message was dropped: {text}", 1)
        elif stream is not None:
            stream.post(data, callback)
        elif hold > 0 and not self._closed:
            return self._holds.add(time.monotonic() + hold, data, callback)
        elif callback is not None:
            callback(BusUnavailable("there is no connection to the bus"))
        else:
            self.on_lost("bus_away", "a message was dropped: there is no connection to the bus", 1)
        return None

    def confirm(self, push: list[Any]) -> None:
        """See `Stream.confirm`."""
        if self.stream is not None:
            self.stream.confirm(push)

    def _unawaited(self, value: Any) -> None:
        if isinstance(value, Exception):
            self.on_refused(value)

    def _expired(self, hold: Hold) -> None:
        self._fail(hold, BusUnavailable("there was no connection to the bus"))

    def _fail(self, hold: Hold, error: Exception) -> None:
        if hold.callback is not None:
            hold.callback(error)
        else:
            self.on_lost("bus_away", "a message that waited for the bus was dropped, since its time was over", 1)

    # --- heartbeat ------------------------------------------------------------------------------------------------
    def _beat(self) -> None:
        stream = self.stream
        if stream is None:
            self._beats += 1
            if self._connecting is not None and self._beats * BEAT_SECONDS > CONNECT_SECONDS:
                self._beats = 0  # redis-py may try the next address of the host
                self._connecting.throw(TimeoutError(f"no answer within {CONNECT_SECONDS:g} s"))
            return
        now = time.monotonic()
        if stream.asked:
            if now - stream.asked > ANSWER_SECONDS:
                if stream.stirs():
                    stream.asked = now
                else:
                    stream.end(f"no answer for {self.role.silence + ANSWER_SECONDS:g} s")
        elif now - stream.heard > self.role.silence:
            stream.ask()


def _ignore(value: Any) -> None:
    pass
