"""CORS: which pages of other origins may read the answers. See https://fetch.spec.whatwg.org, "CORS protocol"."""

from __future__ import annotations

import dataclasses
import difflib
import ipaddress
import re
from collections.abc import Mapping
from typing import Any

from ...errors import ConfigurationError

_ORIGIN = re.compile(r"([a-z][a-z0-9+.-]*)://(\[[0-9a-f:.]+\]|[a-z0-9._~!$&'()+,;=-]+)(?::([0-9]{1,5}))?").fullmatch
_NUMERIC_END = re.compile(r"(?:.*\.)?(?:[0-9]+|0x[0-9a-f]*)\.?").fullmatch
_PORTS = {"http": "80", "https": "443"}
_NO_PAGES = frozenset(("ws", "wss", "ftp", "file", "data", "blob", "javascript", "about", "mailto"))
_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+").fullmatch
LISTS = ("allowed_origins", "allowed_methods", "allowed_headers", "expose_headers")
KEYS = (*LISTS, "allow_credentials", "max_age")


@dataclasses.dataclass(frozen=True)
class Policy:
    """A checked `cors_config`. Without `allowed_origins` every origin is allowed; without `allowed_methods`, the
    methods of the path; without `allowed_headers`, the requested ones. `max_age` in seconds."""

    allowed_origins: tuple[str, ...] = ()
    allowed_methods: tuple[str, ...] = ()
    allowed_headers: tuple[str, ...] = ()
    expose_headers: tuple[str, ...] = ()
    allow_credentials: bool = False
    max_age: int | None = None

    @property
    def open(self) -> bool:
        """Whether every origin is allowed. Then the answer is `*` and the same for all origins."""
        return "*" in self.allowed_origins

    def _allows(self, origin: str) -> bool:
        # Browsers always use the serialized form of an origin; other clients may not.
        return origin in self.allowed_origins or (len(origin) < 300 and same_origin(origin) in self.allowed_origins)

    def answer(self, origin: str | None, preflight: bool, wanted: str | None, methods: str | None) -> dict[str, str]:
        """The header fields of an answer. wanted: `Access-Control-Request-Headers`; methods: those of the path."""
        fields: dict[str, str] = {}
        if not self.open:
            fields["Vary"] = "Origin"
        if origin is None or not (self.open or self._allows(origin)):
            return fields
        fields["Access-Control-Allow-Origin"] = "*" if self.open else origin
        if self.allow_credentials:
            fields["Access-Control-Allow-Credentials"] = "true"
        if not preflight:
            if self.expose_headers:
                fields["Access-Control-Expose-Headers"] = ", ".join(self.expose_headers)
            return fields
        allowed = ", ".join(self.allowed_methods) or methods
        if allowed:
            fields["Access-Control-Allow-Methods"] = allowed
        headers = ", ".join(self.allowed_headers) or wanted
        if headers:
            fields["Access-Control-Allow-Headers"] = headers
        if self.max_age is not None:
            fields["Access-Control-Max-Age"] = str(self.max_age)
        if not self.allowed_headers:
            fields["Vary"] = ", ".join(
                [*([fields["Vary"]] if "Vary" in fields else []), "Access-Control-Request-Headers"]
            )
        return fields


def parse(config: Mapping[str, Any] | None) -> Policy | None:
    """The policy for a `cors_config`; None if it is empty. ConfigurationError names the key and the value."""
    if not config:
        return None
    if not isinstance(config, Mapping):
        raise ConfigurationError(f"cors_config is a dict, not {config!r}")
    for key in config:
        if key not in KEYS:
            near = difflib.get_close_matches(str(key), KEYS, 1)
            hint = f"; did you mean {near[0]!r}?" if near else f"; it has {', '.join(KEYS)}"
            raise ConfigurationError(f"cors_config has no key {key!r}{hint}")
    lists = {key: _texts(key, config[key]) for key in LISTS if config.get(key) is not None}
    lists.setdefault("allowed_origins", ("*",))
    lists["allowed_origins"] = tuple(_parse_origin(origin) for origin in lists["allowed_origins"])
    for key in LISTS[1:]:
        for word in lists.get(key, ()):
            if not _TOKEN(word):
                raise _wrong(key, word, "a method" if key == "allowed_methods" else "the name of a header field")
    credentials, age = config.get("allow_credentials", False), config.get("max_age")
    if not isinstance(credentials, bool):
        raise _wrong("allow_credentials", credentials, "True or False")
    if age is not None and (isinstance(age, bool) or not isinstance(age, int) or age < 0):
        raise _wrong("max_age", age, "a number of seconds from 0")
    for key, words in lists.items():
        if credentials and "*" in words:
            raise ConfigurationError(
                f"cors_config: {key} is '*' together with allow_credentials, which no browser accepts; list them"
            )
    if "allowed_methods" in lists:
        lists["allowed_methods"] = tuple(word.upper() for word in lists["allowed_methods"])
    return Policy(**lists, allow_credentials=credentials, max_age=age)


def same_origin(text: str) -> str | None:
    """An origin as browsers serialize it (https://html.spec.whatwg.org, "Serialization of an origin"): lower case, no
    default port, IP addresses in short form. None if no browser would send it."""
    match = _ORIGIN(text.lower())
    if match is None:
        return text if text == "null" else None
    scheme, host, port = match.groups()
    if scheme in _NO_PAGES or (port and int(port) > 65_535):
        return None
    try:
        if host.startswith("["):
            host = f"[{ipaddress.IPv6Address(host[1:-1]).compressed}]"
        elif _NUMERIC_END(host):
            host = str(ipaddress.IPv4Address(host))
    except ValueError:
        return None
    port = str(int(port)) if port else None
    return f"{scheme}://{host}" if port in (None, _PORTS.get(scheme)) else f"{scheme}://{host}:{port}"


def _parse_origin(text: str) -> str:
    origin = text if text == "*" else same_origin(text)
    if origin is None:
        form = "an origin such as https://app.example or http://localhost:3000, as a browser sends it, or *"
        if not text.isascii():
            form += " (a name in other letters is sent as xn--…)"
        raise _wrong("allowed_origins", text, form)
    return origin


def _texts(key: str, value: Any) -> tuple[str, ...]:
    words = (value,) if isinstance(value, str) else value
    if not isinstance(words, (list, tuple, set, frozenset)) or not all(isinstance(word, str) for word in words):
        raise _wrong(key, value, "a list of texts")
    return tuple(words)


def _wrong(key: str, value: Any, form: str) -> ConfigurationError:
    return ConfigurationError(f"cors_config: {key}: {value!r} is not {form}")
