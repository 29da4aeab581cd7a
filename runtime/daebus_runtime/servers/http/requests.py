"""The HTTP request and response objects for handlers. Knows nothing of routing and the server."""

from __future__ import annotations

import dataclasses
import time
import urllib.parse
from collections.abc import Iterable, Mapping
from typing import Any

from ...context import trace
from ...envelope import Trail, progress_data
from .identity import REQUEST_ID, request_id


class Headers(dict[str, str]):
    """A dict of header fields whose names are case-insensitive. They are listed in the form `Content-Type`."""

    __hash__ = None

    def __init__(self, fields: Mapping[str, str] | Iterable[tuple[str, str]] = (), /, **more: str) -> None:
        super().__init__()
        self.update(fields, **more)

    def __getitem__(self, name: str) -> str:
        return super().__getitem__(_titled(name))

    def __setitem__(self, name: str, value: str) -> None:
        super().__setitem__(_titled(name), value)

    def __delitem__(self, name: str) -> None:
        super().__delitem__(_titled(name))

    def __contains__(self, name: object) -> bool:
        return super().__contains__(_titled(name))

    def get(self, name: str, default: Any = None) -> Any:
        return super().get(_titled(name), default)

    def pop(self, name: str, *default: Any) -> Any:
        return super().pop(_titled(name), *default)

    def setdefault(self, name: str, default: Any = None) -> Any:
        return super().setdefault(_titled(name), default)

    def update(self, fields: Any = (), /, **more: Any) -> None:
        for name, value in dict(fields, **more).items():
            self[name] = value

    def copy(self) -> Headers:
        return Headers(self)

    @classmethod
    def fromkeys(cls, names: Iterable[str], value: Any = None) -> Headers:  # type: ignore[override]
        return cls((name, value) for name in names)

    def __or__(self, other: Any) -> Headers:  # type: ignore[override]
        return NotImplemented if not isinstance(other, Mapping) else Headers([*self.items(), *other.items()])

    def __ror__(self, other: Any) -> Headers:  # type: ignore[override]
        return NotImplemented if not isinstance(other, Mapping) else Headers([*other.items(), *self.items()])

    def __ior__(self, other: Any) -> Headers:  # type: ignore[override]
        self.update(other)
        return self

    def __eq__(self, other: object) -> bool:
        return super().__eq__(Headers(other) if isinstance(other, Mapping) else other)

    def __ne__(self, other: object) -> bool:
        return not self == other

    @classmethod
    def of(cls, environ: Mapping[str, Any]) -> Headers:
        """The header fields of a WSGI request."""
        headers = cls()
        for key, value in environ.items():
            if key.startswith("HTTP_"):
                dict.__setitem__(headers, key[5:].replace("_", "-").title(), value)
            elif key in ("CONTENT_TYPE", "CONTENT_LENGTH") and value:
                dict.__setitem__(headers, key.replace("_", "-").title(), value)
        return headers


def _titled(name: Any) -> Any:
    return name.title() if isinstance(name, str) else name


def parse_query(text: str) -> dict[str, str]:
    """The query's parameters: the last value of a name counts, empty values are kept. ValueError if it is not UTF-8."""
    if not text:
        return {}
    return dict(urllib.parse.parse_qsl(text, keep_blank_values=True, errors="strict", max_num_fields=1000))


def parse_cookies(text: str | None) -> dict[str, str]:
    """The cookies of a `Cookie` header; malformed ones are left out."""
    cookies: dict[str, str] = {}
    for part in (text or "").split(";"):
        name, equals, value = part.strip().partition("=")
        if name and equals:
            cookies.setdefault(name, value.strip('"'))
    return cookies


@dataclasses.dataclass(frozen=True)
class Upload:
    """A file in a multipart form."""

    filename: str
    content_type: str
    data: bytes


@dataclasses.dataclass(frozen=True)
class Content:
    """The parsed body of a request. `body`: the bytes; `json`: the JSON value, None if it is not JSON; `form`: text
    fields; `files`: uploads by field."""

    body: bytes = b""
    json: Any = None
    form: dict[str, str] = dataclasses.field(default_factory=dict)
    files: dict[str, Upload] = dataclasses.field(default_factory=dict)
    payload: Any = dataclasses.field(default_factory=dict)


