"""A TCP proxy on loopback that breaks connections on demand; it stands for the network in front of Redis."""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
from typing import Self

import gevent
from gevent.server import StreamServer

from .closing import Closing

LINGER_NONE = struct.pack("ii", 1, 0)
CHUNK = 262_144


class _Pair:
    """One client connection and its counterpart at the target."""

    def __init__(self, client: socket.socket, target: socket.socket) -> None:
        self.sockets = (client, target)
        self.dark = False
        self.delay = 0.0
        self.turns = 0
        """How often the client has spoken after the target had."""
        self._last: socket.socket | None = None

    def forward(self) -> None:
        """Returns when either side has closed or the pair was cut."""
        ways = [gevent.spawn(self._one_way, *self.sockets), gevent.spawn(self._one_way, *reversed(self.sockets))]
        gevent.joinall(ways, count=1)
        self.close()
        gevent.joinall(ways)

    def _one_way(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(CHUNK):
                self.turns += source is self.sockets[0] and source is not self._last
                self._last = source
                # While dark, bytes are read and dropped, and the end of one side is not passed on to the other.
                if self.delay:
                    gevent.sleep(self.delay)
                if not self.dark:
                    sink.sendall(data)
            while self.dark:
                gevent.sleep(0.05)

    def close(self, *, reset: bool = False) -> None:
        self.dark = False
        for end in self.sockets:
            with contextlib.suppress(OSError):
                if reset:
                    end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_NONE)
                else:
                    end.shutdown(socket.SHUT_RDWR)
            with contextlib.suppress(OSError):
                end.close()


class FaultProxy(Closing):
    """Forwards everything to `host:port` until told otherwise. `tls`: it terminates TLS."""

    def __init__(self, host: str, port: int, *, tls: ssl.SSLContext | None = None) -> None:
        self._target = (host, port)
        self._pairs: set[_Pair] = set()
        self._tls = tls
        self._server: StreamServer | None = None
        self._port = 0
        self.accepted = 0
        """Connections accepted so far."""
        self._ended_turns = 0

    @property
    def port(self) -> int:
        assert self._port, "the proxy is not started"
        return self._port

    @property
    def round_trips(self) -> int:
        """How often clients have spoken after an answer, or first, over all connections so far."""
        return self._ended_turns + sum(pair.turns for pair in self._pairs)

    @property
    def open_connections(self) -> int:
        """How many connections pass data now; dark ones do not count."""
        return sum(not pair.dark for pair in self._pairs)

    def start(self) -> Self:
        """Listens; after `refuse()` or `stop()` again on the same port."""
        assert self._server is None, "the proxy is already started"
        address = ("127.0.0.1", self._port)
        if self._tls:
            self._server = StreamServer(address, self._serve, ssl_context=self._tls)
        else:
            self._server = StreamServer(address, self._serve)
        self._server.start()
        self._port = self._server.server_port or 0
        return self

    def cut(self, port: int | None = None) -> None:
        """Resets every connection. New ones are accepted. port: only the connection that the target sees from there."""
        for pair in self._chosen(port):
            pair.close(reset=True)

    def black_hole(self, port: int | None = None) -> None:
        """Existing connections go dark: they stay open but carry nothing in either direction. New ones work."""
        for pair in self._chosen(port):
            pair.dark = True

    def slow(self, seconds: float, port: int | None = None) -> None:
        """Existing connections carry each piece of data so much later, in both directions."""
        for pair in self._chosen(port):
            pair.delay = seconds

    def _chosen(self, port: int | None) -> list[_Pair]:
        return [pair for pair in self._pairs if port is None or pair.sockets[1].getsockname()[1] == port]

    def refuse(self) -> None:
        """Resets every connection and refuses new ones, until `start()`."""
        if self._server:
            self._server.stop(timeout=0)
            self._server = None
        self.cut()

    stop = close = refuse

    def __enter__(self) -> Self:
        return self.start()

    def _serve(self, client: socket.socket, _address: object) -> None:
        self.accepted += 1
        try:
            target = socket.create_connection(self._target, timeout=5)
        except OSError:
            client.close()
            return
        for end in (client, target):
            end.settimeout(None)
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        pair = _Pair(client, target)
        self._pairs.add(pair)
        try:
            pair.forward()
        finally:
            self._pairs.discard(pair)
            self._ended_turns += pair.turns
