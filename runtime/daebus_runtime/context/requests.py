"""The objects behind `request`. `Handled` is what all kinds have in common; each kind adds what its source offers.

Requests on the bus are `envelope.Request`; the kinds for HTTP and WebSockets are in `servers/`.
"""

from __future__ import annotations

from typing import Any, Protocol


class Handled(Protocol):
    """What `request` offers in every handler, whatever has called it."""

    @property
    def payload(self) -> Any:
        """The data that was sent; a dict if nothing was sent."""

    @property
    def raw(self) -> Any:
        """The whole message, including fields that this version does not know."""

    @property
    def request_id(self) -> Any:
        """As the sender set it, of any JSON type; None if there is none."""

    @property
    def service(self) -> str | None:
        """The name of the service, or `http` or `websocket`."""

    @property
    def traceparent(self) -> Any:
        """The W3C trace context, if the sender gave one."""


class ListenRequest:
    """`request` in a listener: one broadcast."""

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
    """`request` in a task: one run. `scheduled` is its planned time in Unix seconds."""

    __slots__ = ("name", "payload", "raw", "scheduled", "service")

    request_id = traceparent = None

    def __init__(self, service: str | None, name: str, scheduled: float) -> None:
        self.name, self.scheduled, self.service = name, scheduled, service
        self.payload: dict[str, Any] = {}
        self.raw = self.payload
