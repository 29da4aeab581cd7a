"""The JSON protocol of WebSockets: handles the handshake, the messages and the end of each client.

    outcome = sessions.accept(Handshake(...))        runs the socket_connect hooks; a Session or a Refusal
    outcome.serve(socket)                            blocks, in its own greenlet, until the socket has ended
    outcome.end()                                    instead, if there is no socket after all

`socket` is an `endpoint.Socket`: a real connection, or one for tests. Each client has its own greenlet, which handles
its messages one after the other, so a slow handler delays only that client.
"""

from __future__ import annotations

import contextvars
import functools
import itertools
import math
import time
import uuid
from collections.abc import Callable
from typing import Any

import gevent
from gevent.event import Event

from ... import codec
from ...context import Context, call_in_context
from ...logs import runtime_logger
from ...metrics import Work
from ...registry import Declared, SocketHook
from ...registry import Socket as Handler
from ...running import Running
from ...settings import Settings
from ...turn import gate
from ..report import FAULTS, report
from . import frames
from .clients import Client, RateLimit
from .endpoint import Handshake, Refusal, Socket, Terms
from .frames import Frame
from .messages import WebSocketRequest, WebSocketResponse, as_message

REPLACE_SECONDS = 1.0
"""How long a client that reconnects waits for the disconnect hooks of its old connection before its own hooks run."""
SHARE = 0.8
"""The part of all connections that may be WebSockets; the rest is reserved for HTTP, including health checks."""
REPLACED = 4001, "replaced by a newer connection of the same client"
SHOWN = 100  # characters of a client's text in an answer


class Sessions:
    """The endpoint of the JSON protocol: all its clients, and the application's handlers and hooks for them."""

    def __init__(self) -> None:
        self.running: Running
        self.terms: Terms
        self.open: dict[str, Session] = {}
        self.opening: dict[str, Session] = {}
        self.count = 0
        self.numbers = itertools.count()
        self.closed = False
        self.limit: RateLimit | None = None
        self.make_id: Callable[[Any, str], Any] | None = None
        self.handlers: dict[str, tuple[Handler, Work]] = {}
        self.hooks: dict[str, list[SocketHook]] = {}

    def start(self, running: Running) -> None:
        """Called when the service starts: collect the declared handlers and hooks."""
        self.running = running
        self.gate = gate()
        self.terms = Terms(running.settings.websocket_message_limit, running.metrics.drop)
        declared = running.registry.all(Handler)
        self.handlers = {item.type: (item, running.metrics.handler("websocket", item.type)) for item in declared}
        self.hooks = {}
        for hook in running.registry.all(SocketHook):
            self.hooks.setdefault(hook.event, []).append(hook)

    @property
    def settings(self) -> Settings:
        return self.running.settings

    @property
    def stopping(self) -> bool:
        return self.closed or self.running.draining()

    def name(self, handshake: Handshake, path: str) -> str:
        """The id of a new client; raises what the author's generator raises."""
        named = self.make_id(handshake, path) if self.make_id is not None else None
        return str(named or f"user_{uuid.uuid4()}")

    def accept(self, handshake: Handshake) -> Session | Refusal:
        """Decide on a handshake, before the upgrade. An accepted session must be served or ended."""
        if self.stopping:
            return Refusal(503, {"error": "the service is stopping"})
        if self.count >= self.settings.connection_limit * SHARE:
            self.running.metrics.drop("websocket_limit")
            return Refusal(503, {"error": "too many connections"})
        try:
            client_id = self.name(handshake, handshake.path)
        except FAULTS as error:
            return Refusal(500, report("the client id generator", error, self.settings.debug))
        session = Session(self, Client(client_id, handshake))
        refusal = session.connect()
        return refusal or session


