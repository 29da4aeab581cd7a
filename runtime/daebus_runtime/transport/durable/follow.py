"""Shows the messages that are stored for services, beside their readers: it is in no group, and changes nothing.

A message that is done before it could be read here is not seen, which happens under load.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import gevent

from ... import keys
from ...errors import BusError, BusUnavailable
from ..link import pack
from ..redis import RedisBus
from ..refusals import mapped
from ..topology import Role

READ_SECONDS = 1.0
AGAIN_SECONDS = 0.2
MOST_READ = 100


class Follower:
    """Calls `arrived(service, envelope)` on the home loop for each message that is sent from now on.

    Services may be unknown yet. ready: whether "now" has begun, or the server refuses; then `refused` says why.
    """

    def __init__(self, bus: RedisBus, services: Sequence[str], arrived: Callable[[str, bytes], None]) -> None:
        self._bus, self._arrived = bus, arrived
        self._names = {keys.ServiceKeys(service).requests.encode(): service for service in services}
        self._last: dict[bytes, bytes] = {}
        self._link: Any = None
        self.refused: BusError | None = None
        self.ready = not services
        if services:
            bus.home.run(self._open)

    def _open(self) -> None:
        self._link = self._bus.links.own(Role.BLOCKING)
        self._link.open()
        for stream in self._names:
            self._begin(stream)

    def _begin(self, stream: bytes) -> None:
        command = pack("XINFO", "STREAM", stream)
        self._link.post(command, functools.partial(self._begun, stream), READ_SECONDS)

    def _begun(self, stream: bytes, value: Any) -> None:
        if isinstance(value, list):
            value = dict(zip(value[::2], value[1::2], strict=True))
        if isinstance(value, dict):
            self._last[stream] = value[b"last-generated-id"]
        elif "no such key" in str(value):
            self._last[stream] = b"0-0"
        elif not self._is_over(value, "XINFO", functools.partial(self._begin, stream)):
            return
        if self.refused is None and len(self._last) == len(self._names):
            self._read()

    def _read(self) -> None:
        block = ("BLOCK", int(READ_SECONDS * 1000)) if self.ready else ()  # the first answer comes at once
        streams = (*self._last, *self._last.values())
        self._link.post(pack("XREAD", "COUNT", MOST_READ, *block, "STREAMS", *streams), self._got)

    def _got(self, value: Any) -> None:
        if isinstance(value, Exception):
            self._is_over(value, "XREAD", self._read)
            return
        self.ready = True
        found = value.items() if isinstance(value, dict) else value or ()
        for stream, entries in found:
            for entry, fields in entries:
                self._last[stream] = entry
                words = dict(zip(fields[::2], fields[1::2], strict=False)) if isinstance(fields, list) else fields
                self._arrived(self._names[stream], words.get(b"m", b""))
        self._read()

    def _is_over(self, value: Exception, command: str, again: Callable[[], None]) -> bool:
        """Whether the server refuses; else it is tried again."""
        error = mapped(value, self._bus.topology.user, command)
        if isinstance(error, BusUnavailable):
            self._bus.home.soon(gevent.spawn_later, AGAIN_SECONDS, again)
            return False
        self.refused, self.ready = error, True
        return True
