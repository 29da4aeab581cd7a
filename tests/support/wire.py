"""The wire as other programs see it: raw Redis messages (wire.md, section 1), raw WebSocket frames (section 4)."""

from __future__ import annotations

import json
import struct
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import redis
import websocket

from .closing import Closing
from .waiting import wait_until

JSON = Any
ABSENT: Any = object()
"""Stands for a field that is left out of the message; None would send null."""


class Listener(Closing):
    """A plain subscription to channels; a name with `*` is a pattern. Ready when the constructor returns."""

    def __init__(self, client: redis.Redis, *channels: str) -> None:
        self._pubsub = client.pubsub()  # type: ignore[no-untyped-call]
        self.received: list[tuple[str, JSON]] = []
        """(channel, message) in the order of arrival; a message that is not JSON stays text."""
        patterns = [name for name in channels if "*" in name]
        plain = [name for name in channels if "*" not in name]
        if plain:
            self._pubsub.subscribe(*plain)
        if patterns:
            self._pubsub.psubscribe(*patterns)
        confirmed = 0
        while confirmed < len(channels):
            message = self._pubsub.get_message(timeout=5)
            assert message is not None, f"no confirmation of a subscription to {channels}"
            confirmed += message["type"] in ("subscribe", "psubscribe")

    @property
    def messages(self) -> list[JSON]:
        """The messages without their channels, including those that have not been read yet."""
        self.poll()
        return [message for _, message in self.received]

    def poll(self, timeout: float = 0.0) -> None:
        """Reads all that has arrived; waits up to `timeout` seconds for the first message."""
        while (message := self._pubsub.get_message(ignore_subscribe_messages=True, timeout=timeout)) is not None:
            timeout = 0.0
            data = message["data"]
            with suppress(ValueError):
                data = json.loads(data)
            self.received.append((message["channel"], data))

    def wait_for(self, count: int = 1, timeout: float = 5.0) -> list[JSON]:
        """Waits for at least `count` messages and returns all; fails when fewer arrive in time."""
        wait_until(lambda: len(self.messages) >= count, timeout, lambda: f"{count} messages, got {self.received}")
        return self.messages

    def wait_where(self, condition: Callable[[JSON], object], timeout: float = 5.0) -> JSON:
        """Waits for a message that fulfils the condition; the first such message."""
        found = wait_until(
            lambda: [message for message in self.messages if condition(message)],
            timeout,
            lambda: f"a certain message among {self.received}",
        )
        return found[0]

    def close(self) -> None:
        self._pubsub.close()


def publish(client: redis.Redis, channel: str, message: JSON) -> int:
    """Publishes a message, text and bytes unchanged, anything else as JSON. Returns the number of receivers."""
    data = message if isinstance(message, str | bytes) else json.dumps(message)
    count: int = client.publish(channel, data)
    return count


def subscribers(client: redis.Redis, channel: str) -> int:
    """How many connections are subscribed to a channel."""
    (_, count), *_ = client.pubsub_numsub(channel)
    return int(count)


def wait_for_subscriber(client: redis.Redis, channel: str, count: int = 1, timeout: float = 15.0) -> None:
    """Returns once exactly `count` connections are subscribed to the channel."""
    wait_until(
        lambda: subscribers(client, channel) == count,
        timeout,
        lambda: f"{count} subscribers of {channel!r}, there are {subscribers(client, channel)}",
    )


def request(
    client: redis.Redis,
    service: str,
    action: JSON = ABSENT,
    payload: JSON = ABSENT,
    *,
    request_id: JSON = None,
    timeout: float = 5.0,
    **fields: JSON,
) -> list[JSON]:
    """Sends one request as the original caller does, and returns its replies, the final one last.

    Without `action` or `payload` the message has no such field; `fields` are added at the top level. Fails when no
    final reply comes in time.
    """
    inbox = f"caller:{uuid.uuid4()}"
    identity = str(uuid.uuid4()) if request_id is None else request_id
    message = {
        "action": action,
        "payload": payload,
        "reply_to": inbox,
        "request_id": identity,
        "service": service,
        **fields,
    }
    with Listener(client, inbox) as replies:
        publish(client, service, {key: value for key, value in message.items() if value is not ABSENT})
        replies.wait_where(lambda reply: reply.get("final", True), timeout)
        return [reply for reply in replies.messages if reply.get("request_id") == identity]


