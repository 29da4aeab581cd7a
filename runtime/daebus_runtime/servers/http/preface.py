"""What comes before HTTP on a connection: the PROXY header of a load balancer, and the TLS handshake.

A port without either has no Preface, and its connections pay nothing. A silent client costs a greenlet, as on a port
without TLS; the memory of a TLS session is used only once its first bytes are here. Only MOST_OPENING clients can be in
the middle of this: one more, and the oldest is cut. The server limits the time, as that for the first byte.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
from typing import Any

from ...logs import runtime_logger
from ...turn import gate, turn
from . import proxyprotocol
from .clock import LINGER, Clock
from .identity import fresh_id
from .server import Server
from .tls import Tls
from .trust import Trust

MOST_OPENING = 512
TLS_RECORD = b"\x16"
"""The first byte of every TLS handshake; no HTTP request begins with it."""
NOT_TLS = "this port is only for HTTPS"


class Opening:
    """One connection that has not come to HTTP yet. The server ends it if it takes too long."""

    def __init__(self, sock: Any, address: Any) -> None:
        self.clock = Clock()
        self.socket, self.client_address = sock, address
        self.request_id = fresh_id()

    def expire(self) -> None:
        self.cut()

    def cut(self) -> None:
        self.clock.deadline = float("inf")
        with contextlib.suppress(OSError, AttributeError):  # it is closed already
            self.socket._sock.shutdown(socket.SHUT_RDWR)

    def has_bytes(self) -> bool:
        return False


class Preface:
    """proxy_protocol: `off`, `v1`, `v2` or `auto`; of trusted peers it is then required, from others not accepted."""

    def __init__(self, trust: Trust | None, proxy_protocol: str, tls: Tls | None) -> None:
        self._trust, self._proxy_protocol, self._tls = trust, proxy_protocol, tls
        self._opening: dict[Opening, None] = {}  # oldest first

    def serve(self, server: Server, sock: Any, address: Any) -> None:
        """Called in the connection's greenlet: everything from its first byte to its end."""
        opening = Opening(sock, address)
        server.admit(opening)
        try:
            self._open(opening, server)
        except (OSError, ValueError, EOFError) as error:
            runtime_logger.debug("no HTTP with %s: %s", address, error)
            opening.socket.close()
            return
        finally:
            self._opening.pop(opening, None)
            server.connections.pop(opening, None)
        try:
            server.handle_http(opening.socket, opening.client_address)
        finally:
            opening.socket.close()

    def _open(self, opening: Opening, server: Server) -> None:
        address = opening.client_address
        if self._proxy_protocol != proxyprotocol.OFF and self._trust is not None:
            peer = str(address[0]) if isinstance(address, tuple) else ""
            if self._trust.trusts(peer):
                self._begin(opening)
                opening.client_address = proxyprotocol.read(opening.socket, self._proxy_protocol) or address
        if self._tls is not None:
            self._secure(opening, server, self._tls)

    def _begin(self, opening: Opening) -> bytes:
        """Wait for the first byte, which is not consumed."""
        first: bytes = opening.socket.recv(1, socket.MSG_PEEK)
        if not first:
            raise EOFError("closed before its first byte")
        if opening not in self._opening:
            self._opening[opening] = None
            if len(self._opening) > MOST_OPENING:
                oldest = next(iter(self._opening))
                del self._opening[oldest]
                oldest.cut()
        return first

    def _secure(self, opening: Opening, server: Server, tls: Tls) -> None:
        if self._begin(opening) != TLS_RECORD:
            self._explain(opening, server)
            raise ssl.SSLError("plain HTTP on a port for HTTPS")
        gate().enter()  # the handshake computes for about a millisecond
        opening.socket = tls.wrap(opening.socket)
        opening.socket.do_handshake()

    def _explain(self, opening: Opening, server: Server) -> None:
        status = "400 Bad Request"
        if server.served is not None:
            server.served(opening, refused=status)
        opening.clock.enter(LINGER)
        opening.socket.send(server.refusal(status, opening.request_id, NOT_TLS))
        opening.socket.shutdown(socket.SHUT_WR)
        while opening.socket.recv(65_536):  # closing with unread input would destroy the answer
            turn()
