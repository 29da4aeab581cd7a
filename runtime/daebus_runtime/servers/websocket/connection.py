"""One open WebSocket, and the upgrade of a request to it. Knows nothing of message formats and handlers.

`Connection` is what the rest of Daebus calls a socket: `receive`, `send`, `close`. It replaces nearly all of
gevent-websocket's `WebSocket`, which accepts unmasked frames of any length, never sends a close code, mixes the frames
of two senders, and does not wake a receiver on close.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import socket
import struct
from _queue import Empty, SimpleQueue  # the C class itself: gevent replaces the name in `queue`
from typing import Any

import gevent
from geventwebsocket.exceptions import WebSocketError
from geventwebsocket.websocket import Stream, WebSocket

from ... import native
from ...logs import runtime_logger
from ...transport import home
from ...turn import Share, turn
from ..http.answering import Answering
from . import frames
from .endpoint import UPGRADE, Terms, asks_for_websocket
from .frames import Fragments, Frame, FrameReader, Violation
from .outbox import Outbox

GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
"""A constant of RFC 6455, 1.3."""
CLOSE_SECONDS = 0.5
"""How long a client may take to answer a close frame before its connection is cut. (By then it has got our frame.)"""
SENDS = 8
"""After this many messages, a handler that sends in a long loop lets other greenlets run."""
POSTED_MOST = 1024
POST_SECONDS = 1.0


_posts: SimpleQueue[None] = SimpleQueue()
for _ in range(POSTED_MOST):
    _posts.put(None)


class Connection(WebSocket):  # type: ignore[misc]
    """One open WebSocket. Only one greenlet may call `receive`; any greenlet and any OS thread may call the rest.

    close_code, close_reason: as the client sent them; 1005 without a code, 1006 without a close frame.
    """

    def __init__(self, environ: dict[str, Any], handler: Any, terms: Terms) -> None:
        super().__init__(environ, Stream(handler), handler)
        self.close_code: int | None = None
        self.close_reason = ""
        self._home = home.current()
        self._sock = handler.socket
        self._terms = terms
        self._read = handler.rfile.read1
        self._source = handler.source
        self._share, self._sending = Share(), Share()
        self._sent = 0
        self._frames = FrameReader(handler.rfile.read1, self._share.take, terms.reserved)
        self._outbox = Outbox(handler.socket, self._overflow)
        self._closing = False  # we have sent a close frame
        self._over = False  # `receive` returns no more messages
        self._cutter: Any = None

    def __del__(self) -> None:
        """Overrides the parent's method, which would do I/O in the garbage collector."""

    def receive(self) -> str | bytes | None:
        """The next message: text or bytes; None once the connection has ended, for whatever reason."""
        if self._over:
            return None
        try:
            return self._message()
        except UnicodeDecodeError:
            self._failed(Violation(frames.BAD_TEXT, "text is not UTF-8"))
        except Violation as violation:
            self._failed(violation)
        except (OSError, EOFError, ValueError):  # ValueError: the underlying file was closed
            self._ended(frames.LOST)
            self._outbox.stop()
        return None

    def send(self, message: str | bytes | Frame) -> None:
        """Send a message; returns at once, however slow the client is. WebSocketError once the connection ends.

        Messages of one sender arrive in order. Messages that a client does not read yet wait, up to a limit
        (outbox.py); above it the client is dropped.
        """
        if self._closing or self.closed or self._outbox.lost:
            raise WebSocketError("the connection is closed")
        frame = message if isinstance(message, Frame) else Frame.of(message)
        if native.get_ident() == self._home.thread:
            self._outbox.put(frame)
            self._sent += 1
            if (not self._sent % SENDS or self._outbox.crowded) and gevent.getcurrent() is not self._home.hub:
                self._let_others()
        else:
            self._post(frame)

    def close(self, code: int = frames.NORMAL, message: str = "") -> None:
        """Send a close frame; returns at once. `receive` then returns None when the client answers, at the latest after
        CLOSE_SECONDS. ValueError for a code that may not be sent."""
        self._home.run(self._close, frames.check_code(code), message)

    def finish(self) -> None:
        """Complete the closing handshake, in at most CLOSE_SECONDS. Called by the connection's own greenlet."""
        self._close(frames.NORMAL, "")
        try:
            while not self._over:
                self.receive()
            self._outbox.flush(CLOSE_SECONDS)
            if self.close_code in (frames.PROTOCOL_ERROR, frames.BAD_TEXT, frames.TOO_BIG):
                # Closing with unread input makes the kernel send a reset, which can destroy the close frame.
                self._sock.shutdown(socket.SHUT_WR)
                while self._read(frames.CHUNK):
                    self._share.take()  # otherwise the timer that cuts the connection would never run
        except (OSError, ValueError):
            pass  # it is closed already
        finally:
            self.closed = True
            self._outbox.stop()
            if self._cutter is not None:
                self._cutter.stop()
                self._cutter.close()
            self.stream = self.raw_read = self.raw_write = None

    # --- inside ---------------------------------------------------------------------------------------------------
    def _let_others(self) -> None:
        """A handler may send in a long loop: let the writer empty the queue and other greenlets run."""
        if self._outbox.crowded:
            turn()
        else:
            self._sending.take()

    def _message(self) -> str | bytes | None:
        message: Fragments | None = None
        source = self._source
        while True:
            source.waited = False
            last, opcode, data = self._frames.next(self._terms.message_limit - (message.size if message else 0))
            if not source.waited:  # no read had to wait: the client sends faster than it is served
                self._share.take()
            if opcode > 7:
                if self._control(opcode, data):
                    return None
                continue
            if (opcode == frames.CONTINUATION) is not (message is not None):
                raise Violation(frames.PROTOCOL_ERROR, "a message begins inside another, or goes on without one")
            if opcode and last:
                if not self._closing:
                    return data.decode() if opcode == frames.TEXT else data
                continue
            message = message or Fragments(opcode)
            message.add(data, last)
            if last:
                if not self._closing:
                    return message.value()
                message = None

    def _control(self, opcode: int, data: bytes) -> bool:
        """Handle a control frame; returns whether it was a close frame."""
        if opcode == frames.PING:
            if not self._closing:
                self._outbox.put(Frame(frames.PONG, data))
            return False
        if opcode == frames.PONG:
            return False
        if len(data) == 1:
            raise Violation(frames.PROTOCOL_ERROR, "malformed close frame")
        code = struct.unpack("!H", data[:2])[0] if data else frames.NO_CODE
        if data and code not in frames.VALID_CODES and not 3000 <= code <= 4999:
            raise Violation(frames.PROTOCOL_ERROR, "invalid close code")
        self.close_reason = data[2:].decode()
        self._ended(code)
        self._close(code, "")
        return True

    def _ended(self, code: int) -> None:
        self._over = True
        if self.close_code is None:
            self.close_code = code

    def _failed(self, violation: Violation) -> None:
        self._ended(violation.code)
        self.close_reason = str(violation)
        self._close(violation.code, str(violation))

    def _post(self, frame: Frame) -> None:
        # From an OS thread: the loop sends. The number of frames on the way to the loop is limited too.
        try:
            _posts.get(timeout=POST_SECONDS)
        except Empty:
            raise WebSocketError("the event loop is held; the message was not sent") from None
        self._home.run(self._posted, frame)

    def _posted(self, frame: Frame) -> None:
        _posts.put(None)
        if not self._closing:
            self._outbox.put(frame)

    def _close(self, code: int, reason: str) -> None:
        if self._closing or self.closed:
            return
        self._closing = True
        self._cutter = self._home.hub.loop.timer(CLOSE_SECONDS)
        self._cutter.start(self._cut)
        self._outbox.put(Frame(frames.CLOSE, frames.close_payload(code, reason)))

    def _cut(self) -> None:
        """The client did not answer in time: end the stream, which wakes the receiver."""
        self._ended(frames.LOST)
        with contextlib.suppress(OSError):
            getattr(self._sock, "_sock", self._sock).shutdown(socket.SHUT_RDWR)

    def _overflow(self) -> None:
        """The client does not read: drop it. Other policies (drop the oldest or newest messages) would belong here."""
        if self._closing:
            return
        runtime_logger.warning("a WebSocket client does not read what it is sent, and is dropped: %s", self._address())
        self._terms.dropped("slow_client")
        self._outbox.shorten()
        self._close(frames.TRY_AGAIN_LATER, "messages are not read")

    def _address(self) -> str:
        return f"{self.environ.get('REMOTE_ADDR', '?')}:{self.environ.get('REMOTE_PORT', '?')}"


