"""Calling other services, from anywhere: a handler, a script, Flask, asyncio, a notebook, any number of OS threads.

Importing this module does not patch the standard library. All callers of a process share one reply inbox and its
connections.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from . import codec, keys, settings
from .context import pass_on
from .context.broadcasts import publish_object
from .envelope import Reply, Request
from .errors import BusError, ConfigurationError, RemoteError
from .settings import UNSET, given
from .transport import Transport, shared


class _Progress:
    """The author's `on_progress`; what it raises is the author's, and reaches the author unchanged."""

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
    """A service to call. Making one never connects and never fails; it is safe to share between greenlets and threads.

    target_service: the service's name. redis_host, redis_port, redis_url: the bus; when none is given,
    `DAEBUS_REDIS_URL`, else the bus of the service that runs in this process, else localhost:6379. timeout: seconds,
    for calls that give none.
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
    ) -> Any:
        """Call an action and return the reply's payload.

        timeout: seconds. on_progress: gets the payload of each intermediate reply, in the calling greenlet or thread.
        Raises RemoteError (the error's text, with `code`), CallTimeout (a TimeoutError), BusUnavailable (a
        ConnectionError), MessageTooLarge (a ValueError), TypeError for a payload without JSON form. Each names
        service and action.
        """
        seconds = self.timeout if timeout is None else timeout
        request = Request(self.target_service, action, {} if payload is UNSET else payload)
        pass_on(request)
        progress = None if on_progress is None else _Progress(on_progress)
        try:
            reply = self._bus().request(request, seconds, progress)
        except (BusError, ConfigurationError, TypeError) as error:
            if progress is not None and error is progress.error:
                raise
            raise self._named(error, action) from error.__cause__
        if reply.status != "error":
            return reply.payload
        raise self._remote(reply, action)

    def send_message(self, channel: str, payload: dict[str, Any]) -> int:
        """Broadcast a JSON object; the number of receivers that the server saw. Errors as `broadcast.send`."""
        return publish_object(self._bus(), channel, payload)

    def send_to_service(self, payload: dict[str, Any], action: str | None = None) -> int:
        """Send a message to the service without waiting for a reply; the number of receivers."""
        message = dict(payload) if action is None else {**payload, "action": action}
        return self._bus().publish(keys.service_channel(self.target_service), codec.dumps(message))

    def close(self) -> None:
        """No further calls through this object. The connections stay, for the other callers of the process."""
        self._closed = True

    def __enter__(self) -> DaebusCaller:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<DaebusCaller of {self.target_service!r}>"

    def __getstate__(self) -> dict[str, Any]:
        # For multiprocessing: what it calls travels, the connection does not.
        return {**self.__dict__, "_transport": None, "_generation": -1}

    def _bus(self) -> Transport:
        if self._closed:
            raise BusError(f"this caller of service {self.target_service!r} was closed")
        if self._transport is None or self._generation != shared.generation:
            self.target_service = settings.parse("service", self.target_service, "DaebusCaller(target_service)")
            loaded = settings.load().settings
            self._generation = shared.generation
            url = self._address if given(self._address) else loaded.redis_url or shared.default_url()
            self._transport = shared.acquire(
                url or settings.redis_url_of("localhost", settings.DEFAULT_REDIS_PORT), loaded
            )
        return self._transport

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
