"""Every exception of Daebus, each with the stable code that stands for it on the wire. Nothing else lives here.

    DaebusError                       daebus_error
    ├── ConfigurationError            configuration     a setting or an argument cannot be used; stops the start
    │   ├── RegistrationError         registration      a handler cannot be registered (duplicate, async, bad name)
    │   ├── MissingComponent          missing_component routes without DaebusHttp, sockets without DaebusWebSocket
    │   ├── AddressInUse              address_in_use    a port is taken
    │   └── InvalidArgument           invalid_argument  an argument of a call cannot be used (also a ValueError)
    ├── OutsideHandler                outside_handler   `request`/`response` used where no message is being handled
    │                                                   (also an AttributeError)
    ├── HandlerAborted                handler_error     a handler raised what is no Exception (KeyboardInterrupt, …)
    ├── BusError                      bus
    │   ├── BusUnavailable            bus_unavailable   no connection to the bus (also a ConnectionError)
    │   ├── BusRefused                bus_refused       the server of the bus answered with an error
    │   │   └── NotPermitted          not_permitted     this user of the bus lacks a right (also a PermissionError)
    │   ├── MessageTooLarge           message_too_large (also a ValueError)
    │   │   └── ReplyTooLarge         message_too_large a handler's own reply
    │   ├── MalformedMessage          malformed_message (also a ValueError)
    │   └── Unsupported               unsupported       the transport cannot do this (see `Transport.capabilities`)
    ├── CallTimeout                   timeout           no reply in time (also a TimeoutError)
    └── RemoteError                   <as sent>         the other side answered with an error

Codes that only travel in replies (a `RemoteError` carries them): `unknown_action`, `handler_error`, `no_reply`,
`overloaded`, `stopping`, `invalid_payload`, `error` (the handler's own `response.error`).
"""

from __future__ import annotations

UNKNOWN_ACTION = "unknown_action"
HANDLER_ERROR = "handler_error"
NO_REPLY = "no_reply"
OVERLOADED = "overloaded"
STOPPING = "stopping"
INVALID_PAYLOAD = "invalid_payload"
MALFORMED = "malformed_message"
ERROR = "error"


class DaebusError(Exception):
    """Base of all errors of this package. `code` is stable across versions."""

    code = "daebus_error"


class ConfigurationError(DaebusError):
    """A setting or an argument cannot be used. The text names it, the value and the expected form."""

    code = "configuration"


class RegistrationError(ConfigurationError):
    """A handler cannot be registered. The text names both places where there are two."""

    code = "registration"


class MissingComponent(ConfigurationError, RuntimeError):
    """Routes or sockets are declared, and nothing is attached that could serve them."""

    code = "missing_component"


class AddressInUse(ConfigurationError):
    """A port that the service must open is taken by another program."""

    code = "address_in_use"


class InvalidArgument(ConfigurationError, ValueError):
    """An argument of a call cannot be used."""

    code = "invalid_argument"


class OutsideHandler(DaebusError, RuntimeError, AttributeError):
    """`request` or `response` was used where no message is being handled.

    An AttributeError as well, so that `hasattr(request, "payload")` is False there and `getattr` gives its default.
    """

    code = "outside_handler"


class HandlerAborted(DaebusError):
    """A handler raised something that is no Exception, such as KeyboardInterrupt; that is the cause of this error."""

    code = HANDLER_ERROR


class BusError(DaebusError):
    """The bus could not do what it was asked for."""

    code = "bus"


class BusUnavailable(BusError, ConnectionError):
    """There was no connection to the bus for as long as the operation could wait."""

    code = "bus_unavailable"


class BusRefused(BusError):
    """The server of the bus answered with an error, which the text holds: out of memory, an unknown command."""

    code = "bus_refused"


class NotPermitted(BusRefused, PermissionError):
    """The server's rules (ACL) do not let this user do it; the text names the right that is missing."""

    code = "not_permitted"


class MessageTooLarge(BusError, ValueError):
    """An encoded message is above `DAEBUS_MESSAGE_LIMIT`; it was not sent."""

    code = "message_too_large"


class ReplyTooLarge(MessageTooLarge):
    """A handler's own reply is above `DAEBUS_MESSAGE_LIMIT`; it was not sent."""


class MalformedMessage(BusError, ValueError):
    """Bytes that are no message: no JSON, no object, or without an action.

    `reply_to` and `request_id` are kept where they could still be read, so that the sender can be told.
    """

    code = MALFORMED

    def __init__(self, text: str, *, reply_to: str | None = None, request_id: object = None) -> None:
        super().__init__(text)
        self.reply_to = reply_to
        self.request_id = request_id


class Unsupported(BusError):
    """The transport in use does not offer this; `Transport.capabilities` says so beforehand."""

    code = "unsupported"


class CallTimeout(DaebusError, TimeoutError):
    """No final reply within the caller's timeout. The text names service, action and seconds."""

    code = "timeout"


class RemoteError(DaebusError):
    """The called service answered with an error.

    `str(error)` is the error text as the service sent it; `code` is its stable code (`error` when it sent none),
    `service` and `action` say who was asked, `payload` is the whole error payload.
    """

    code = ERROR

    def __init__(self, text: str, *, code: str, service: str, action: str | None, payload: object = None) -> None:
        super().__init__(text)
        self.code = code
        self.service = service
        self.action = action
        self.payload = payload
        self.add_note(f"answered by service {service!r}, action {action!r}, code {code!r}")
