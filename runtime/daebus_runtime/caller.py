"""Calls other services from anywhere: a handler, a script, Flask, asyncio, a notebook, any number of OS threads.

Importing this module does not patch the standard library. All callers of a process share one reply inbox and its
connections.
"""

from __future__ import annotations

import numbers
import time
from collections.abc import Callable
from typing import Any

from . import settings
from .context import identify, pass_on
from .context.broadcasts import publish_object
from .envelope import Reply, Request
from .errors import BusError, CallTimeout, ConfigurationError, DeadlineExceeded, InvalidArgument, RemoteError
from .settings import UNSET, given
from .transport import State, Transport, shared

LONGEST_SECONDS = 365 * 24 * 3600


class _Progress:
    """Calls the author's `on_progress`. Its exceptions reach the author unchanged."""

    def __init__(self, function: Callable[[Any], Any]) -> None:
        self.function = function
        self.error: BaseException | None = None

    def __call__(self, reply: Reply) -> None:
        try:
            self.function(reply.payload)
        except BaseException as error:
            self.error = error
            raise


class DaebusCaller:
    """A service to call. Creating one does not connect and never fails. It may be shared between greenlets and threads.

    target_service: the service's name. redis_host, redis_port, redis_url: the bus; if none is given,
    `DAEBUS_REDIS_URL`, else the bus of the service in this process, else localhost:6379. timeout: seconds, the default
    for calls.
    """

    def __init__(
        self,
        target_service: str,
        redis_host: str = UNSET,
        redis_port: int = UNSET,
        timeout: float = 5,
        *,
        redis_url: str = UNSET,
    ) -> None:
        self.target_service = target_service
        self.timeout = timeout
        self._address: Any = redis_url
        if not given(redis_url) and (given(redis_host) or given(redis_port)):
            host = redis_host if given(redis_host) else "localhost"
            port = redis_port if given(redis_port) else settings.DEFAULT_REDIS_PORT
            self._address = settings.Server(host, port)
        self._transport: Transport | None = None
        self._generation = -1
        self._closed = False

    def send_request(
        self,
        action: str,
        payload: Any = UNSET,
        timeout: float | None = None,
        on_progress: Callable[[Any], Any] | None = None,
        *,
        request_id: str | None = None,
    ) -> Any:
        """Call an action and return the reply's payload.

        timeout: seconds, above 0; None means the caller's default. In a handler with a time limit a call takes at most
        what is left of that. on_progress: gets the payload of each intermediate
        reply, in the calling greenlet or thread. request_id: another call of the action with this id is the same call:
        it does not run again and gets the recorded reply, for about an hour; with another payload it is IdReused. A
        service on the original Daebus gets the id and runs each call.

        Raises RemoteError (the service's error text, with `code`), CallTimeout (a TimeoutError), BusUnavailable (a
        ConnectionError), NotPermitted (a PermissionError), BusRefused (the bus server's error), MessageTooLarge,
        InvalidArgument and IdReused (ValueErrors), and TypeError for a payload without
        a JSON form. Each text names service and action.
        """
        request = Request(self.target_service, action, {} if payload is UNSET else payload)
        if request_id is not None:
            identify(request, request_id, request.payload)
        deadline = pass_on(request)
        progress = None if on_progress is None else _Progress(on_progress)
        try:
            seconds = self._seconds(timeout)
            if deadline is None:
                reply = self._bus().request(request, seconds, progress)
            else:
                reply = self._within(deadline, request, seconds, progress)
        except (BusError, ConfigurationError, DeadlineExceeded, TypeError) as error:
            if progress is not None and error is progress.error:
                raise
            raise self._named(error, action) from error.__cause__
        if reply.status != "error":
            return reply.payload
        raise self._remote(reply, action)

    def _within(self, deadline: float, request: Request, seconds: float, progress: Any) -> Reply:
        """Call on behalf of a message whose own caller waits until `deadline` only."""
        left = deadline - time.monotonic()
        if left >= seconds:
            return self._bus().request(request, seconds, progress)
        if left <= 0:
            raise DeadlineExceeded("not called, because the time limit of the request being handled is over")
        try:
            return self._bus().request(request, left, progress)
        except CallTimeout:
            raise DeadlineExceeded("no reply before the time limit of the request being handled was over") from None

    def send_message(
        self, channel: str, payload: dict[str, Any], *, durable: bool = False, id: str | None = None
    ) -> int:
        """Broadcast a JSON object; arguments, result and errors as of `broadcast.send`."""
        return publish_object(self._bus(), channel, payload, durable, id)

    def send_to_service(self, payload: dict[str, Any], action: str | None = None, *, id: str | None = None) -> int:
        """Send a message to the service without waiting for a reply; returns 1 once it is stored, 0 for a service that
        never ran, and for a service on the original Daebus the number of receivers. id: as in `broadcast.send`, for the
        action."""
        message = dict(payload) if action is None else {**payload, "action": action}
        request = Request(self.target_service, message.get("action"), raw=message)
        identify(request, id, message)
        if id is not None:
            message["request_id"] = id
        return self._bus().send(request)

    def close(self) -> None:
        """Allow no further calls through this object. The connections stay open for other callers in the process."""
        self._closed = True

    def __enter__(self) -> DaebusCaller:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<DaebusCaller of {self.target_service!r}>"

    def __getstate__(self) -> dict[str, Any]:
        # For multiprocessing: the settings of the caller are pickled, its connection is not.
        return {**self.__dict__, "_transport": None, "_generation": -1}

    def _bus(self) -> Transport:
        if self._closed:
            raise BusError(f"this caller of service {self.target_service!r} was closed")
        transport = self._transport
        if transport is None or self._generation != shared.generation or transport.state is State.CLOSED:
            self.target_service = settings.parse("service", self.target_service, "DaebusCaller(target_service)")
            loaded = settings.load().settings
            generation = shared.generation
            url = self._address if given(self._address) else loaded.redis_url or shared.default_url()
            url = url or settings.redis_url_of("localhost", settings.DEFAULT_REDIS_PORT)
            transport = self._transport = shared.acquire(url, loaded)
            self._generation = generation
        return transport

    def _seconds(self, timeout: Any) -> float:
        name, value = ("DaebusCaller(timeout)", self.timeout) if timeout is None else ("timeout", timeout)
        kind = type(value)
        number = kind is float or kind is int or (isinstance(value, numbers.Real) and not isinstance(value, bool))
        if not number or not 0 < value <= LONGEST_SECONDS:
            shown = "a huge number" if kind is int and abs(value) > 10**18 else repr(str(value)[:60])
            raise InvalidArgument(
                f"{name}: {shown} ({kind.__name__}) is not a number of seconds, above 0 and at most "
                f"{LONGEST_SECONDS:,} (a year)"
            )
        return float(value)

    def _named(self, error: Exception, action: str) -> Exception:
        who = f"service {self.target_service!r}, action {action!r}"
        return error if str(error).startswith("service ") else type(error)(f"{who}: {error}")

    def _remote(self, reply: Reply, action: str) -> RemoteError:
        return RemoteError(
            reply.error_text,
            code=reply.code or RemoteError.code,
            service=self.target_service,
            action=action,
            payload=reply.payload,
        )
