"""HTTP and WebSocket byte by byte: clients that send what a well-behaved library never would."""

from __future__ import annotations

import base64
import json
import os
import socket
import ssl
import struct
import time
from typing import Any

from tests.support.closing import Closing

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
TIMEOUT = 10.0
SECURED: dict[int, ssl.SSLContext] = {}
"""Ports that speak TLS, and how a client of theirs does."""


def secured(plain: socket.socket, port: int) -> socket.socket:
    """The same connection, after the TLS handshake if the port needs one."""
    context = SECURED.get(port)
    return plain if context is None else context.wrap_socket(plain, server_hostname="localhost")


class Answer:
    """One HTTP response; the names in `headers` are in lower case."""

    def __init__(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.status, self.headers, self.body = status, headers, body

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    def __repr__(self) -> str:
        return f"<{self.status} {self.headers} {self.body!r}>"


class RawConnection(Closing):
    """One TCP connection to a port on loopback."""

    def __init__(self, port: int, timeout: float = TIMEOUT) -> None:
        self.socket = secured(socket.create_connection(("127.0.0.1", port), timeout=timeout), port)
        self._buffer = b""

    # bytes

    def send(self, data: bytes | str) -> None:
        self.socket.sendall(data.encode() if isinstance(data, str) else data)

    def end_sending(self) -> None:
        # Not the method of a TLS socket, which could not read any more.
        end: Any = super(ssl.SSLSocket, self.socket) if isinstance(self.socket, ssl.SSLSocket) else self.socket
        end.shutdown(socket.SHUT_WR)

    def read(self, size: int) -> bytes:
        """Exactly `size` bytes; EOFError when the connection ends earlier."""
        while len(self._buffer) < size:
            self._more()
        data, self._buffer = self._buffer[:size], self._buffer[size:]
        return data

    def read_line(self) -> str:
        while b"\r\n" not in self._buffer:
            self._more()
        line, _, self._buffer = self._buffer.partition(b"\r\n")
        return line.decode("latin-1")

    def _more(self) -> None:
        data = self.socket.recv(65_536)
        if not data:
            raise EOFError(f"the connection ended; unread: {self._buffer!r}")
        self._buffer += data

    def wait_end(self) -> bytes:
        """Everything up to the end of the connection, which must come before the timeout."""
        try:
            while True:
                self._more()
        except (EOFError, ConnectionResetError):
            self.socket.close()
            data, self._buffer = self._buffer, b""
            return data

    # HTTP

    def request(
        self, method: str, target: str, *fields: str, body: bytes = b"", version: str = "HTTP/1.1", host: bool = True
    ) -> None:
        """Sends a request. A body gets a Content-Length, unless a field gives its length already."""
        lines = [f"{method} {target} {version}", *(["Host: localhost"] if host else []), *fields]
        framed = any(field.lower().startswith(("content-length:", "transfer-encoding:")) for field in fields)
        if body and not framed:
            lines.append(f"Content-Length: {len(body)}")
        self.send("\r\n".join(lines).encode() + b"\r\n\r\n" + body)

    def answer(self, head: bool = False) -> Answer:
        """The next response; `head` says that it answers a HEAD request, so it has no body."""
        status = int(self.read_line().split(" ")[1])
        headers = {}
        while line := self.read_line():
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        if status == 100:
            return self.answer(head)
        body = b"" if head or status in (101, 204, 304) else self.read(int(headers.get("content-length", "0")))
        return Answer(status, headers, body)

    def ask(self, method: str, target: str, *fields: str, **options: Any) -> Answer:
        self.request(method, target, *fields, **options)
        return self.answer(head=method == "HEAD")

    @property
    def ended(self) -> bool:
        """True when the server closes the connection within the timeout and sends nothing more before."""
        return self.wait_end() == b""

    def close(self) -> None:
        self.socket.close()


def ask(port: int, method: str, target: str, *fields: str, **options: Any) -> Answer:
    """One request on a connection of its own."""
    with RawConnection(port) as connection:
        return connection.ask(method, target, *fields, **options)


def mask(data: bytes, key: bytes) -> bytes:
    return bytes(byte ^ key[i % 4] for i, byte in enumerate(data))


def frame(
    opcode: int,
    data: bytes = b"",
    *,
    fin: bool = True,
    reserved: int = 0,
    masked: bool = True,
    length_bytes: int | None = None,
    announced: int | None = None,
) -> bytes:
    """A client's frame. `length_bytes` (0, 2 or 8) and `announced` replace the shortest and the true length."""
    size = len(data) if announced is None else announced
    wide = length_bytes if length_bytes is not None else 0 if size < 126 else 2 if size < 65_536 else 8
    field = {0: size, 2: 126, 8: 127}[wide]
    extra = {0: b"", 2: struct.pack("!H", size & 0xFFFF), 8: struct.pack("!Q", size)}[wide]
    head = bytes((0x80 * fin | reserved << 4 | opcode, 0x80 * masked | field)) + extra
    if not masked:
        return head + data
    key = os.urandom(4)
    return head + key + mask(data, key)


def close_frame(code: int | None, reason: bytes = b"") -> bytes:
    return frame(CLOSE, b"" if code is None else struct.pack("!H", code) + reason)


class RawWebSocket(RawConnection):
    """A WebSocket that has completed its handshake, frame by frame."""

    def __init__(self, port: int, path: str = "/ws", *fields: str, timeout: float = TIMEOUT) -> None:
        super().__init__(port, timeout)
        answer = self.handshake(path, *fields)
        assert answer.status == 101, answer

    def handshake(self, path: str, *fields: str) -> Answer:
        return self.ask("GET", path, *handshake_fields(), *fields)

    def frame(self) -> tuple[int, bytes]:
        """(opcode, data) of the next frame, which must be complete and unmasked."""
        first, second = self.read(2)
        assert first & 0xF0 == 0x80, f"fragmented or with reserved bits: {first:#x}"
        assert second < 128, "a server's frame is masked"
        size = second
        if second == 126:
            size = struct.unpack("!H", self.read(2))[0]
            assert size > 125
        elif second == 127:
            size = struct.unpack("!Q", self.read(8))[0]
            assert size > 65_535
        return first & 15, self.read(size)

    def message(self) -> Any:
        """The JSON value of the next frame, a text."""
        opcode, data = self.frame()
        assert opcode == TEXT, (opcode, data)
        return json.loads(data)

    def closing(self) -> tuple[int | None, str, float]:
        """Skips to the server's close frame; (code, reason, seconds from it to the end of the connection)."""
        opcode, data = self.frame()
        while opcode != CLOSE:
            opcode, data = self.frame()
        begun = time.monotonic()
        code = struct.unpack("!H", data[:2])[0] if data else None
        assert self.wait_end() == b"", "bytes after the close frame"
        return code, data[2:].decode(), time.monotonic() - begun

    def close_in_order(self, code: int = 1000) -> int | None:
        """Closes with a close frame; the code of the server's answer."""
        self.send(close_frame(code))
        return self.closing()[0]


def handshake_fields(
    key: str | None = None, version: str = "13", upgrade: str = "websocket", connection: str = "Upgrade"
) -> list[str]:
    """The header fields of a handshake."""
    key = base64.b64encode(os.urandom(16)).decode() if key is None else key
    return [
        f"Upgrade: {upgrade}",
        f"Connection: {connection}",
        f"Sec-WebSocket-Key: {key}",
        f"Sec-WebSocket-Version: {version}",
    ]
