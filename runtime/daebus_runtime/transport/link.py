"""One connection to Redis that heals by itself. Knows commands and bytes, no messages.

A link has a `Stream` while it is connected. It makes a new one after a loss, holds commands meanwhile, and notices a
server that is silent. Everything here runs on the home loop; others come in through `Home.run`.
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

from ..errors import BusError, BusUnavailable
from ..logs import runtime_logger
from . import redispy
from .holds import Hold, Holds
from .home import Home
from .stream import Callback, Stream, pack
from .topology import CONNECT_SECONDS, Role, Topology

# Noticing a half-open connection within 3 s: silent for 1 s (the role says), asked, 1.25 s without an answer, looked at
# 4 times a second.
ANSWER_SECONDS = 1.25
BEAT_SECONDS = 0.25
# Serving again within 500 ms of Redis being back: never more than 0.3 s between attempts.
BACKOFF_FIRST, BACKOFF_MOST = 0.02, 0.2
# A server that accepts and then hangs up at once is asked less and less often.
SHORT_SECONDS, SHORT_MOST = 0.25, 5.0
QUEUE_BYTES = 64 * 1024 * 1024

__all__ = ["Link", "pack"]


class Link:
    """A connection for one role. `on_up` runs after each connect, before anything that was held is sent.

    on_down: gets the reason for each loss and each attempt that fails. on_lost: gets the reason (a word), a text and
    a number for commands that were lost and for which nobody waits.
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
        """Give the connection back. A greenlet that is still connecting ends by itself: only it has the socket."""
        self._closed = True
        self._pulse.close()
        if self.stream is not None:
            self.stream.end("the connection was closed")
        for hold in self._holds.take():
            self._fail(hold, BusUnavailable("the bus connection was closed"))

    def forsake(self) -> None:
        """In a forked child, whose copy of the connection is the parent's: leave it, and say nothing on it."""
        self._closed = True
        self._pulse.close()
        if self.stream is not None:
            self.stream.forsake()
            self.stream = None
        if self._connecting is not None:
            self._connecting.kill(block=False)

    def _try_after(self, seconds: float) -> None:
        # Spawned by the hub: a greenlet keeps the context of the one that spawns it, and so a request that is over.
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
            # redis-py connects with the standard library's blocking sockets here; the loop must not wait for them.
            self._connect_elsewhere(connection)
            return connection
        # No timeouts of redis-py's: one that runs out while the loop is held would fail though the answer is there.
        # `_beat` counts instead, and it counts only while the loop turns.
        connection.socket_timeout = connection.socket_connect_timeout = None
        self._beats, self._connecting = 0, gevent.getcurrent()
        try:
            connection.connect()
        finally:
            self._connecting = None
        return connection

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

    def _connected(self, connection: Any) -> None:
        self._since = time.monotonic()
        self.stream = stream = Stream(self.home, connection, self.on_push, self._unawaited, self._ended)
        # Not by redis-py: a user who may not name his connection can use it all the same.
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
        if waiting and waiting + len(data) > QUEUE_BYTES:  # a message by itself may be as large as messages may be
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
                self._beats = 0  # for redis-py may go on with the next address of the host
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
