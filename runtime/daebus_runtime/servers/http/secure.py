"""One client over TLS: the same HTTP, other ways to send and to say goodbye."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from . import tls
from .connection import HttpConnection


class SecureConnection(HttpConnection):
    """The requests of one connection, after its handshake."""

    slice = tls.RECORD

    @staticmethod
    def sender(sock: Any) -> Callable[[Any], int]:
        return tls.sender(sock)

    def has_bytes(self) -> bool:
        """Also True for the first bytes of a record that has not arrived as a whole."""
        return bool(self.socket.pending()) or super().has_bytes()

    def handle_one_request(self) -> bool:
        more = super().handle_one_request()
        if not more:
            tls.say_goodbye(self.socket)
        return more

    def _linger(self) -> None:
        tls.say_goodbye(self.socket)
        super()._linger()
