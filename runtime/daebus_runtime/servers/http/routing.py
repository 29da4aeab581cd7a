"""Adds declared routes to Falcon's router: templates, the methods of a path, and the call of a handler.

Of Falcon only the router is used. Its requests and responses would cost more than everything else here.

The fields of a template are named by their position, so that `/a/<x>` and `/a/<y>/b` can coexist. Each handler gets the
names that its author chose.
"""

from __future__ import annotations

import contextvars
import dataclasses
import functools
import re
import time
from collections.abc import Callable, Mapping
from typing import Any, cast

import falcon
from falcon.routing import CompiledRouter

from ...context import Context, call_in_context
from ...errors import RegistrationError
from ...registry import Route
from ...running import Running
from ...turn import gate
from ..report import FAULTS, TEXT, report
from . import bodies
from .answers import JSON, Answer, answer_of, as_json, checked
from .limit import TEXT as LATE
from .limit import Overdue, limited
from .requests import HttpRequest, HttpResponse, parse_query

ENCODED_SLASH = "\udc2f"
"""Replaces `%2F` in a path during routing. It cannot result from decoding UTF-8."""
Environ = Mapping[str, Any]
_PARAMETER = re.compile(r"<([^<>]*)>")
_LITERAL = re.compile(r"[^<>{}'\\\s\x00-\x1f\x7f]*").fullmatch


@dataclasses.dataclass(frozen=True)
class Template:
    """A path in Falcon's form, and the author's names for its fields: {field: name}."""

    text: str
    names: Mapping[str, str]


def template_of(route: Route) -> Template:
    """RegistrationError for a path that cannot be routed."""
    names: dict[str, str] = {}
    segments = []
    for place, segment in enumerate(route.path.split("/")):
        pieces = _PARAMETER.split(segment)
        literals, fields = pieces[::2], pieces[1::2]
        for name in fields:
            if not name.isidentifier() or name in names.values():
                raise _unroutable(route, f"a parameter is written <name>, and each has a name of its own: <{name}>")
        if not all(_LITERAL(literal) for literal in literals):
            raise _unroutable(route, f"{segment!r} holds white space, a quote, a backslash, < or a brace; write <name>")
        if "" in literals[1:-1]:
            raise _unroutable(route, f"{segment!r} has two parameters with nothing between them")
        out = literals[0]
        for number, (name, literal) in enumerate(zip(fields, literals[1:], strict=True)):
            field = f"f{place}_{number}"
            names[field] = name
            out += f"{{{field}}}{literal}"
        segments.append(out)
    return Template("/".join(segments), names)


def _unroutable(route: Route, why: str) -> RegistrationError:
    return RegistrationError(f"{route.title} at {route.where}: {why}")


class Resource:
    """The responders of one path."""

    def __init__(self) -> None:
        self.responders: dict[str, Responder] = {}

    def add(self, method: str, responder: Responder) -> None:
        other = self.responders.get(method)
        if other is not None:
            here, there = responder.route, other.route
            raise RegistrationError(
                f"{method} {here.path} is declared twice: at {there.where} (as {there.path}) and at {here.where}"
            )
        self.responders[method] = responder

    def finish(self) -> None:
        """Answer HEAD like GET; the server omits the body."""
        if "GET" in self.responders:
            self.responders.setdefault("HEAD", self.responders["GET"])

    def without_handler(self, method: str) -> Answer:
        """The answer to a method that has no handler: of OPTIONS the methods, else HTTPMethodNotAllowed."""
        methods = sorted(self.responders)
        if method != "OPTIONS":
            raise falcon.HTTPMethodNotAllowed([*methods, *(() if "OPTIONS" in methods else ("OPTIONS",))])
        return Answer(200, [("Content-Type", JSON), ("Allow", ", ".join(methods))])


class Routes:
    """The routes of a service. Call `finish` after the last `add`."""

    def __init__(self) -> None:
        self._router = CompiledRouter()
        self.resources: dict[str, Resource] = {}

    def add(self, running: Running, route: Route) -> None:
        """RegistrationError for a path that cannot be routed, or that has this method already."""
        template = template_of(route)
        resource = self.resources.setdefault(template.text, Resource())
        for method in route.methods:
            resource.add(method, Responder(running, route, method, template.names))

    def finish(self, to_serve: bool = True) -> None:
        """RegistrationError for paths that exclude each other."""
        for number, (text, resource) in enumerate(self.resources.items(), 1):
            resource.finish()
            try:
                # With the last route Falcon compiles its router; else the first request would hold the loop for it.
                self._router.add_route(text, resource, compile=to_serve and number == len(self.resources))
            except ValueError as error:
                route = next(iter(resource.responders.values())).route
                raise RegistrationError(f"{route.title} at {route.where}: {error}") from None

    def find(self, path: str) -> tuple[Resource, dict[str, str]]:
        """The resource of a decoded path, and the values of its fields. HTTPRouteNotFound."""
        # Falcon would treat two slashes at the beginning as one.
        found = None if path.startswith("//") else self._router.find(path)
        if found is None:
            raise falcon.HTTPRouteNotFound
        resource, fields = cast(Resource, found[0]), found[2]
        if "" in fields.values():
            raise falcon.HTTPRouteNotFound
        return resource, fields


class Responder:
    """Called for one method of one route: reads the request, runs the handler, makes the answer.

    The handler is known before the body is read, so `take` can pass it the whole body, or later let it read by itself.
    """

    def __init__(
        self, running: Running, route: Route, method: str, names: Mapping[str, str], take: bodies.Take = bodies.whole
    ) -> None:
        self.route, self._take = route, take
        self._running, self._settings, self._names = running, running.settings, names
        self._work = running.metrics.handler("http", f"{method} {route.path}")
        self._run: Callable[..., Any] | None = running.blocking.run if route.blocking else None
        seconds = running.settings.request_seconds if route.timeout is None else route.timeout
        self._result = limited(self._call, seconds) if seconds else self._call

    def __call__(self, environ: Environ, path: str, fields: dict[str, str]) -> Answer:
        params = {self._names[field]: value.replace(ENCODED_SLASH, "/") for field, value in fields.items()}
        content = self._take(environ["wsgi.input"], environ, self._settings.http_body_limit)
        try:
            query = parse_query(environ.get("QUERY_STRING", ""))
        except ValueError:
            raise bodies.bad("the query is not URL-encoded UTF-8, or has too many parameters") from None
        return self._answer(HttpRequest.received(environ, path, params, query, content))

    def _answer(self, request: HttpRequest) -> Answer:
        begun, failed = time.perf_counter(), False
        try:
            return answer_of(self._result(request))
        except falcon.HTTPError:
            raise
        except FAULTS as error:
            failed = True
            return self._fault(request, error)
        finally:
            self._work.done(time.perf_counter() - begun, failed)

    def _fault(self, request: HttpRequest, error: BaseException) -> Answer:
        status, text = (504, LATE) if isinstance(error, Overdue) else (500, TEXT)
        return as_json(status, report(self.route.title, error, self._settings.debug, request.request_id, text))

    def _call(self, request: HttpRequest) -> Any:
        response = HttpResponse()
        handler: Any = self.route.function
        if request.params:
            handler = functools.partial(handler, **request.params)
        # A new context for each call, because one connection brings many requests.
        context = Context(self._running.service, request, response)
        if self._run is None:
            gate().enter()
        try:
            result = contextvars.Context().run(call_in_context, context, handler, request, run=self._run)
        except falcon.HTTPError as error:
            checked(error.headers)
            raise
        return response.answer if result is None and response.answer is not None else result
