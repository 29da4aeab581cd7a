"""Who is on a server: the services that are known, and what a look at each of them shows. Over one blocking connection,
in any program. Each question is one round trip, however many services it is about."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Sequence
from typing import Any

from ... import keys
from ...errors import BusError, BusUnavailable, NotPermitted
from .. import redispy
from ..refusals import mapped
from ..topology import Role, Topology
from . import look
from .look import Look
from .script import script
from .steps import Bounds, life_ms

MOST_LISTED = 10_000
NEEDS = f"~{keys.OWN_PREFIX}* +@read +@scripting +time +pubsub"
"""What a user must be allowed for a look at all services."""


class Directory:
    """Connects at the first question, and again after a loss. Every method may raise BusError."""

    def __init__(self, topology: Topology) -> None:
        self._topology = topology
        self._connection: Any = None

    def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(OSError, redispy.RedisError):
                connection.disconnect()

    def names(self) -> tuple[list[bytes], list[bytes] | BusError]:
        """The services that are known, and every channel that somebody listens on, or why this may not be asked."""
        listed, heard = self._ask(
            ("ZREVRANGE", keys.SERVICES, 0, MOST_LISTED - 1),
            ("PUBSUB", "CHANNELS"),
        )
        if isinstance(listed, BusError):
            raise type(listed)(f"the list of services cannot be read: {listed}")
        return listed, heard

    def look(
        self, services: Sequence[str], channels: Sequence[bytes | str]
    ) -> tuple[list[Look | BusError | None], list[int] | BusError]:
        """A look at each service: None if it is unknown, or why this one cannot be read. And how many listen on each
        channel, or why this may not be asked."""
        step, limits = script("look"), look.WHOLE
        # The first sends the script, the others name it: commands of one connection run in their order.
        asked: list[tuple[Any, ...]] = [
            ("EVALSHA" if at else "EVAL", step.digest if at else step.text, 5, *look.key_names(name), *limits)
            for at, name in enumerate(services)
        ]
        *looks, counts = self._ask(*asked, ("PUBSUB", "NUMSUB", *channels))
        found = [value if isinstance(value, BusError) else Look.parse(value) for value in looks]
        return found, counts if isinstance(counts, BusError) else [int(count) for count in counts[1::2]]

    def register(self, services: Sequence[str], bounds: Bounds) -> list[bool]:
        """Make services known; for each whether it was unknown before."""
        life = life_ms(bounds)
        asked: list[tuple[Any, ...]] = []
        for service in services:
            names = keys.ServiceKeys(service)
            key_names = [names.requests, names.replicas, names.beats, names.meta, names.signs]
            asked.append(("EVAL", script("register").text, 5, *key_names, "", "", life, 0))
            asked.append(("EVAL", script("enlist").text, 1, keys.SERVICES, service, life))
        made = self._ask(*asked)
        for error in made:
            if isinstance(error, BusError):
                raise error
        return [value == b"new" for value in made[::2]]

    # --- the connection -------------------------------------------------------------------------------------------
    def _ask(self, *commands: tuple[Any, ...]) -> list[Any]:
        """The answer to each command, a refusal as a value; one round trip."""
        try:
            if self._connection is None:
                connection = self._topology.connection(Role.COMMANDS)
                connection.connect()
                self._connection = connection
            self._connection.send_packed_command(self._connection.pack_commands(commands))
            return [self._answer(command[0]) for command in commands]
        except redispy.ResponseError as error:  # to the first words of the connection
            self.close()
            raise self._refusal(error, "HELLO") from None
        except (OSError, redispy.RedisError) as error:
            self.close()
            raise BusUnavailable(str(error) or type(error).__name__) from None
        except BaseException:
            self.close()  # the answers to come would be taken for those to later questions
            raise

    def _answer(self, command: str) -> Any:
        try:
            return self._connection.read_response()
        except (redispy.ResponseError, redispy.BusyLoadingError) as error:
            return self._refusal(error, command)

    def _refusal(self, error: Exception, command: str) -> BusError:
        text = str(error)
        if isinstance(error, redispy.BusyLoadingError):
            return BusUnavailable(f"the bus cannot do it now: LOADING {text}")
        # redis-py takes the first word away from errors of which it has a class.
        if isinstance(error, redispy.NoPermissionError) or _FORBIDDEN.search(text):
            return NotPermitted(f"the bus does not allow it: {text} (ACL SETUSER {self._topology.user} {NEEDS})")
        return mapped(error, self._topology.user, command)


_FORBIDDEN = re.compile(r"NOPERM|ACL failure|executing the script can't")
"""How a server refuses a command inside a script; before 7.0 in other words."""
