"""Adds declared routes to Falcon's router: templates, the methods of a path, and the call of a handler.

The fields of a template are named by their position, so that `/a/<x>` and `/a/<y>/b` can coexist. Each handler gets the
names that its author chose.
"""

from __future__ import annotations

import contextvars
import dataclasses
import functools
import re
import time
from collections.abc import Iterable, Mapping
from typing import Any

import falcon

from ... import codec
from ...context import Context, call_in_context
from ...errors import RegistrationError
from ...registry import Route
from ...running import Running
from ...turn import gate
from ..report import FAULTS, TEXT, report
from . import bodies
from .limit import TEXT as LATE
from .limit import Overdue, limited
from .requests import HttpRequest, HttpResponse, parse_query

ENCODED_SLASH = "\udc2f"
"""Replaces `%2F` in a path during routing. It cannot result from decoding UTF-8."""
JSON = "application/json"
OWN_FIELDS = frozenset(("connection", "content-length", "transfer-encoding"))
_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+").fullmatch
_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*").fullmatch
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
    """The responders of one path, as `on_<method>` for Falcon."""

    def __init__(self) -> None:
        self.routes: dict[str, Route] = {}

    def add(self, method: str, responder: Responder) -> None:
        other = self.routes.get(method)
        if other is not None:
            route = responder.route
            raise RegistrationError(
                f"{method} {route.path} is declared twice: at {other.where} (as {other.path}) and at {route.where}"
            )
        self.routes[method] = responder.route
        setattr(self, f"on_{method.lower()}", responder)

    def finish(self) -> None:
        """Answer HEAD like GET; the server omits the body."""
        if "GET" in self.routes and "HEAD" not in self.routes:
            self.routes["HEAD"] = self.routes["GET"]
            self.on_head = self.on_get  # type: ignore[attr-defined]


class Responder:
    """Called by Falcon for one method of one route: reads the request, runs the handler, writes the answer.

    The handler is known before the body is read, so `take` can pass it the whole body, or later let it read by itself.
    """

    def __init__(
        self, running: Running, route: Route, method: str, names: Mapping[str, str], take: bodies.Take = bodies.whole
    ) -> None:
        self.route, self._take = route, take
        self._running, self._settings, self._names = running, running.settings, names
        self._work = running.metrics.handler("http", f"{method} {route.path}")
        seconds = running.settings.request_seconds if route.timeout is None else route.timeout
        self._answer = limited(self._call, seconds) if seconds else self._call

    def __call__(self, req: falcon.Request, resp: falcon.Response, **fields: str) -> None:
        params = {self._names[field]: value.replace(ENCODED_SLASH, "/") for field, value in fields.items()}
        if "" in params.values():
            raise falcon.HTTPRouteNotFound
        content = self._take(req.env["wsgi.input"], req.env, self._settings.http_body_limit)
        try:
            query = parse_query(req.query_string)
        except ValueError:
            raise bodies.bad("the query is not URL-encoded UTF-8, or has too many parameters") from None
        path = req.path.replace(ENCODED_SLASH, "%2F")
        self._run(HttpRequest.received(req.env, path, params, query, content), resp)

    def _run(self, request: HttpRequest, resp: falcon.Response) -> None:
        begun, failed = time.perf_counter(), False
        try:
            write(resp, self._answer(request))
        except falcon.HTTPError:
            raise
        except FAULTS as error:
            failed = True
            clear(resp)
            write(resp, self._fault(request, error))
        finally:
            self._work.done(time.perf_counter() - begun, failed)

    def _fault(self, request: HttpRequest, error: BaseException) -> tuple[Any, int]:
        status, text = (504, LATE) if isinstance(error, Overdue) else (500, TEXT)
        return report(self.route.title, error, self._settings.debug, request.request_id, text), status

    def _call(self, request: HttpRequest) -> Any:
        response = HttpResponse()
        run = self._running.blocking.run if self.route.blocking else None
        handler = functools.partial(self.route.function, request, **request.params)
        # A new context for each call, because one connection brings many requests.
        context = Context(self._running.service, request, response)
        if run is None:
            gate().enter()
        try:
            result = contextvars.Context().run(call_in_context, context, handler, run=run)
        except falcon.HTTPError as error:
            checked(error.headers)
            raise
        return response.answer if result is None and response.answer is not None else result


def clear(resp: falcon.Response) -> None:
    """Discard everything written so far."""
    for name in list(resp.headers):
        resp.delete_header(name)


def write(resp: falcon.Response, result: Any) -> None:
    """Write a handler's result: data, (data, status) or (data, status, headers); None becomes JSON's null.

    TypeError for data without a JSON form, ValueError for a header that cannot be sent; then nothing is written.
    """
    data, status, headers = _taken_apart(result)
    fields = checked(headers)
    kind = next((value for name, value in reversed(fields) if name.lower() == "content-type"), JSON)
    with_body = status not in (204, 205, 304)
    if with_body:
        if isinstance(data, (str, bytes)) and not kind.partition(";")[0].strip().lower().endswith("json"):
            resp.data = data.encode() if isinstance(data, str) else data
        else:
            resp.data = codec.dumps(data)
        resp.content_type = kind
    resp.status = status
    add(resp, fields)


def _taken_apart(result: Any) -> tuple[Any, int, Any]:
    if isinstance(result, tuple) and len(result) in (2, 3):
        status = result[1]
        if isinstance(status, int) and not isinstance(status, bool) and 200 <= status <= 599:
            return result[0], int(status), result[2] if len(result) == 3 else None
    return result, 200, None


def _pairs(headers: Any) -> Iterable[tuple[str, str]]:
    """The header fields of a dict (a list as value means several fields) or of pairs."""
    items = headers.items() if isinstance(headers, Mapping) else headers or ()
    for name, value in items:
        for one in value if isinstance(value, (list, tuple)) else (value,):
            yield _text(name, str), _text(one, object)


def _text(part: Any, kind: type) -> str:
    """A name or a value as text. Bytes are decoded. None and containers are refused: their str() is never intended."""
    if isinstance(part, (bytes, bytearray)):
        return part.decode("latin-1")
    if part is None or isinstance(part, (Mapping, list, tuple, set, frozenset)) or not isinstance(part, kind):
        raise ValueError(f"a header field is made of text, not of {part!r}")
    return str(part)


def checked(headers: Any) -> list[tuple[str, str]]:
    """A handler's header fields as pairs. ValueError for one that cannot be sent, or that only the server may set."""
    if not headers:
        return []
    fields = list(_pairs(headers))
    for name, value in fields:
        if not _TOKEN(name):
            raise ValueError(f"{name!r} is not a valid name of a header field")
        if name.lower() in OWN_FIELDS:
            raise ValueError(f"the header field {name!r} is the server's own")
        if not _VALUE(value):
            raise ValueError(
                f"the header field {name!r} contains a line break or a character outside Latin-1: {value!r}"
            )
    return fields


def add(resp: falcon.Response, fields: Iterable[tuple[str, str]]) -> None:
    """Set header fields; a repeated name adds a value. The server sets the id of the request itself."""
    for name, value in fields:
        lower = name.lower()
        if lower == "x-request-id":
            continue
        if lower == "content-type":
            continue  # it is set together with the body
        if lower == "set-cookie" or resp.get_header(name) is not None:
            resp.append_header(name, value)
        else:
            resp.set_header(name, value)
