"""The settings of a service: one dataclass, read from `DAEBUS_*`. Only this module decides where a value comes from.

Precedence: environment variable, then the explicit argument, then the default, so that one image can run at many sites.
A value that cannot be parsed raises ConfigurationError with the variable, the value and the expected form. Secrets
never appear in an error text or a `repr`.
"""

from __future__ import annotations

import dataclasses
import difflib
import ipaddress
import os
import re
import urllib.parse
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple, TypeVar

from .errors import ConfigurationError
from .forms import DIGITS, flag, integer, one_of, path, peers, seconds, text

PREFIX = "DAEBUS_"
DEFAULT_REDIS_PORT = 6379
MOST_SHOWN = 80  # characters of a value in an error's text
T = TypeVar("T")


class _Unset:
    def __repr__(self) -> str:
        return "<not given>"

    def __bool__(self) -> bool:
        return False


UNSET: Final[Any] = _Unset()
"""Default of an argument that was not given: distinguishes it from one that was given with the default's value."""


def given(value: Any) -> bool:
    """Whether the argument was given."""
    return not isinstance(value, _Unset)


def redact(url: str) -> str:
    """A bus address that is safe to show: user and password are replaced, query parameters are removed."""
    parts = urllib.parse.urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    who = "***@" if "@" in parts.netloc else ""
    return f"{parts.scheme}://{who}{host}{parts.path}"  # urlunsplit would drop the slashes of unix://


_NO_NAME = re.compile(r"[\s*?\[\]]")
_NO_HOST = re.compile(r"[\s/@\[\]*?#\\,;]")


def _service(value: Any) -> str:
    name = text(value)
    if len(name) > 128 or _NO_NAME.search(name):
        raise ValueError
    return name


def _host(value: Any) -> str:
    host = text(value)
    if ":" in host:
        ipaddress.IPv6Address(host)  # otherwise it could be a host with a port
    if len(host) > 255 or _NO_HOST.search(host):
        raise ValueError
    return host


class Server(NamedTuple):
    """A Redis server given by host and port in the program; read as the setting `redis_url`."""

    host: Any
    port: Any


def _redis_url(value: Any) -> str:
    if isinstance(value, Server):
        return redis_url_of(*value)
    url = text(value)
    parts = urllib.parse.urlsplit(url)
    if parts.scheme not in ("redis", "rediss", "unix") or " " in url:
        raise ValueError
    # An unescaped # or ? in a password ends the address early, and the remaining part could look like a host.
    urllib.parse.parse_qsl(parts.query, strict_parsing=bool(parts.query))
    if parts.fragment:
        raise ValueError
    if parts.scheme == "unix":
        if not parts.path or parts.netloc.rpartition("@")[2]:
            raise ValueError
    else:
        if not parts.hostname or (parts.port is not None and not 0 < parts.port < 65536):
            raise ValueError
        database = parts.path.strip("/")
        if database and not DIGITS.fullmatch(database):
            raise ValueError
    return parts.scheme + url[len(parts.scheme) :]  # redis-py accepts only a lower-case scheme


def setting(default: Any, parse: Callable[[Any], Any], form: str, about: str, *, secret: bool = False) -> Any:
    """One setting: how its text is parsed, the expected form (shown in errors) and its purpose."""
    metadata = {"parse": parse, "form": form, "about": about, "secret": secret}
    return dataclasses.field(default=default, metadata=metadata, repr=not secret)


