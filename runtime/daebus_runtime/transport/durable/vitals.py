"""The signs of life on a server: blocking calls for an OS thread, over a connection of its own."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

import hiredis

from ...errors import BusUnavailable
from ...keys import SERVICES, ServiceKeys
from ..link import pack
from ..redispy import AuthenticationError, ConnectionError, RedisError, TimeoutError
from ..refusals import mapped
from ..topology import Role, Topology
from . import look, script
from .look import Look
from .script import Script
from .steps import FREE, GONE, Seen, Vitals

READ_BYTES = 65_536


class RedisVitals(Vitals):
    """Over a connection of its own, with redis-py's blocking calls."""

    def __init__(self, topology: Topology, service: str, replica: str, kept: Sequence[Any]) -> None:
        self._topology, self._names, self._replica = topology, ServiceKeys(service), replica
        self._kept = kept
        """TTL of the keys in ms, the replica as JSON, how many calls may wait."""
        self._connection: Any = None
        self._parser: Any = None

    def beat(self, look: bool, keep: bool) -> Seen | None:
        names = self._names
        words = [self._replica, "all" if look else "", *(self._kept if keep else ("", "", "")), FREE]
        all_keys = [names.beats, names.requests, names.replicas, names.meta, names.signs]
        found = self._call(script.script("beat"), all_keys, words)
        if found is None:
            return None
        beats = {found[at].decode(): found[at + 1] for at in range(1, len(found), 2)}
        strays = [name for name, beat in beats.items() if beat == GONE.encode()]
        alive = {name: int(beat) for name, beat in beats.items() if name not in strays}
        return Seen(alive, strays, bool(found and found[0]))

    def bury(self, replica: str, beat: int | str) -> bool:
        names = self._names
        words = [replica, beat, FREE, names.wake]
        key_names = [names.requests, names.replicas, names.beats, names.signs]
        return self._call(script.script("bury"), key_names, words) is not None

    def enlist(self, service: str) -> None:
        self._call(script.script("enlist"), [SERVICES], [service, self._kept[0]])

    def look(self, service: str) -> Look | None:
        return Look.parse(self._call(script.script("look"), look.key_names(service), look.SAMPLE))

    def _call(self, step: Script, key_names: Sequence[str], words: Sequence[Any]) -> Any:
        try:
            if self._connection is None:
                connection = self._topology.connection(Role.COMMANDS)
                connection.connect()
                self._connection, self._parser = connection, hiredis.Reader(notEnoughData=False)
            try:
                return self._ask("EVALSHA", step.digest, len(key_names), *key_names, *words)
            except hiredis.ReplyError as error:
                if not str(error).startswith("NOSCRIPT"):
                    raise
                return self._ask("EVAL", step.text, len(key_names), *key_names, *words)
        except (OSError, RedisError, hiredis.HiredisError) as error:
            if not isinstance(error, hiredis.ReplyError):
                self.close()
            away = isinstance(error, OSError | ConnectionError | TimeoutError)
            if away and not isinstance(error, AuthenticationError):
                raise BusUnavailable(str(error)) from None
            raise mapped(error, self._topology.user, "EVALSHA", scripted=step.commands) from None

    def _ask(self, *words: Any) -> Any:
        """Over redis-py's socket, but not through its parser, which takes the first word off an error."""
        sock = self._connection._sock
        sock.sendall(pack(*words))
        while (value := self._parser.gets()) is False:
            data = sock.recv(READ_BYTES)
            if not data:
                raise OSError("the server closed the connection")
            self._parser.feed(data)
        if isinstance(value, Exception):
            raise value
        return value

    def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(OSError, RedisError):
                connection.disconnect()
