"""Text from elsewhere made safe to show: nothing in it moves a cursor, ends a line or hides. Knows no stream.

What is not printable for Python (`str.isprintable`: control characters, line breaks, bidirectional and zero-width
marks, lone surrogates) is shown as an escape.
"""

from __future__ import annotations

import re

_OTHER = re.compile(r"[^ -~]")


def text(value: str, encoding: str | None = None) -> str:
    """`value` on one line, as Python would escape it; also what `encoding` cannot write is an escape."""
    if not value.isprintable():
        value = _OTHER.sub(_python_escape, value)
    if encoding is None or can_write(value, encoding):
        return value
    return value.encode("ascii", "backslashreplace").decode()


def json(document: str, encoding: str | None = None) -> str:
    """A JSON document on one line, with the same value; also what `encoding` cannot write is an escape."""
    if document.isascii():
        return document if document.isprintable() else _OTHER.sub(_json_escape, document)
    if encoding is None or can_write(document, encoding):
        return document if document.isprintable() else _OTHER.sub(_shown_or_escape, document)
    return _OTHER.sub(_json_escape, document)


def can_write(value: str, encoding: str) -> bool:
    """Whether a stream of this encoding can show `value`; an unknown encoding can show ASCII."""
    try:
        value.encode(encoding)
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def _python_escape(match: re.Match[str]) -> str:
    return match[0] if match[0].isprintable() else match[0].encode("unicode_escape").decode()


def _shown_or_escape(match: re.Match[str]) -> str:
    return match[0] if match[0].isprintable() else _json_escape(match)


def _json_escape(match: re.Match[str]) -> str:
    units = match[0].encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[i]:02x}{units[i + 1]:02x}" for i in range(0, len(units), 2))