NAME = "a name of 1 to 128 printable characters without white space or wildcards (* ? [ ])"
HOST = "an address: a host name, IPv4 or IPv6, without a port"
FILE = "the path of a file in PEM form"
PORT = integer(0, 65535)
BYTES = integer(1024, 512 * 1024 * 1024)  # Redis refuses a bulk string above 512 MiB
MIB = 1024 * 1024


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """Everything that the environment can set. A field's variable is `DAEBUS_` followed by its name in capitals."""

    service: str | None = setting(None, _service, NAME, "the service's name")
    redis_url: str | None = setting(
        None,
        _redis_url,
        "redis://[user:password@]host[:port][/db], rediss://… or unix:///path",
        "the bus; without it DAEBUS_EMBEDDED decides",
        secret=True,
    )
    embedded: str = setting(
        "auto", one_of("auto", "always", "never"), "auto, always or never", "whether to start a Redis of its own"
    )
    http_host: str = setting("0.0.0.0", _host, HOST, "the address that HTTP and WebSocket listen on")
    http_port: int = setting(8080, PORT, "a port number, 0 to 65535", "the HTTP port; 0 takes a free one")
    websocket_port: int | None = setting(
        None, PORT, "a port number, 0 to 65535", "a second port for WebSockets; without it they share the HTTP port"
    )
    management_host: str = setting("0.0.0.0", _host, HOST, "the address that the management port listens on")
    management_port: int | None = setting(
        None, PORT, "a port number, 0 to 65535", "/livez, /readyz and /metrics; off unless set"
    )
    log_format: str = setting(
        "auto", one_of("auto", "text", "json"), "auto, text or json", "auto is text on a terminal, else JSON lines"
    )
    log_level: str = setting(
        "info",
        one_of("debug", "info", "warning", "error"),
        "debug, info, warning or error",
        "the least severe record that is written",
    )
    message_limit: int = setting(16 * MIB, BYTES, "bytes, 1024 to 512 MiB", "the largest message on the bus")
    websocket_message_limit: int = setting(
        MIB, BYTES, "bytes, 1024 to 512 MiB", "the largest WebSocket message from a client"
    )
    http_body_limit: int = setting(10 * MIB, BYTES, "bytes, 1024 to 512 MiB", "the largest HTTP request body")
    request_seconds: float = setting(
        0.0,
        seconds(0, 86_400),
        "seconds, 0 to 86400",
        "how long the handler of an HTTP request may take before 504; 0 is no limit",
    )
    forwarded_allow: tuple[str, ...] | None = setting(
        None,
        peers,
        "addresses and networks (10.1.2.3, 10.42.0.0/16, fd00::/8) with commas between, `unix`, `*`, or none",
        "the proxies whose word about their clients counts, see [Behind a proxy](http-port.md#behind-a-proxy)",
    )
    proxy_protocol: str = setting(
        "off",
        one_of("off", "v1", "v2", "auto"),
        "off, v1, v2 or auto",
        "whether the proxies of DAEBUS_FORWARDED_ALLOW send a PROXY header first; auto takes either version",
    )
    tls_cert: str | None = setting(
        None, path, FILE, "certificate of the HTTP port and of WebSockets, with its chain; see [TLS](http-port.md#tls)"
    )
    tls_key: str | None = setting(None, path, FILE, "the certificate's key")
    tls_key_password_file: str | None = setting(None, path, "the path of a file", "holds the key's password")
    tls_client_ca: str | None = setting(None, path, FILE, "clients need a certificate that was issued by one of these")
    access_log: str = setting(
        "off",
        one_of("off", "json", "combined"),
        "off, json or combined",
        "the form of the access log on stdout, see [Access log](http-port.md#access-log)",
    )
    max_requests: int = setting(
        0,
        integer(0, 10**12),
        "a number, 0 to 1,000,000,000,000",
        "after so many HTTP requests the [worker is replaced](http-port.md#replaced-workers); 0 is never",
    )
    max_requests_jitter: int = setting(
        0, integer(0, 10**12), "a number, 0 to 1,000,000,000,000", "by how many requests more, at most, by chance"
    )
    connection_limit: int = setting(
        10_000,
        integer(10, 1_000_000),
        "a number, 10 to 1,000,000",
        "connections at the same time, WebSockets included",
    )
    concurrency: int = setting(
        1000, integer(1, 100_000), "a number, 1 to 100,000", "messages handled at the same time; more of them wait"
    )
    queue_limit: int = setting(
        10_000,
        integer(1, 1_000_000),
        "a number, 1 to 1,000,000",
        "requests that may wait, and as many broadcasts; a request beyond it is answered `overloaded`",
    )
    send_seconds: float = setting(
        5.0, seconds(0, 3600), "seconds, 0 to 3600", "how long a publish waits for a lost bus before it fails"
    )
    drain_seconds: float = setting(
        25.0, seconds(0, 3600), "seconds, 0 to 3600", "how long work in flight may take after SIGTERM"
    )
    block_seconds: float = setting(
        0.5,
        seconds(0.05, 3600),
        "seconds, 0.05 to 3600",
        "a handler that holds the loop for longer is named in the log",
    )
    debug: bool = setting(False, flag, "true or false", "errors' texts go to clients, verbose logs")


