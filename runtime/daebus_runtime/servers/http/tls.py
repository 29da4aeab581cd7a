"""TLS of the HTTP port: certificate, key and the clients' CA from files, which are read again when they change.

Kubernetes replaces the files of a Secret by changing a symbolic link; other programs write one file after the other. So
a pair that does not load, or does not fit together, is not used: the one before it stays, and the log says so once. A
connection keeps the certificate that it began with.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ...errors import ConfigurationError
from ...logs import runtime_logger
from ...settings import Settings

MOST_PASSWORD = 1024
RECORD = 16_384
"""The most bytes of one TLS record. More are never passed to OpenSSL at once: it wants the same bytes again after a
wait, and until all of them are sent it does not say how many were."""

Receive = Callable[[Any], int]
Send = Callable[[Any], int]
# A client may end its half without close_notify. HTTP's own framing tells whether something is missing, and the answer
# can still be sent; without this OpenSSL 3 ends the connection with an alert.
OPTIONS = ssl.OP_IGNORE_UNEXPECTED_EOF


@dataclasses.dataclass(frozen=True)
class Files:
    """Paths. client_ca: certificates that clients must have been issued by; None asks clients for none."""

    cert: str
    key: str
    client_ca: str | None = None
    key_password: str | None = None

    @classmethod
    def of(cls, settings: Settings) -> Files | None:
        """None without TLS. ConfigurationError for a setting without those that it needs."""
        cert, key = settings.tls_cert, settings.tls_key
        if cert is not None and key is not None:
            return cls(cert, key, settings.tls_client_ca, settings.tls_key_password_file)
        for name in ("tls_cert", "tls_key", "tls_client_ca", "tls_key_password_file"):
            if getattr(settings, name) is not None:
                lacking = "DAEBUS_TLS_KEY" if cert is not None else "DAEBUS_TLS_CERT"
                raise ConfigurationError(f"DAEBUS_{name.upper()} is set, but not {lacking}")
        return None

    def marks(self) -> tuple[Any, ...]:
        """Something that differs when a file has changed."""
        return tuple(_mark(path) for path in dataclasses.astuple(self) if path is not None)

    def load(self) -> ssl.SSLContext:
        """ConfigurationError names the setting whose file does not load."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.options |= OPTIONS
        context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION | ssl.OP_CIPHER_SERVER_PREFERENCE
        context.set_alpn_protocols(["http/1.1"])
        password = _read_password(self.key_password)
        _check_readable("DAEBUS_TLS_CERT", self.cert)
        _check_readable("DAEBUS_TLS_KEY", self.key)
        self._load_pair(context, password)
        if self.client_ca is not None:
            _load_client_ca(context, self.client_ca)
        return context

    def _load_pair(self, context: ssl.SSLContext, password: str) -> None:
        try:
            # Without a password OpenSSL would ask for one at the terminal.
            context.load_cert_chain(self.cert, self.key, lambda: password)
        except (OSError, ValueError) as error:
            raise ConfigurationError(self._why(error)) from None

    def _why(self, error: Exception) -> str:
        """Which of the two files does not load."""
        reason = getattr(error, "reason", None) or str(error)
        if reason == "KEY_VALUES_MISMATCH":
            return f"DAEBUS_TLS_KEY: {self.key!r} is not the key of the certificate in DAEBUS_TLS_CERT, {self.cert!r}"
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_verify_locations(self.cert)
        except (OSError, ValueError):
            return f"DAEBUS_TLS_CERT: {self.cert!r} holds no certificate in PEM form ({reason})"
        hint = (
            "; if it is encrypted, DAEBUS_TLS_KEY_PASSWORD_FILE has its password" if self.key_password is None else ""
        )
        return f"DAEBUS_TLS_KEY: {self.key!r} holds no key in PEM form that can be used ({reason}){hint}"


def check(settings: Settings) -> None:
    """ConfigurationError if the files of the settings cannot be served."""
    files = Files.of(settings)
    if files is not None:
        files.load()


class Tls:
    """The current context of a port."""

    def __init__(self, files: Files) -> None:
        self._files = files
        self._marks = files.marks()
        self.context = files.load()

    def look(self) -> None:
        """Load the files again if they have changed. Called from time to time."""
        marks = self._files.marks()  # before they are read: if they change meanwhile, the next look sees it
        if marks == self._marks:
            return
        self._marks = marks
        try:
            self.context = self._files.load()
        except ConfigurationError as error:
            runtime_logger.error("the changed TLS files are not used; the ones before them still are: %s", error)
        else:
            runtime_logger.info("new TLS files are in use for new connections")

    def wrap(self, sock: Any) -> Any:
        """The socket with TLS, before its handshake."""
        return self.context.wrap_socket(sock, server_side=True, do_handshake_on_connect=False)


class Fixed(Tls):
    """A context made elsewhere, which does not change."""

    def __init__(self, context: ssl.SSLContext) -> None:
        context.options |= OPTIONS
        self.context = context

    def look(self) -> None:
        pass


# --- bytes ------------------------------------------------------------------------------------------------------------
def receiver(sock: Any) -> Receive:
    """As `recv_into` of a plain non-blocking socket."""
    session = sock._sslobj

    def receive(buffer: Any) -> int:
        try:
            size: int = session.read(len(buffer), buffer)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise BlockingIOError from None
        except ssl.SSLError as error:
            if error.args[0] in (ssl.SSL_ERROR_EOF, ssl.SSL_ERROR_ZERO_RETURN):
                return 0
            raise
        return size

    return receive


def sender(sock: Any) -> Send:
    """As `send` of a plain non-blocking socket; at most one record."""
    session = sock._sslobj

    def send(data: Any) -> int:
        try:
            size: int = session.write(memoryview(data)[:RECORD])
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise BlockingIOError from None
        return size

    return send


def say_goodbye(sock: Any) -> None:
    """Tell the client that nothing follows (close_notify), without waiting for its answer."""
    session = getattr(sock, "_sslobj", None)
    if session is not None:
        with contextlib.suppress(OSError, ValueError):
            session.shutdown()


# --- files ------------------------------------------------------------------------------------------------------------
def _mark(path: str) -> Any:
    try:
        found = os.stat(path)
    except OSError as error:
        return error.errno
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def _check_readable(name: str, path: str) -> None:
    try:
        with open(path, "rb") as file:
            file.read(1)
    except OSError as error:
        raise ConfigurationError(f"{name}: {path!r} cannot be read: {error.strerror}") from None


def _read_password(path: str | None) -> str:
    if path is None:
        return ""
    _check_readable("DAEBUS_TLS_KEY_PASSWORD_FILE", path)
    try:
        password = Path(path).read_text().rstrip("\r\n")
    except ValueError:
        password = ""
    if not 0 < len(password) <= MOST_PASSWORD:
        raise ConfigurationError(f"DAEBUS_TLS_KEY_PASSWORD_FILE: {path!r} holds no password of 1 to 1024 characters")
    return password


def _load_client_ca(context: ssl.SSLContext, path: str) -> None:
    _check_readable("DAEBUS_TLS_CLIENT_CA", path)
    try:
        context.load_verify_locations(path)
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", None) or error
        raise ConfigurationError(
            f"DAEBUS_TLS_CLIENT_CA: {path!r} holds no certificate in PEM form ({reason})"
        ) from None
    context.verify_mode = ssl.CERT_REQUIRED