# --- the handshake ----------------------------------------------------------------------------------------------------
class UpgradeHandler(Answering):
    """Offers the upgrade to the application, which calls `environ[UPGRADE]` or answers as to any other request."""

    websocket: Connection | None = None

    def run_application(self) -> None:
        if not asks_for_websocket(self.environ):
            super().run_application()
            return
        self.environ[UPGRADE] = self.upgrade_connection
        try:
            super().run_application()
        finally:
            websocket, self.websocket = self.websocket, None
            if websocket is not None:
                websocket.finish()
                # These form reference cycles; without them the garbage collector has nothing to do.
                del self.environ[UPGRADE], self.environ["wsgi.websocket"]

    def upgrade_connection(self, terms: Terms) -> Connection:
        """Send the 101 and hand over the connection."""
        key = self.environ["HTTP_SEC_WEBSOCKET_KEY"].strip()
        accept = base64.b64encode(hashlib.sha1((key + GUID).encode()).digest()).decode()
        self.websocket = Connection(self.environ, self, terms)
        self.environ.update({"wsgi.websocket": self.websocket, "wsgi.websocket_version": "13"})
        head = [("Upgrade", "websocket"), ("Connection", "Upgrade"), ("Sec-WebSocket-Accept", accept)]
        if terms.subprotocol is not None:
            head.append(("Sec-WebSocket-Protocol", terms.subprotocol))
        self.start_response("101 Switching Protocols", head)
        self.write(b"")
        return self.websocket
