"""Parses and checks a bus address before anything connects. If a part cannot work, the start fails and names it.

Options follow a `?` in the address, as in redis-py. Without the check, a wrong option would look like a server that
can never be reached.
"""

from __future__ import annotations

import dataclasses
import math
import ssl
import urllib.parse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..errors import ConfigurationError
from ..settings import redact
from . import redispy

TLS_VERSIONS = {"TLSv1.2": ssl.TLSVersion.TLSv1_2, "TLSv1.3": ssl.TLSVersion.TLSv1_3}


class _Refused(ValueError):
    """The text says what is expected."""


def _seconds(text: str) -> float:
    number = float(text)
    if not 0 < number < math.inf:
        raise _Refused("a number of seconds above 0")
    return number


def _number(least: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not (text.isascii() and text.isdigit()) or int(text) < least:
            raise _Refused(f"a whole number, {least} or more")
        return int(text)

    return parse


def _flag(text: str) -> bool:
    words = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
    if text.lower() not in words:
        raise _Refused("true or false")
    return words[text.lower()]


def _one_of(*words: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text not in words:
            raise _Refused(" or ".join(words))
        return text

    return parse


def _protocol(text: str) -> int:
    if text != "3":
        raise _Refused("3 (Daebus speaks RESP3 only), or left out")
    return 3


def _file(text: str) -> str:
    if not Path(text).is_file():
        raise _Refused("the path of a file, and there is none")
    return text


def _folder(text: str) -> str:
    if not Path(text).is_dir():
        raise _Refused("the path of a folder, and there is none")
    return text


def _tls_version(text: str) -> Any:
    for name, version in TLS_VERSIONS.items():
        if text in (name, str(int(version))):
            return version
    raise _Refused(" or ".join(TLS_VERSIONS))


def _word(text: str) -> str:
    if any(character.isspace() or not character.isprintable() for character in text):
        raise _Refused("a word without white space")
    return text


def _text(text: str) -> str:
    return text


COMMON: dict[str, Callable[[str], Any]] = {
    "db": _number(0),
    "username": _text,
    "password": _text,
    "protocol": _protocol,
    "client_name": _word,
    "socket_timeout": _seconds,
    "socket_connect_timeout": _seconds,
    "socket_keepalive": _flag,
    "socket_read_size": _number(1),
    "health_check_interval": _number(0),
    # Options of redis-py's connection pools; only `cache` uses them.
    "max_connections": _number(1),
    "timeout": _seconds,
    "retry_on_timeout": _flag,
    "encoding": _one_of("utf-8", "utf8"),
    "encoding_errors": _one_of("strict", "replace", "ignore", "surrogateescape", "backslashreplace"),
}
TLS: dict[str, Callable[[str], Any]] = {
    "ssl_cert_reqs": _one_of("required", "optional", "none"),
    "ssl_ca_certs": _file,
    "ssl_ca_path": _folder,
    "ssl_certfile": _file,
    "ssl_keyfile": _file,
    "ssl_password": _text,
    "ssl_check_hostname": _flag,
    "ssl_min_version": _tls_version,
    "ssl_ciphers": _text,
}
NOT_OURS = ("max_connections", "timeout", "retry_on_timeout", "encoding", "encoding_errors", "health_check_interval")
SECRET = frozenset({"password", "username", "ssl_password"})


@dataclasses.dataclass(frozen=True)
class Address:
    """`options` are the keyword arguments of redis-py's connection class, `connection_class` among them."""

    url: str = dataclasses.field(repr=False)
    options: dict[str, Any] = dataclasses.field(repr=False)
    user: str
    database: int

    @classmethod
    def of(cls, url: str) -> Address:
        """ConfigurationError names the part or option that cannot be used, and never contains a secret."""
        checked = _options(url)
        try:
            options: dict[str, Any] = redispy.parse_url(url)  # type: ignore[no-untyped-call]
        except (ValueError, TypeError) as error:
            raise ConfigurationError(f"the bus address {redact(url)} cannot be used: {error}") from None
        options.update(checked)
        for name in NOT_OURS:
            options.pop(name, None)
        _check_tls(url, options)
        user = options.get("username") or "default"
        return cls(url, options, str(user), int(options.get("db") or 0))

    @property
    def key(self) -> tuple[Any, ...]:
        """Equal for all spellings of the same address with the same options."""
        options = {"host": "localhost", "port": 6379, "db": 0, **self.options}
        return tuple(sorted((name, str(value)) for name, value in options.items()))


def _options(url: str) -> dict[str, Any]:
    parts = urllib.parse.urlsplit(url)
    known = {**COMMON, **TLS}
    options: dict[str, Any] = {}
    for name, text in urllib.parse.parse_qsl(parts.query, keep_blank_values=True):
        where = f"the bus address {redact(url)} cannot be used: option {name!r}"
        if name not in known:
            raise ConfigurationError(f"{where} is not known; there are {', '.join(sorted(known))}")
        if name in options:
            raise ConfigurationError(f"{where} is given twice")
        if name in TLS and parts.scheme != "rediss":
            raise ConfigurationError(f"{where} is for TLS, which needs rediss:// instead of {parts.scheme}://")
        try:
            options[name] = known[name](text)
        except ValueError as error:
            shown = "its value" if name in SECRET else repr(text)
            form = str(error) if isinstance(error, _Refused) else "a number"
            raise ConfigurationError(f"{where}: {shown} is not {form}") from None
    return options


def _check_tls(url: str, options: dict[str, Any]) -> None:
    """Read the certificates once. Without this, a file that is no certificate would look like an unreachable server."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    checks: dict[str, Callable[[], Any]] = {
        "ssl_ca_certs": lambda: context.load_verify_locations(cafile=options["ssl_ca_certs"]),
        "ssl_ca_path": lambda: context.load_verify_locations(capath=options["ssl_ca_path"]),
        "ssl_certfile": lambda: context.load_cert_chain(
            options["ssl_certfile"], options.get("ssl_keyfile"), options.get("ssl_password", "")
        ),
        "ssl_ciphers": lambda: context.set_ciphers(options["ssl_ciphers"]),
    }
    if "ssl_keyfile" in options and "ssl_certfile" not in options:
        raise ConfigurationError(
            f"the bus address {redact(url)} cannot be used: option 'ssl_keyfile' needs 'ssl_certfile' too"
        )
    for name, check in checks.items():
        if name in options:
            try:
                check()
            except (OSError, ValueError) as error:
                raise ConfigurationError(
                    f"the bus address {redact(url)} cannot be used: option {name!r}: {options[name]!r}: "
                    f"{getattr(error, 'reason', None) or error}"
                ) from None