class HttpRequest:
    """An HTTP request.

    method; path (decoded, without the query); params: the path's parameters by name; query: parameters after `?`;
    headers: by name, case-insensitive; cookies; json, form, files, body: see `Content`; payload: the query for GET and
    HEAD, else the parsed body (`{}` without one); deadline: when its time limit ends (time.monotonic), or None; raw:
    everything as a dict. Created from such a dict, or from a received request.
    """

    __slots__ = (
        "_cookies",
        "_environ",
        "_headers",
        "_request_id",
        "body",
        "deadline",
        "files",
        "form",
        "json",
        "method",
        "params",
        "path",
        "payload",
        "query",
    )

    reply_to = None
    service = "http"

    def __init__(self, raw_request: Mapping[str, Any]) -> None:
        self.method: str = str(raw_request.get("method") or "GET").upper()
        self.path: str = raw_request.get("path") or "/"
        self.params: dict[str, str] = dict(raw_request.get("params") or {})
        self.query: dict[str, str] = dict(raw_request.get("query") or {})
        self.json: Any = raw_request.get("json")
        self.form: dict[str, str] = dict(raw_request.get("form") or {})
        self.files: dict[str, Upload] = dict(raw_request.get("files") or {})
        self.body: bytes = raw_request.get("body") or b""
        self._headers: Headers | None = Headers(raw_request.get("headers") or {})
        self._environ: Mapping[str, Any] = {}
        self._cookies: dict[str, str] | None = None
        self._request_id: str | None = None
        self.deadline: float | None = None
        content = self.form if self.json is None else self.json
        self.payload: Any = self.query if self.method in ("GET", "HEAD") else content

    @classmethod
    def received(
        cls,
        environ: Mapping[str, Any],
        path: str,
        params: dict[str, str],
        query: dict[str, str],
        content: Content | None,
    ) -> HttpRequest:
        """From a request that the server received. Headers and cookies are parsed at their first use."""
        request = cls.__new__(cls)
        request.method, request.path, request.params, request.query = environ["REQUEST_METHOD"], path, params, query
        if content is None:
            request.json, request.form, request.files, request.body, payload = None, {}, {}, b"", {}
        else:
            request.json, request.form, request.files, request.body, payload = (
                *(content.json, content.form, content.files),
                *(content.body, content.payload),
            )
        request.payload = query if request.method in ("GET", "HEAD") else payload
        request._environ = environ
        request._headers = request._cookies = request.deadline = None
        request._request_id = environ.get(REQUEST_ID)
        return request

    @property
    def headers(self) -> Headers:
        if self._headers is None:
            self._headers = Headers.of(self._environ)
        return self._headers

    @property
    def remote_address(self) -> tuple[str, int]:
        """(address, port) of the client; of a client behind trusted proxies as they say it: an empty address if they
        hide it, port 0 if they do not know it."""
        return self._environ.get("REMOTE_ADDR", ""), int(self._environ.get("REMOTE_PORT") or 0)

    @property
    def secure(self) -> bool:
        """Whether the client came by HTTPS, to this service or to a trusted proxy."""
        return self._environ.get("wsgi.url_scheme") == "https"

    @property
    def host(self) -> str:
        """The host that the client asked for, with the port if that is not the usual one; empty without one."""
        return str(self._environ.get("HTTP_HOST", ""))

    @property
    def prefix(self) -> str:
        """What a trusted proxy has removed from the beginning of the path, decoded: `/shop`; empty without one."""
        return str(self._environ.get("SCRIPT_NAME", "")).encode("latin-1").decode("utf-8", "replace")

    @property
    def cookies(self) -> dict[str, str]:
        if self._cookies is None:
            self._cookies = parse_cookies(self.headers.get("Cookie"))
        return self._cookies

    @property
    def request_id(self) -> str:
        """As the client sent it in `X-Request-ID`, else generated; it is in the log and in the answer."""
        if self._request_id is None:
            self._request_id = request_id(self.headers.get("X-Request-ID"))
        return self._request_id

    @property
    def traceparent(self) -> str | None:
        value: str | None = self.headers.get("traceparent")
        return value

    @property
    def tracestate(self) -> str | None:
        value: str | None = self.headers.get("tracestate")
        return value

    @property
    def trail(self) -> Trail:
        """Where the request comes from, and until when it must be answered."""
        return Trail(
            self.deadline, correlation=self.request_id, traceparent=self.traceparent, tracestate=self.tracestate
        )

    @property
    def seconds_left(self) -> float | None:
        """What is left of the handler's time limit, at least 0; None without one."""
        return None if self.deadline is None else max(0.0, self.deadline - time.monotonic())

    @property
    def onward_headers(self) -> dict[str, str]:
        """Header fields for HTTP requests that the handler sends to others: the request id, and the trace if the client
        sent one."""
        fields = {"X-Request-ID": self.request_id}
        traceparent = trace.onward(self.traceparent)
        if traceparent is not None:
            fields["traceparent"] = traceparent
            tracestate = trace.state(self.tracestate)
            if tracestate is not None:
                fields["tracestate"] = tracestate
        return fields

    @property
    def raw(self) -> dict[str, Any]:
        names = ("method", "path", "params", "query", "headers", "cookies", "json", "form")
        return {name: getattr(self, name) for name in names}

    def __repr__(self) -> str:
        return f"<HttpRequest {self.method} {self.path}>"


class HttpResponse:
    """How an HTTP handler answers. Each method returns (data, status[, headers]), which a handler may also return.

    If a handler calls these methods and returns nothing, the last call is the answer.
    """

    __slots__ = ("answer",)

    def __init__(self, http_handler: object = None) -> None:
        self.answer: tuple[Any, ...] | None = None

    def send(
        self, data: Any = None, status: int = 200, headers: Mapping[str, str] | None = None, *, status_code: Any = None
    ) -> tuple[Any, ...]:
        """Answer with data (anything codec.py encodes), a status and header fields. ValueError for a bad status."""
        code = status if status_code is None else status_code
        if isinstance(code, bool) or not isinstance(code, int) or not 200 <= code <= 599:
            raise ValueError(f"an HTTP status is a number from 200 to 599, not {code!r}")
        self.answer = (data, code) if headers is None else (data, code, headers)
        return self.answer

    success = send

    def error(
        self, err: Any, status: int = 400, headers: Mapping[str, str] | None = None, *, status_code: Any = None
    ) -> tuple[Any, ...]:
        """Answer with `{"status": "error", "error": <text of err>}`."""
        return self.send({"status": "error", "error": str(err)}, status, headers, status_code=status_code)

    def progress(
        self, payload: Any, percentage: float | None = None, *, progress_percentage: float | None = None
    ) -> tuple[Any, ...]:
        """HTTP has only one answer, so this is `send` with the percentage in the data."""
        return self.send(progress_data(payload, percentage if progress_percentage is None else progress_percentage))

    def set_status(self, status_code: int) -> HttpResponse:
        """Answer with this status and the data sent so far, else null; returns the response itself."""
        self.send(None if self.answer is None else self.answer[0], status_code)
        return self

    def get_response(self) -> tuple[Any, int]:
        """(data, status) of the current answer; null and 200 before anything was sent."""
        return (None, 200) if self.answer is None else (self.answer[0], self.answer[1])
