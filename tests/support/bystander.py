"""One client of a service in a process of its own; run by `bystanders`. Standard library only, so that it starts at
once and costs little: several of them share a small machine with the service under test.

`bystander http|bus|websocket PAUSE TIMEOUT WHERE…` asks every PAUSE seconds until its standard input ends. It prints a
line for each request: when it began (`time.monotonic()`), the seconds until its answer, how many of these the
service, its Redis or this process was ready to run but had no processor, and the error, if there was one.
"""

from __future__ import annotations

import base64
import json
import os
import select
import socket
import struct
import sys
import time
import uuid
from collections.abc import Callable
from urllib.parse import unquote, urlsplit

from tests.support.processors import Waits, listeners

TEXT, CLOSE, PING, PONG = 1, 8, 9, 10
TLS_PORTS, TLS_CA = "BYSTANDER_TLS_PORTS", "BYSTANDER_TLS_CA"
"""Variables: the ports that speak TLS, with spaces between, and the file with the certificate of their authority."""


def _secured(plain: socket.socket) -> socket.socket:
    import ssl

    context = ssl.create_default_context(cafile=os.environ[TLS_CA])
    return context.wrap_socket(plain, server_hostname="localhost")


class Connection:
    """A TCP or Unix socket, read by line and by size."""

    def __init__(self, address: tuple[str, int] | str, timeout: float) -> None:
        if isinstance(address, str):
            self.socket = socket.socket(socket.AF_UNIX)
            self.socket.settimeout(timeout)
            self.socket.connect(address)
        else:
            self.socket = socket.create_connection(address, timeout=timeout)
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if str(address[1]) in os.environ.get(TLS_PORTS, "").split():
                self.socket = _secured(self.socket)
        self._stream = self.socket.makefile("rb")

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def line(self) -> bytes:
        line = self._stream.readline()
        if not line.endswith(b"\r\n"):
            raise ConnectionError("the connection ended")
        return line[:-2]

    def exactly(self, size: int) -> bytes:
        data = self._stream.read(size)
        if len(data) < size:
            raise ConnectionError("the connection ended")
        return data


class Http:
    """GETs of one path over one kept connection; any status but 200 is a failure."""

    def __init__(self, timeout: float, host: str, port: str, path: str) -> None:
        self._connection = Connection((host, int(port)), timeout)
        self.served_by = listeners(int(port))
        self._request = f"GET {path} HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n".encode()

    def ask(self) -> None:
        self._connection.send(self._request)
        status, length = self._connection.line().decode(), 0
        while header := self._connection.line():
            name, _, value = header.partition(b":")
            if name.lower() == b"content-length":
                length = int(value)
        self._connection.exactly(length)
        if status.split()[1] != "200":
            raise ConnectionError(f"answered {status}")


class Bus:
    """Requests to one action, as any Daebus caller sends them (wire.md, section 1); an error reply is a failure."""

    def __init__(self, timeout: float, url: str, service: str, action: str, payload: str) -> None:
        self._service = service
        self._request = {"action": action, "payload": json.loads(payload), "service": service}
        self._request["reply_to"] = inbox = f"caller:{uuid.uuid4()}"
        self._out, self._in = self._connect(url, timeout), self._connect(url, timeout)
        self.served_by = self._service_and_redis()
        self._command(self._in, "SUBSCRIBE", inbox)

    def ask(self) -> None:
        identity = str(uuid.uuid4())
        message = json.dumps(self._request | {"request_id": identity})
        if not self._command(self._out, "PUBLISH", self._service, message):
            raise ConnectionError("nobody is subscribed")
        while True:
            pushed = self._value(self._in)
            assert isinstance(pushed, list)
            reply = json.loads(pushed[2])
            if reply["request_id"] == identity and reply.get("final", True):
                break
        if reply["status"] != "success":
            raise ConnectionError(f"answered {reply}")

    def _service_and_redis(self) -> set[int]:
        """The process ids of the service and its Redis; fewer when the server does not permit these commands."""
        try:
            about, clients = self._command(self._out, "INFO", "server"), self._command(self._out, "CLIENT", "LIST")
        except ConnectionError:
            return set()
        assert isinstance(about, bytes)
        assert isinstance(clients, bytes)
        found = {int(line.partition(b":")[2]) for line in about.splitlines() if line.startswith(b"process_id:")}
        # The connections are named daebus-PID. The service connected before its clients, so its id is the lowest.
        lines = [_fields(line) for line in clients.decode().splitlines()]
        named = [line for line in lines if line.get("name", "").startswith("daebus-")]
        first = min(named, key=lambda line: int(line["id"]), default={"name": ""})
        pid = first["name"].rpartition("-")[2]
        return found | ({int(pid)} if pid.isdigit() else set())

    def _connect(self, url: str, timeout: float) -> Connection:
        parts = urlsplit(url)
        unix = parts.scheme == "unix"
        connection = Connection(parts.path if unix else (parts.hostname or "", parts.port or 6379), timeout)
        if parts.password:
            account = [unquote(parts.username)] if parts.username else []
            self._command(connection, "AUTH", *account, unquote(parts.password))
        return connection

    def _command(self, connection: Connection, *words: str) -> object:
        encoded = [word.encode() for word in words]
        lines = b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in encoded)
        connection.send(b"*%d\r\n" % len(words) + lines)
        return self._value(connection)

    def _value(self, connection: Connection) -> object:
        line = connection.line()
        kind, rest = line[:1], line[1:]
        if kind == b"*":
            return [self._value(connection) for _ in range(int(rest))]
        if kind == b"$":
            return connection.exactly(int(rest) + 2)[:-2]
        if kind == b":":
            return int(rest)
        if kind == b"-":
            raise ConnectionError(rest.decode())
        return rest


