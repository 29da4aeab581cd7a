"""Every exception of Daebus, with the stable code that represents it on the wire. Nothing else belongs here.

    DaebusError                       daebus_error
    ├── ConfigurationError            configuration     a setting or an argument cannot be used; stops the start
    │   ├── RegistrationError         registration      a handler cannot be registered (duplicate, async, bad name)
    │   ├── MissingComponent          missing_component routes without DaebusHttp, sockets without DaebusWebSocket
    │   ├── AddressInUse              address_in_use    a port is taken
    │   └── InvalidArgument           invalid_argument  an argument of a call cannot be used (also a ValueError)
    ├── OutsideHandler                outside_handler   `request`/`response` used where no message is being handled
    │                                                   (also an AttributeError)
    ├── HandlerAborted                handler_error     a handler raised a BaseException such as KeyboardInterrupt
    ├── BusError                      bus
    │   ├── BusUnavailable            bus_unavailable   no connection to the bus (also a ConnectionError)
    │   ├── BusRefused                bus_refused       the bus server answered with an error
    │   │   └── NotPermitted          not_permitted     the bus user lacks a permission (also a PermissionError)
    │   ├── MessageTooLarge           message_too_large (also a ValueError)
    │   │   └── ReplyTooLarge         message_too_large a handler's own reply
    │   ├── MalformedMessage          malformed_message (also a ValueError)
    │   ├── Overloaded                overloaded        too many messages wait for the service; it was not stored
    │   ├── UnknownService            unknown_service   nobody ever registered the service (also a LookupError)
    │   └── Unsupported               unsupported       the transport cannot do this (see `Transport.capabilities`)
    ├── CallTimeout                   timeout           no reply in time (also a TimeoutError)
    │   └── DeadlineExceeded          deadline_exceeded the time of the message being handled is over
    └── RemoteError                   <as sent>         the other side answered with an error

Codes that occur only in replies (a `RemoteError` carries them): `unknown_action`, `handler_error`, `no_reply`,
`overloaded`, `stopping`, `invalid_payload`, `deadline_exceeded` (over before the handler ran), `worker_died` (each
replica that began it died), `error` (the handler's own `response.error`).
"""

from __future__ import annotations

UNKNOWN_ACTION = "unknown_action"
HANDLER_ERROR = "handler_error"
NO_REPLY = "no_reply"
OVERLOADED = "overloaded"
STOPPING = "stopping"
INVALID_PAYLOAD = "invalid_payload"
DEADLINE_EXCEEDED = "deadline_exceeded"
WORKER_DIED = "worker_died"
MALFORMED = "malformed_message"
ERROR = "error"


class DaebusError(Exception):
    """Base of all errors of this package. `code` is stable across versions."""

    code = "daebus_error"


class ConfigurationError(DaebusError):
    """A setting or an argument cannot be used. The text names the setting, its value and the expected form."""

    code = "configuration"


class RegistrationError(ConfigurationError):
    """A handler cannot be registered. For a duplicate, the text names both places in the code."""

    code = "registration"


class MissingComponent(ConfigurationError, RuntimeError):
    """Routes or sockets are declared, but no component is attached that could serve them."""

    code = "missing_component"


class AddressInUse(ConfigurationError):
    """A port that the service must open is taken by another program."""

    code = "address_in_use"


class InvalidArgument(ConfigurationError, ValueError):
    """An argument of a call cannot be used."""

    code = "invalid_argument"


class IdReused(InvalidArgument):
    """An id was given before to a message with another content, for the same action or channel; it was not sent."""

    code = "id_reused"


class OutsideHandler(DaebusError, RuntimeError, AttributeError):
    """`request` or `response` was used where no message is being handled.

    It is also an AttributeError, so `hasattr(request, "payload")` is False there and `getattr` returns its default.
    """

    code = "outside_handler"


class HandlerAborted(DaebusError):
    """A handler raised a BaseException that is no Exception, such as KeyboardInterrupt. It is the `__cause__`."""

    code = HANDLER_ERROR


class BusError(DaebusError):
    """An operation on the bus failed."""

    code = "bus"


class BusUnavailable(BusError, ConnectionError):
    """No connection to the bus could be made within the time that the operation may wait."""

    code = "bus_unavailable"


class BusRefused(BusError):
    """The bus server answered with an error, such as "out of memory" or "unknown command". The text contains it."""

    code = "bus_refused"


class NotPermitted(BusRefused, PermissionError):
    """The server's access control list (ACL) forbids this to the user. The text names the missing permission."""

    code = "not_permitted"


class MessageTooLarge(BusError, ValueError):
    """An encoded message is above `DAEBUS_MESSAGE_LIMIT`; it was not sent."""

    code = "message_too_large"


class ReplyTooLarge(MessageTooLarge):
    """A handler's own reply is above `DAEBUS_MESSAGE_LIMIT`; it was not sent."""


class MalformedMessage(BusError, ValueError):
    """Bytes that are not a message: not JSON, not an object, or without an action.

    `reply_to` and `request_id` are kept if they could be read, so that the sender can get an error reply.
    """

    code = MALFORMED

    def __init__(self, text: str, *, reply_to: str | None = None, request_id: object = None) -> None:
        super().__init__(text)
        self.reply_to = reply_to
        self.request_id = request_id


class Unsupported(BusError):
    """The transport in use does not support this. Check `Transport.capabilities` beforehand."""

    code = "unsupported"


class Overloaded(BusError):
    """Too many messages wait for the service already; this one was not stored."""

    code = OVERLOADED


class UnknownService(BusError, LookupError):
    """A service that nobody ever registered on this bus, and on whose channel nobody listens."""

    code = "unknown_service"


class CallTimeout(DaebusError, TimeoutError):
    """No final reply came within the caller's timeout. The text names service, action and seconds."""

    code = "timeout"


class DeadlineExceeded(CallTimeout):
    """The deadline of the message being handled is over, so nothing more is called for it."""

    code = DEADLINE_EXCEEDED


class RemoteError(DaebusError):
    """The called service answered with an error.

    `str(error)` is the error text as the service sent it. `code` is its stable code (`error` if it sent none),
    `service` and `action` are those of the request, `payload` is the whole error payload.
    """

    code = ERROR

    def __init__(self, text: str, *, code: str, service: str, action: str | None, payload: object = None) -> None:
        super().__init__(text)
        self.code = code
        self.service = service
        self.action = action
        self.payload = payload
        self.add_note(f"answered by service {service!r}, action {action!r}, code {code!r}")
