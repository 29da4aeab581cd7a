"""Keeps a bus that nobody named alive: when an embedded server ends, a service that was on it starts it anew.

An embedded server ends with the program that started it, and the other programs of this machine are cut off. So each
service among them tries to start one on the same port. Who opens the port first has it, and every connection finds it
again by itself. No file or lock says whose turn it is: the system gives a port to one program only.
A Redis that somebody else runs is left alone: it may just be restarting, and needs its port then.
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
from .embedded import HOST, Bus, EmbeddedServer, Greeting, PortTaken, greet, is_embedded

# Many services lose the bus at the same moment: most of them should see the first one's server and start none.
SPREAD_SECONDS = 0.3


class Keeper:
    """Told each change of the state of one service's bus (`changed`). Everything here runs on the service's loop."""

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
        """Start no server any more; one that was started goes on."""
        if self._greenlet is not None:
            self._greenlet.kill(block=False)

    def stop(self) -> None:
        """End the server that was started here, if one was."""
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
        """Whose server it is may change with every new connection."""
        with contextlib.suppress(OSError, hiredis.HiredisError):  # it is away again
            self._embedded = is_embedded(HOST, port)

    def _replace(self, port: int, quiet: bool) -> bool:
        """Start a server where nobody listens. True when that failed, and not because somebody else was faster."""
        if greet(HOST, port) is not Greeting.NOBODY:
            return False
        try:
            self._server = EmbeddedServer(port)
        except PortTaken:
            return False
        except (ConfigurationError, OSError) as error:
            if not quiet:
                runtime_logger.warning("the bus has ended with the program that had started it: %s", error)
            return True
        runtime_logger.info("the bus had ended with the program that had started it; now it is %s", self._server)
        return False