class Session:
    """One client, from its handshake to its end."""

    def __init__(self, sessions: Sessions, client: Client) -> None:
        self.client = client
        self.number = next(sessions.numbers)
        """Number of the handshake: of two sessions with the same id, the one with the higher number is newer."""
        self._sessions = sessions
        self._ended = False
        self._was_open = False
        self._gone = Event()
        sessions.count += 1
        sessions.opening[client.id] = self

    @property
    def terms(self) -> Terms:
        return self._sessions.terms

    # --- its life -------------------------------------------------------------------------------------------------
    def connect(self) -> Refusal | None:
        """Run the socket_connect hooks. The first that returns False or fails refuses the client. Other results are
        sent as soon as the client is open."""
        try:
            for hook in self._hooks("connect"):
                result = self._call(hook, self._request("connect"), None, as_message({}, "connect", self.client.id))
                if result is False:
                    self._forget()
                    return Refusal(403, {"error": "Forbidden"})
                if result is not None and result is not True:
                    self.client.send(result)
        except FAULTS as error:
            self._forget()
            return Refusal(500, report("socket_connect", error, self._sessions.settings.debug))
        except BaseException:  # the connection was cut meanwhile
            self._forget()
            raise
        return None

    def serve(self, socket: Socket) -> None:
        """Handle the client's messages until the client or the service ends the connection."""
        client = self.client
        try:
            client.busy = True
            self._open(socket)
            client.busy = False
            while (message := client.receive()) is not None:
                client.busy = True
                self._handle(message)
                client.busy = False
        finally:
            socket.close(*(client.closing or (frames.NORMAL, "")))
            self.end()

    def end(self) -> None:
        """The client is gone: run the disconnect hooks once. Returns when they have run, also if another greenlet runs
        them."""
        if self._ended:
            self._gone.wait()
            return
        self._forget()
        try:
            for hook in self._hooks("disconnect"):
                self._run_hook(hook, "disconnect")
            for hook in self._hooks("on_disconnect") if self._was_open else ():
                self._run_hook(hook, None)
        finally:
            self._gone.set()

    def _open(self, socket: Socket) -> None:
        if not self._take_place(socket):
            return
        for hook in self._hooks("on_connect"):
            self._run_hook(hook, None)
        for hook in self._hooks("register"):
            self._run_hook(hook, "register")

    def _take_place(self, socket: Socket) -> bool:
        """Become the current client with this id. False if there is a newer one already; then no hook may run."""
        sessions, client = self._sessions, self.client
        older = sessions.open.get(client.id)
        if sessions.opening.get(client.id) is self:
            del sessions.opening[client.id]
        if older is not None and older.number > self.number:
            client.close(*REPLACED)
            return False
        # Before anything that may switch greenlets, so that no other session can come in between.
        sessions.open[client.id] = self
        self._was_open = True
        client.open(socket)
        if sessions.stopping:
            client.close_when_idle(frames.GOING_AWAY, "the service is stopping")
        if older is not None:
            # If the network lost a connection silently, the old one is still open when the client reconnects.
            older.client.close(*REPLACED)
            gevent.spawn(older.end)
            older._gone.wait(REPLACE_SECONDS)
        return not self._ended

    def _forget(self) -> None:
        if self._ended:
            return
        self._ended = True
        self._sessions.count -= 1
        for known in (self._sessions.open, self._sessions.opening):
            if known.get(self.client.id) is self:
                del known[self.client.id]

    # --- one message ----------------------------------------------------------------------------------------------
    def _handle(self, message: str | bytes) -> None:
        limit = self._sessions.limit
        if limit is not None and (wait := self.client.wait_seconds(limit)):
            self._refuse("Rate limit exceeded", {"retry_after": math.ceil(wait)})
            return
        try:
            value = codec.loads(message)
        except ValueError:
            self._refuse("Invalid JSON", {})
            return
        value = value if isinstance(value, dict) else {}
        fields = {"id": value["id"]} if "id" in value else {}
        kind = value.get("type")
        if kind is None or kind == "":
            self._refuse("No message type provided", fields)
        elif isinstance(kind, str) and kind in self._sessions.handlers:
            declared, work = self._sessions.handlers[kind]
            begun = time.perf_counter()
            fine = self._answer(declared, kind, value, fields)
            work.done(time.perf_counter() - begun, not fine)
        elif kind == "register" and self._hooks("register"):
            for hook in self._hooks("register"):
                self._answer(hook, kind, value, fields)
        else:
            self._refuse(f"No handler found for message type '{str(kind)[:SHOWN]}'", fields)

    def _refuse(self, error: str, fields: dict[str, Any]) -> None:
        self.client.send_frame(Frame(frames.TEXT, codec.dumps({"type": "error", "error": error, **fields})))

    def _answer(self, declared: Declared, kind: str, value: dict[str, Any], fields: dict[str, Any]) -> bool:
        """Run a handler and send its result; False if it failed."""
        request = WebSocketRequest(self.client.id, value, self.client)
        response = WebSocketResponse(self.client, self.client.id, **fields)
        try:
            result = self._call(declared, request, response, as_message(request.data, kind, self.client.id))
            if result is not None:
                response.send(result)
        except FAULTS as error:
            response.send(report(declared.title, error, self._sessions.settings.debug), "error")
            return False
        return True

    # --- calling the author's functions ---------------------------------------------------------------------------
    def _hooks(self, kind: str) -> list[SocketHook]:
        return self._sessions.hooks.get(kind, [])

    def _request(self, kind: str) -> WebSocketRequest:
        return WebSocketRequest(self.client.id, {"type": kind, "data": {}}, self.client)

    def _run_hook(self, hook: SocketHook, kind: str | None) -> None:
        """Run a hook; failures are logged. kind: its message type; on_connect and on_disconnect get the id only."""
        response = WebSocketResponse(self.client, self.client.id)
        try:
            if kind is None:
                self._call(hook, self._request(hook.event), response)
                return
            result = self._call(hook, self._request(kind), response, as_message({}, kind, self.client.id))
            if result is not None and not self._ended:
                response.send(result)
        except FAULTS:
            runtime_logger.exception("%s at %s failed", hook.title, hook.where)

    def _call(self, declared: Declared, request: Any, response: Any, *data: Any) -> Any:
        # A new context for each call, so that the next handler does not see context variables of this one.
        running = self._sessions.running
        run = running.blocking.run if getattr(declared, "blocking", False) else None
        handler = functools.partial(declared.function, *data, self.client.id)
        if run is None:
            self._sessions.gate.enter()
        return contextvars.Context().run(call_in_context, Context(running.service, request, response), handler, run=run)
