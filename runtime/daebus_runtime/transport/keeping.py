"""What a crash of the bus would cost: read from the server once, for the log at the start."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from ..errors import BusError, BusRefused
from ..logs import runtime_logger

FSYNC = {
    "always": "it writes every change to its append-only file, so a crash there loses nothing that was stored",
    "everysec": "it writes its append-only file once a second, so a crash of its node loses about a second",
    "no": "its append-only file is written when its system likes, so a crash of its node loses up to half a minute",
}


class Keeping(NamedTuple):
    """about: how the server keeps what is stored, as a clause. lasting: whether a restart leaves it there; None if that
    cannot be known. eviction: the policy by which it may remove stored messages; empty if it never does."""

    about: str
    lasting: bool | None
    eviction: str

    @classmethod
    def read(cls, ask: Callable[..., Any]) -> Keeping:
        """Ask the server. BusUnavailable, NotPermitted, BusRefused."""
        info = _fields(ask("INFO", "persistence")) | _fields(ask("INFO", "memory"))
        try:
            config = _pairs(ask("CONFIG", "GET", "save")) | _pairs(ask("CONFIG", "GET", "appendfsync"))
        except BusRefused:  # CONFIG is often not allowed
            config = {}
        policy = info.get("maxmemory_policy", "noeviction")
        limited = info.get("maxmemory", "0") != "0"
        return cls(*_kept(info, config), policy if limited and policy != "noeviction" else "")


def tell(read: Callable[[], Keeping | None], durable: bool) -> None:
    """Log what a crash of the bus would cost. durable: the service listens durably, so it relies on what is stored."""
    try:
        kept = read()
    except BusError as error:
        runtime_logger.debug("how the bus keeps what is stored is not known: %s", error)
        return
    if kept is None:
        return
    if kept.eviction:
        text = "the bus may remove stored messages when its memory is full (maxmemory-policy %s): set it to noeviction"
        runtime_logger.warning(text, kept.eviction)
    what = "requests and durable events" if durable else "requests"
    level = logging.WARNING if durable and kept.lasting is False else logging.INFO
    runtime_logger.log(level, "how the bus keeps stored %s: %s", what, kept.about)


def _kept(info: Mapping[str, str], config: Mapping[str, str]) -> tuple[str, bool | None]:
    if info.get("aof_enabled") == "1":
        return FSYNC.get(config.get("appendfsync", ""), "it has an append-only file"), True
    if "save" not in config:
        return "whether it keeps what is stored after a restart cannot be read (CONFIG GET is not allowed)", None
    if config["save"]:
        return f"it makes snapshots ({config['save']}), so a crash there loses what was stored since the latest", True
    return "in memory only, so a restart of it loses everything that is stored", False


def _fields(text: Any) -> dict[str, str]:
    """The lines `name:value` of INFO."""
    lines = bytes(text).decode("utf-8", "replace").splitlines()
    return dict(line.split(":", 1) for line in lines if ":" in line)


def _pairs(found: Any) -> dict[str, str]:
    """The answer to CONFIG GET, of either version of the server's protocol."""
    pairs = found.items() if isinstance(found, dict) else zip(found[::2], found[1::2], strict=True)
    return {name.decode(): value.decode("utf-8", "replace") for name, value in pairs}