class WebSocketClient(Closing):
    """One WebSocket connection: JSON or raw frames, and the close code and reason."""

    def __init__(
        self,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        subprotocols: Sequence[str] = (),
        timeout: float = 5.0,
    ) -> None:
        """Raises `websocket.WebSocketBadStatusException` when the upgrade is refused."""
        self._timeout = timeout
        self._socket = websocket.create_connection(
            url, timeout=timeout, header=dict(headers or {}), subprotocols=list(subprotocols) or None
        )
        self.closed: tuple[int | None, str] | None = None
        """(code, reason) of the peer's close frame, (None, "") when the connection was lost without one."""

    def send(self, message: JSON) -> None:
        """Sends a text frame: text unchanged, anything else as JSON."""
        self._socket.send(message if isinstance(message, str) else json.dumps(message))

    def send_bytes(self, data: bytes) -> None:
        self._socket.send_binary(data)

    def ping(self, data: str = "") -> None:
        self._socket.ping(data)

    def receive_raw(self, timeout: float | None = None) -> str | bytes | None:
        """The next data message, str or bytes; None when the peer has closed (`closed`). Fails after the timeout."""
        deadline = time.monotonic() + (self._timeout if timeout is None else timeout)
        while True:
            self._socket.settimeout(max(0.001, deadline - time.monotonic()))
            try:
                kind, data = self._socket.recv_data(control_frame=True)
            except websocket.WebSocketTimeoutException:
                raise AssertionError("no WebSocket message in time") from None
            except (websocket.WebSocketException, OSError):
                self.closed = self.closed or (None, "")
                return None
            if kind == websocket.ABNF.OPCODE_TEXT:
                return str(data, "utf-8")
            if kind == websocket.ABNF.OPCODE_BINARY:
                return bytes(data)
            if kind == websocket.ABNF.OPCODE_CLOSE:
                code = struct.unpack("!H", data[:2])[0] if len(data) >= 2 else None
                self.closed = (code, str(data[2:], "utf-8"))
                return None

    def receive(self, timeout: float | None = None) -> JSON:
        """The next message as JSON; fails when the connection ends instead."""
        raw = self.receive_raw(timeout)
        assert raw is not None, f"the WebSocket was closed: {self.closed}"
        return json.loads(raw)

    def ask(self, kind: str, data: JSON = ABSENT, timeout: float | None = None, **fields: JSON) -> JSON:
        """Sends `{"type": kind, "data": data}` and returns the next message."""
        message = {"type": kind, "data": data, **fields}
        self.send({key: value for key, value in message.items() if value is not ABSENT})
        return self.receive(timeout)

    def wait_closed(self, timeout: float = 5.0) -> tuple[int | None, str]:
        """Waits until the peer has closed; (code, reason). Messages before that are dropped."""
        deadline = time.monotonic() + timeout
        while self.closed is None:
            self.receive_raw(max(0.001, deadline - time.monotonic()))
        return self.closed

    def close(self, code: int = 1000, reason: str = "") -> None:
        """Sends a close frame and waits briefly for the answer."""
        with suppress(websocket.WebSocketException, OSError):
            self._socket.close(status=code, reason=reason.encode(), timeout=2)
        # The library does not close the socket when the peer ended the connection.
        self.drop()

    def drop(self) -> None:
        """Closes the TCP connection without a close frame."""
        self._socket.shutdown()  # type: ignore[no-untyped-call]
