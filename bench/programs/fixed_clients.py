"""fixed_clients.py http|websocket PORT CONNECTIONS COUNT: COUNT requests, one at a time on each connection.

Warms up, prints "ready" and waits for a line on standard input; then asks and prints "done". Every answer is checked.
Standard library only: the load is the same whatever is measured.
"""

from __future__ import annotations

import base64
import json
import os
import selectors
import socket
import sys

WARM_UP = 300
BODY = json.dumps({"message": "hello", "number": 42}, separators=(",", ":")).encode()
DATA = "x" * 32


def http(port: int) -> tuple[socket.socket, bytes, bytes, bytes]:
    """A connection, a request, and the begin and end of the expected answer."""
    connection = socket.create_connection(("127.0.0.1", port), timeout=60)
    request = f"GET /hello HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode()
    return connection, request, b"HTTP/1.1 200 ", BODY


def websocket(port: int) -> tuple[socket.socket, bytes, bytes, bytes]:
    """The same for a WebSocket: one text frame with a mask of zeros, and the frame of the response."""
    connection = socket.create_connection(("127.0.0.1", port), timeout=60)
    key = base64.b64encode(os.urandom(16)).decode()
    lines = [f"Host: 127.0.0.1:{port}", "Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13"]
    connection.sendall("\r\n".join(["GET /ws HTTP/1.1", *lines, f"Sec-WebSocket-Key: {key}", "\r\n"]).encode())
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += connection.recv(1)
    assert head.startswith(b"HTTP/1.1 101 "), head
    message = json.dumps({"type": "echo", "data": DATA}).encode()
    assert len(message) < 126
    return connection, bytes([0x81, 0x80 | len(message), 0, 0, 0, 0]) + message, b"\x81", b"}"


class Load:
    """All connections; each waits for its answer or for its turn."""

    def __init__(self, kind: str, port: int, connections: int) -> None:
        self._begins = self._ends = self._request = b""
        self._poll = selectors.DefaultSelector()
        self._sockets = []
        for _ in range(connections):
            connection, self._request, self._begins, self._ends = {"http": http, "websocket": websocket}[kind](port)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._poll.register(connection, selectors.EVENT_READ)
            self._sockets.append(connection)

    def ask(self, count: int) -> None:
        left = max(0, count - len(self._sockets))
        under_way = count - left
        for connection in self._sockets[:under_way]:
            connection.sendall(self._request)
        received: dict[object, bytes] = {}
        while under_way:
            ready = self._poll.select(60)
            if not ready:
                raise SystemExit("no answer in 60 s")
            for key, _ in ready:
                connection = key.fileobj
                assert isinstance(connection, socket.socket)
                data = received.pop(connection, b"") + connection.recv(65536)
                if not data.startswith(self._begins):
                    raise SystemExit(f"a wrong answer: {data!r}")
                if not data.endswith(self._ends) or (self._ends == b"}" and DATA.encode() not in data):
                    received[connection] = data
                elif left:
                    left -= 1
                    connection.sendall(self._request)
                else:
                    under_way -= 1


load = Load(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
load.ask(WARM_UP)
print("ready", flush=True)
os.read(0, 1)
load.ask(int(sys.argv[4]))
print("done", flush=True)
os.read(0, 1)