@dataclasses.dataclass(frozen=True)
class Loaded:
    """Settings, and one text for each argument that the environment overrode; each must be logged once."""

    settings: Settings
    overridden: tuple[str, ...]


def load(arguments: Mapping[str, Any] | None = None, environ: Mapping[str, str] | None = None) -> Loaded:
    """The settings from the environment and the arguments. `UNSET` counts as not given; so does None, unless None is
    the setting's default."""
    environ = os.environ if environ is None else environ
    explicit = {name: value for name, value in (arguments or {}).items() if given(value) and value is not None}
    values: dict[str, Any] = {}
    overridden = []
    for field in dataclasses.fields(Settings):
        variable = PREFIX + field.name.upper()
        if environ.get(variable):
            values[field.name] = parse(field.name, environ[variable], variable)
            if field.name in explicit and not _means(field.name, explicit[field.name], values[field.name]):
                overridden.append(f"{field.name} is taken from {variable}, not from the program's argument")
        elif field.name in explicit:
            values[field.name] = parse(field.name, explicit[field.name], f"argument {field.name}")
    return Loaded(Settings(**values), tuple(overridden))


def _means(name: str, argument: Any, value: Any) -> bool:
    try:
        return bool(parse(name, argument, "") == value)
    except ConfigurationError:
        return False


def parse(name: str, value: Any, source: str) -> Any:
    """One setting, parsed from its text or from a value of its type.

    The same rules hold for all settings. White space around a text is ignored; a number has decimal digits only
    (seconds may have a decimal point). ConfigurationError names `source`, the value and the expected form.
    """
    metadata = next(f.metadata for f in dataclasses.fields(Settings) if f.name == name)
    return _parse(metadata["parse"], value, source, metadata["form"], secret=metadata["secret"])


def _parse(parser: Callable[[Any], Any], value: Any, source: str, form: str, *, secret: bool = False) -> Any:
    try:
        return parser(value)
    except (ValueError, TypeError, OverflowError):
        shown = "its value (not shown, it may hold a password)" if secret else _shown(value)
        raise ConfigurationError(f"{source}: {shown} is not {form}") from None


def _shown(value: Any) -> str:
    if isinstance(value, (str, int, float)) and not isinstance(value, bool):
        text = str(value)
        return repr(text if len(text) <= MOST_SHOWN else text[:MOST_SHOWN] + "…")
    return f"{value!r} ({type(value).__name__})"


def unknown_variables(environ: Mapping[str, str] | None = None) -> list[str]:
    """One line for each `DAEBUS_*` variable that is not a setting, with the most similar name."""
    environ = os.environ if environ is None else environ
    known = [f.name.upper() for f in dataclasses.fields(Settings)]
    lines = []
    for name in sorted(environ):
        own = name.removeprefix(PREFIX)
        if own != name and own not in known and not own.startswith("_"):
            near = difflib.get_close_matches(own, known, 1)
            lines.append(f"{name} is not a setting" + (f"; did you mean {PREFIX}{near[0]}?" if near else ""))
    return lines


def redis_url_of(host: Any, port: Any) -> str:
    """The bus address for a host and a port. ConfigurationError names the one that cannot be used."""
    host = _parse(_host, host, "argument redis_host", HOST)
    port = _parse(integer(1, 65535), port, "argument redis_port", "a port number, 1 to 65535")
    return f"redis://{authority(host, port)}"


def authority(host: str, port: int | str) -> str:
    """`host:port` as addresses have it: an IPv6 address is in brackets, since it contains colons itself."""
    bare = host.strip("[]")
    return f"[{bare}]:{port}" if ":" in bare else f"{bare}:{port}"
