"""A request's body: reads it within a limit and parses it into values. Knows nothing of handlers."""

from __future__ import annotations

import io
import urllib.parse
from collections.abc import Callable, Mapping
from typing import Any

import falcon
from falcon.media import MultipartFormHandler
from falcon.media.multipart import MultipartParseOptions

from ... import codec
from ...turn import Share
from .framing import BrokenBody
from .requests import Content, Upload

CHUNK = 65_536
PIECE = 4096  # bytes of a form that are decoded before other greenlets may run
MOST_FIELDS = 1000
"""Limit for the fields of a form and the parts of a multipart body, the same as for a query (requests.py)."""
_PLUS_IS_SPACE = bytes.maketrans(b"+", b" ")

Environ = Mapping[str, Any]
Take = Callable[[Any, Environ, int], Content | None]
"""How a handler gets its body. Arguments: the reader, with nothing read yet; the WSGI environ; the limit in bytes. None
if there is no body."""


def whole(reader: Any, environ: Environ, limit: int) -> Content | None:
    """Read and parse the whole body before the handler runs. Raises what `read` and `parse` raise."""
    body = read(reader, environ, limit)
    return parse(body, environ.get("CONTENT_TYPE"), limit) if body else None


def read(reader: Any, environ: Environ, limit: int) -> bytes:
    """The bytes of the body. HTTPContentTooLarge above `limit` (before reading, if there is a Content-Length);
    HTTPError 400 if it is malformed or ends early, 408 if it takes too long. All of these close the connection, because
    the start of the next request is then unknown."""
    length = environ.get("CONTENT_LENGTH")
    if length is None and "HTTP_TRANSFER_ENCODING" not in environ:
        return b""
    if length:
        if not length.isdecimal():
            raise bad("malformed Content-Length", last=True)
        if int(length) > limit:
            raise _too_large(limit)
        return _read_exactly(reader, int(length))
    if environ.get("HTTP_TRANSFER_ENCODING"):
        return _read_chunks(reader, limit)
    return b""


def _read_exactly(reader: Any, size: int) -> bytes:
    try:
        body: bytes = reader.read(size) if size else b""
    except OSError as error:
        raise _broken(error) from None
    if len(body) < size:
        raise bad("the body ends before its Content-Length", last=True)
    return body


def _read_chunks(reader: Any, limit: int) -> bytes:
    body = bytearray()
    try:
        # Reads at most one byte past the limit: that byte proves the excess; more would only wait for the client.
        while data := reader.read(min(CHUNK, limit + 1 - len(body))):
            body += data
            if len(body) + getattr(reader, "ahead", 0) > limit:
                raise _too_large(limit)
    except OSError as error:
        raise _broken(error) from None
    return bytes(body)


def _broken(error: OSError) -> falcon.HTTPError:
    """The answer for a body that could not be read to its end."""
    if not isinstance(error, BrokenBody):
        return bad("the body ends early", last=True)
    return falcon.HTTPError(error.status, description=error.reason, headers={"Connection": "close"})


def parse(body: bytes, content_type: str | None, limit: int) -> Content:
    """Parse the body. HTTPBadRequest for malformed JSON, forms and multipart bodies, and for text that is not UTF-8."""
    kind = (content_type or "").partition(";")[0].strip().lower()
    if kind == "application/json" or kind.endswith("+json"):
        try:
            value = codec.loads(body)
        except ValueError:
            raise bad("the body is not valid JSON") from None
        return Content(body, json=value, payload=value)
    if kind == "application/x-www-form-urlencoded":
        form = _parse_form(body)
        return Content(body, form=form, payload=form)
    if kind == "multipart/form-data":
        fields, files = _parse_multipart(body, content_type or "", limit)
        return Content(body, form=fields, files=files, payload={**fields, **files})
    return Content(body)


def _parse_form(body: bytes) -> dict[str, str]:
    if body.count(b"&") >= MOST_FIELDS:
        raise bad(f"the form has more than {MOST_FIELDS} fields")
    if not body.isascii():
        raise bad("the form is not URL-encoded UTF-8")
    fields: dict[str, str] = {}
    share = Share()
    try:
        for field in body.split(b"&"):
            name, _, value = field.partition(b"=")
            if name or value:
                fields[_decoded(name, share)] = _decoded(value, share)
    except UnicodeDecodeError:
        raise bad("the form is not URL-encoded UTF-8") from None
    return fields


def _decoded(text: bytes, share: Share) -> str:
    """Percent-decode in pieces, so that even a long text does not hold the loop."""
    share.take()
    text = text.translate(_PLUS_IS_SPACE)
    if b"%" not in text:
        return text.decode()
    out = bytearray()
    place = 0
    while place < len(text):
        end = place + PIECE
        # Do not cut between a `%` and its two digits.
        cut = text.rfind(b"%", end - 2, end)
        end = cut if cut > place else end
        out += urllib.parse.unquote_to_bytes(text[place:end])
        place = end
        share.take()
    return out.decode()


class _Pieces(io.BytesIO):
    """A body as a file for Falcon's parser. Between two reads other greenlets may run."""

    def __init__(self, body: bytes) -> None:
        super().__init__(body)
        self._share = Share()

    def read(self, size: int | None = -1) -> bytes:
        self._share.take()
        return super().read(size)


def _parse_multipart(body: bytes, content_type: str, limit: int) -> tuple[dict[str, str], dict[str, Upload]]:
    options = MultipartParseOptions()
    options.max_body_part_buffer_size = limit
    options.max_body_part_count = MOST_FIELDS
    fields: dict[str, str] = {}
    files: dict[str, Upload] = {}
    try:
        for part in MultipartFormHandler(options).deserialize(_Pieces(body), content_type, len(body)):
            name = part.name
            if name is None:
                raise bad("a part of the multipart body has no name")
            if part.filename is not None:
                files[name] = Upload(part.filename, part.content_type, part.get_data())
            else:
                fields[name] = part.get_data().decode()
    except falcon.HTTPBadRequest:
        raise
    except (falcon.HTTPError, ValueError):
        raise bad("the multipart body is malformed") from None
    return fields, files


def bad(text: str, last: bool = False) -> falcon.HTTPBadRequest:
    """An error 400; `last` closes the connection."""
    return falcon.HTTPBadRequest(description=text, headers={"Connection": "close"} if last else None)


def _too_large(limit: int) -> falcon.HTTPContentTooLarge:
    text = f"the body is larger than {limit} bytes"
    return falcon.HTTPContentTooLarge(description=text, headers={"Connection": "close"})
