"""`broadcast`: publishes on the bus of the service whose message is being handled, else of this process's service."""

from __future__ import annotations

from typing import Any

from .. import codec, keys
from ..transport import Transport
from . import get_daemon


class Broadcast:
    """Publishes on the bus the service runs on."""

    def send(self, channel: str, payload: dict[str, Any]) -> int:
        """Publish a JSON object; returns the number of receivers that the server reports.

        ValueError for a bad channel name, TypeError for a payload that is not a dict or has no JSON form,
        MessageTooLarge above `DAEBUS_MESSAGE_LIMIT`, BusUnavailable without a connection for `DAEBUS_SEND_SECONDS`.
        """
        return publish_object(get_daemon().transport, channel, payload)


def publish_object(transport: Transport, channel: str, payload: Any) -> int:
    """Publish `payload`, which must be a dict, as JSON. Errors as in Broadcast.send."""
    keys.check_channel(channel)
    if not isinstance(payload, dict):
        raise TypeError(f"a broadcast's payload is a dict, not {type(payload).__name__}")
    return transport.publish(channel, codec.dumps(payload))


broadcast = Broadcast()
