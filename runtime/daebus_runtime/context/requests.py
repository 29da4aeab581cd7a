"""What `request` can stand for. `Handled` is what all kinds have; each kind adds what its source knows.

A request on the bus is `envelope.Request`; HTTP's and WebSocket's kinds are in `servers/`.
"""

from __future__ import annotations

from typing import Any, Protocol


class Handled(Protocol):
    """What every handler finds in `request`, whatever has called it."""

    @property
    def payload(self) -> Any:
        """What was sent; a dict where nothing was."""

    @property
    def raw(self) -> Any:
        """All that came, fields included that this version does not know."""

    @property
    def request_id(self) -> Any:
        """As the sender gave it, of any JSON type; None where there is none."""

    @property
    def service(self) -> str | None:
        """The name of the service, or `http` or `websocket`."""

    @property
    def traceparent(self) -> Any:
        """The W3C trace context, when the sender gave one."""


class ListenRequest:
    """A broadcast as a listener sees it through `request`."""

    __slots__ = ("channel", "payload", "raw", "service")

    request_id = None

    def __init__(self, service: str | None, channel: str, payload: dict[str, Any]) -> None:
        self.payload = self.raw = payload
        self.channel = channel
        self.service = service

    @property
    def traceparent(self) -> Any:
        return self.payload.get("traceparent")


class TaskRequest:
    """A scheduled run as a task sees it: `scheduled` is the planned time in Unix seconds."""

    __slots__ = ("name", "payload", "raw", "scheduled", "service")

    request_id = traceparent = None

    def __init__(self, service: str | None, name: str, scheduled: float) -> None:
        self.name, self.scheduled, self.service = name, scheduled, service
        self.payload: dict[str, Any] = {}
        self.raw = self.payload
