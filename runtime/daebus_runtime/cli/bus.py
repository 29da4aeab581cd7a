"""The bus for the commands: which one, whether it can be reached, and if not, the reason in plain words."""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import errno
import os
import socket
import ssl
import urllib.parse
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import click

from .. import settings
from ..errors import BusError, ConfigurationError
from ..services import list_services
from ..transport import redispy, shared, topology
from ..transport.compatible import Compatible
from ..transport.topology import CONNECT_SECONDS
from . import services
from .output import NO_ANSWER, UNREACHABLE, Failure, say

F = TypeVar("F", bound=Callable[..., Any])


@dataclasses.dataclass(frozen=True)
class Problem:
    """Something that is wrong, and how to fix it."""

    cause: str
    cure: str

    def __str__(self) -> str:
        return f"{self.cause}; {self.cure}"


@dataclasses.dataclass(frozen=True)
class Address:
    """The address of the bus, and where it comes from."""

    url: str = dataclasses.field(repr=False)
    source: str

    def __str__(self) -> str:
        return f"{settings.redact(self.url)} ({self.source})"


def bus_option(command: F) -> F:
    """`--redis-url`, the same for all commands that use the bus."""
    return click.option(
        "--redis-url", metavar="URL", help="The bus; else $DAEBUS_REDIS_URL, else redis://localhost:6379."
    )(command)


def named_address(option: str | None) -> Address | None:
    """The address from the option or the environment. ConfigurationError if it is malformed."""
    if option is not None:
        return Address(settings.parse("redis_url", option, "--redis-url"), "--redis-url")
    if text := os.environ.get("DAEBUS_REDIS_URL"):
        return Address(settings.parse("redis_url", text, "DAEBUS_REDIS_URL"), "DAEBUS_REDIS_URL")
    return None


def default_address() -> Address:
    return Address(settings.redis_url_of("localhost", settings.DEFAULT_REDIS_PORT), "the default")


@contextlib.contextmanager
def connected(option: str | None) -> Iterator[tuple[Address, Compatible]]:
    """The bus, reached; Failure says why it is not. A command does not start one: nobody else would be on it."""
    address = named_address(option) or default_address()
    problem = check(address.url)
    if problem is not None:
        raise Failure(UNREACHABLE, str(problem))
    try:
        yield address, transport_to(address)
    finally:
        shared.close_all()


def transport_to(address: Address) -> Compatible:
    return shared.acquire(address.url, settings.load().settings)


def near_names(transport: Compatible, service: str) -> list[str]:
    """Names that somebody listens on and that are close to that of a service that nobody answers for."""
    return difflib.get_close_matches(service, list(services.listened_to(transport)), 3, 0.5)


def is_known(address: Address, service: str) -> bool:
    """Whether messages for a service are stored although it does not run. False if this user may not ask."""
    try:
        return any(one.known and not one.problem for one in list_services(service, redis_url=address.url))
    except BusError:
        return False


def nobody_answers(transport: Compatible, address: Address, service: str) -> Problem:
    near = near_names(transport, service)
    hint = f" (did you mean {' or '.join(near)}?)" if near else ""
    return Problem(
        f"nobody answers for service {service!r} at {settings.redact(address.url)}{hint}",
        "start it, and see that it has this name (its first lines show it) and uses this bus",
    )


def expect_service(transport: Compatible, address: Address, service: str) -> None:
    """Failure if nobody knows the service: a call would only wait until its timeout."""
    if services.replicas(transport, service) == 0:
        if not is_known(address, service):
            raise Failure(NO_ANSWER, str(nobody_answers(transport, address, service)))
        say(f"service {service!r} has no replica now; the call waits for one", fg="yellow")


# --- what is wrong ----------------------------------------------------------------------------------------------------


def check(url: str) -> Problem | None:
    """Connect once, as a service would. Returns the problem, or None."""
    try:
        connection = topology.of(url).connection(topology.Role.COMMANDS)
    except ConfigurationError as error:
        return Problem(str(error), "correct DAEBUS_REDIS_URL")
    try:
        connection.connect()
    except (redispy.RedisError, OSError) as error:
        return diagnose(error, url)
    finally:
        connection.disconnect()
    return None


def diagnose(error: Exception, url: str) -> Problem:
    """Why a connection to `url` failed, and the fix. Knows the errors of redis-py and of the operating system."""
    where = settings.redact(url)
    if isinstance(error, redispy.AuthenticationError):
        return _refused(str(error), where)
    if isinstance(error, redispy.BusyLoadingError):
        return Problem(f"the Redis at {where} is still loading its data", "wait until it is done")
    if isinstance(error, redispy.InvalidResponse):
        return Problem(f"what answers at {where} is no Redis", "correct host and port in DAEBUS_REDIS_URL")
    if isinstance(error, redispy.ResponseError):
        return Problem(f"the Redis at {where} refuses the connection: {error}", "correct DAEBUS_REDIS_URL")
    return _unreachable(error, url, where)


def _refused(text: str, where: str) -> Problem:
    if "HELLO must be called" in text or "Authentication required" in text:
        return Problem(
            f"the Redis at {where} asks for a password and none is given",
            "put it into the address: DAEBUS_REDIS_URL=redis://:password@host:port",
        )
    return Problem(
        f"the Redis at {where} refuses the user or the password: {text.rstrip('.')}",
        "correct them in DAEBUS_REDIS_URL (characters such as / ? # @ in a password are written %2F %3F %23 %40)",
    )


def _unreachable(error: Exception, url: str, where: str) -> Problem:
    system = _system_error(error)
    parts = urllib.parse.urlsplit(url)
    if isinstance(system, ssl.SSLError):
        return Problem(
            f"no TLS connection to {where}: {system.reason or system}",
            "use redis:// for a server without TLS; name an own authority with ?ssl_ca_certs=/path/to/ca.pem",
        )
    if isinstance(system, socket.gaierror):
        return Problem(f"the host name {parts.hostname!r} in {where} is not known", "correct it in DAEBUS_REDIS_URL")
    if parts.scheme == "unix":
        return Problem(f"no Redis behind {where}: {_words(system or error)}", "start it, or correct DAEBUS_REDIS_URL")
    if isinstance(error, redispy.TimeoutError) or isinstance(system, TimeoutError):
        tls = " and does it speak TLS" if parts.scheme == "rediss" else ""
        cure = f"is it the right address{tls}? is the server stopped, or a firewall between?"
        return Problem(f"no answer from {where} within {CONNECT_SECONDS:g} s", cure)
    if isinstance(system, OSError) and system.errno == errno.ECONNREFUSED:
        return Problem(
            f"nothing listens at {where}", "start a Redis there (redis-server), or set DAEBUS_REDIS_URL to where one is"
        )
    return Problem(
        f"{where} cannot be reached: {_words(system or error)}", "is it the right address, is the network up?"
    )


def _system_error(error: BaseException | None) -> OSError | None:
    while error is not None:
        if isinstance(error, OSError) and not isinstance(error, redispy.RedisError):
            return error
        error = error.__cause__ or error.__context__
    return None


def _words(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
