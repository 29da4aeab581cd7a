"""Makes foreign text safe to show: it cannot move the cursor, end the line or hide parts. Writes nothing itself.

Characters that Python does not count as printable (`str.isprintable`: control characters, line breaks, bidirectional
and zero-width marks, lone surrogates) are shown as escapes.
"""

from __future__ import annotations

import re

_OTHER = re.compile(r"[^ -~]")


def text(value: str, encoding: str | None = None) -> str:
    """`value` on one line, escaped as Python does. Characters that `encoding` cannot encode are escaped too."""
    if not value.isprintable():
        value = _OTHER.sub(_python_escape, value)
    if encoding is None or can_write(value, encoding):
        return value
    return value.encode("ascii", "backslashreplace").decode()


def json(document: str, encoding: str | None = None) -> str:
    """A JSON document on one line, with the same value. Characters that `encoding` cannot encode are escaped too."""
    if document.isascii():
        return document if document.isprintable() else _OTHER.sub(_json_escape, document)
    if encoding is None or can_write(document, encoding):
        return document if document.isprintable() else _OTHER.sub(_shown_or_escape, document)
    return _OTHER.sub(_json_escape, document)


def can_write(value: str, encoding: str) -> bool:
    """Whether a stream with this encoding can show `value`. An unknown encoding is assumed to show ASCII only."""
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
