"""Keeps an embedded bus alive: when the embedded server ends, a service that used it starts a new one.

An embedded server ends with the program that started it, which cuts off the other programs on this machine. So each of
their services tries to start a server on the same port. The first to open the port wins, and all connections reconnect
to it by themselves. No file or lock is needed, because the system gives a port to one program only.
A Redis that was not started by Daebus is not replaced: it may only be restarting, and then it needs its port.
"""

from __future__ import annotations

import contextlib
import random
from typing import Any

import gevent
import hiredis
from gevent.event import Event

from ..errors import ConfigurationError
from ..logs import runtime_logger
from . import State
from .embedded import Bus, EmbeddedServer, Greeting, PortTaken, greet, is_embedded, loopback

# All services lose the bus at the same moment. Most of them should find the first one's server and start none.
SPREAD_SECONDS = 0.3


class Keeper:
    """`changed` is called at each change of the state of the service's bus. Everything runs on the service's loop."""

    def __init__(self, bus: Bus) -> None:
        self._port = bus.port
        self._embedded = bus.embedded
        self._state = State.CONNECTING
        self._told = Event()
        self._greenlet: Any = None
        self._server: EmbeddedServer | None = None

    def start(self) -> None:
        if self._port is not None:
            self._greenlet = gevent.spawn(self._keep, self._port)

    def changed(self, state: State, reason: str) -> None:
        self._state = state
        self._told.set()

    def retire(self) -> None:
        """Start no more servers; one that was already started continues."""
        if self._greenlet is not None:
            self._greenlet.kill(block=False)

    def stop(self) -> None:
        """End the server that was started here, if any."""
        self.retire()
        if self._server is not None:
            self._server.stop()

    def _keep(self, port: int) -> None:
        said = False
        while True:
            self._told.wait()
            self._told.clear()
            if self._state is State.UP:
                said = False
                self._recognize(port)
            while self._state is State.DOWN and self._embedded:
                gevent.sleep(random.random() * SPREAD_SECONDS)
                said = self._replace(port, said) or said

    def _recognize(self, port: int) -> None:
        """Check who started the server, because that may change with every new connection."""
        with contextlib.suppress(OSError, hiredis.HiredisError):  # it is gone again
            self._embedded = is_embedded(loopback(), port)

    def _replace(self, port: int, quiet: bool) -> bool:
        """Start a server if nothing listens on the port. True if that failed, unless another program was faster."""
        if greet(loopback(), port) is not Greeting.NOBODY:
            return False
        try:
            self._server = EmbeddedServer(port)
        except PortTaken:
            return False
        except (ConfigurationError, OSError) as error:
            if not quiet:
                runtime_logger.warning(
                    "the bus ended with the program that started it, and a new one cannot be started: %s", error
                )
            return True
        runtime_logger.info("the bus ended with the program that started it; now it is %s", self._server)
        return False