class WebSocket:
    """Messages of one type in the JSON protocol (wire.md, section 4); a frame of type "error" is a failure."""

    def __init__(self, timeout: float, host: str, port: str, path: str, kind: str, data: str) -> None:
        self._connection = Connection((host, int(port)), timeout)
        key = base64.b64encode(os.urandom(16)).decode()
        lines = [f"GET {path} HTTP/1.1", f"Host: {host}:{port}", "Upgrade: websocket", "Connection: Upgrade"]
        lines += ["Sec-WebSocket-Version: 13", f"Sec-WebSocket-Key: {key}", "\r\n"]
        self._connection.send("\r\n".join(lines).encode())
        status = self._connection.line().decode()
        while self._connection.line():
            pass
        if status.split()[1] != "101":
            raise ConnectionError(f"answered {status}")
        self.served_by = listeners(int(port))
        self._message = {"type": kind, "data": json.loads(data)}

    def ask(self) -> None:
        identity = str(uuid.uuid4())
        self._send(TEXT, json.dumps(self._message | {"id": identity}).encode())
        while True:
            reply = self._receive()
            if reply["type"] == "error":
                raise ConnectionError(f"answered {reply}")
            if reply.get("id") == identity:
                return

    def _send(self, opcode: int, data: bytes) -> None:
        # A mask of zeros is valid and leaves the data unchanged.
        size = struct.pack("!B", 0x80 | len(data)) if len(data) < 126 else struct.pack("!BH", 0xFE, len(data))
        self._connection.send(bytes([0x80 | opcode]) + size + bytes(4) + data)

    def _receive(self) -> dict[str, object]:
        while True:
            first, size = self._connection.exactly(2)
            if size >= 126:
                form = "!H" if size == 126 else "!Q"
                (size,) = struct.unpack(form, self._connection.exactly(struct.calcsize(form)))
            data = self._connection.exactly(size)
            if first & 15 == PING:
                self._send(PONG, data)
            elif first & 15 == CLOSE:
                raise ConnectionError(f"closed by the server: {data!r}")
            elif first & 15 == TEXT:
                found: dict[str, object] = json.loads(data)
                return found


def _fields(line: str) -> dict[str, str]:
    """The fields of a line of `name=value` words."""
    words = [word.partition("=") for word in line.split()]
    return {name: value for name, _, value in words}


KINDS: dict[str, Callable[..., Http | Bus | WebSocket]] = {"http": Http, "bus": Bus, "websocket": WebSocket}


def asked_to_end(seconds: float) -> bool:
    """Waits for these seconds; True as soon as standard input ends."""
    return bool(select.select([sys.stdin], [], [], max(0.0, seconds))[0])


def main(kind: str, pause: float, timeout: float, *where: str) -> None:
    client: Http | Bus | WebSocket | None = None
    waits = Waits(set())
    due = ended = time.monotonic()
    while not asked_to_end(due - time.monotonic()):
        now = time.monotonic()
        # A request that had to wait for the previous one counts from when it was due. But when this process was merely
        # woken up late, the service is not to blame: then it counts from now.
        begun = now if ended <= due else due
        trouble = ""
        waits.note(now)
        try:
            if not client:
                client = KINDS[kind](timeout, *where)
                waits = Waits(client.served_by | {os.getpid()})
                waits.note(now)
            client.ask()
        except OSError as error:
            trouble, client = f"{type(error).__name__}: {error}", None
        ended = time.monotonic()
        waits.note(ended)
        print(f"{begun:.6f} {ended - begun:.6f} {waits.since(begun):.6f} {trouble}", flush=True)
        due = ended + pause if trouble else due + pause


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]), float(sys.argv[3]), *sys.argv[4:])
