"""`broadcast`: publishes on the bus of the service whose message is being handled, else of this process's service."""

from __future__ import annotations

from typing import Any

from .. import codec, keys
from ..envelope import Request
from ..errors import InvalidArgument
from ..transport import Transport
from . import get_daemon, identify, pass_on


class Broadcast:
    """Publishes on the bus the service runs on."""

    def send(self, channel: str, payload: dict[str, Any], *, durable: bool = False, id: str | None = None) -> int:
        """Publish a JSON object; returns the number of receivers that the server reports.

        durable: the event is stored for each service that has a durable listener on the channel, and is handled in one
        of its replicas; plain listeners get it too, if they are connected. Returns once the bus has it, with the number
        of services it is stored for: 0 if no service has a durable listener there. id: of a durable event; another one
        with this id on the channel is the same event and is not stored again, for about an hour. In a handler an event
        without an id gets one, so that a repetition of the handler does not send it twice.

        ValueError for a bad channel name or id, IdReused for the id of an event with another payload, TypeError for a
        payload that is not a dict or has no JSON form, MessageTooLarge above `DAEBUS_MESSAGE_LIMIT`, BusUnavailable
        without a connection for `DAEBUS_SEND_SECONDS`, Overloaded if too many durable events wait for a service.
        """
        return publish_object(get_daemon().transport, channel, payload, durable, id)


def publish_object(
    transport: Transport, channel: str, payload: Any, durable: bool = False, id: str | None = None
) -> int:
    """Publish `payload`, which must be a dict, as JSON. Errors as in Broadcast.send."""
    keys.check_channel(channel)
    if not isinstance(payload, dict):
        raise TypeError(f"a broadcast's payload is a dict, not {type(payload).__name__}")
    if not durable:
        if id is not None:
            raise InvalidArgument("only durable events have an id: durable=True")
        return transport.publish(channel, codec.dumps(payload))
    event = Request("", channel, payload)
    identify(event, id, payload)
    pass_on(event)  # its chain and trace; an event has no deadline
    return transport.send_event(event)


broadcast = Broadcast()
