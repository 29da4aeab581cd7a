"""The id of a request: the client's `X-Request-ID` if it is safe to write down, else a new one."""

from __future__ import annotations

import re
from random import getrandbits

REQUEST_ID = "daebus.request_id"
"""Its key in the WSGI environ."""
# No white space, quotes or separators: it is copied into logs and into answers.
_SAFE = re.compile(r"[A-Za-z0-9._~:/+=@-]{1,128}").fullmatch


def fresh_id() -> str:
    """16 hexadecimal digits. Unique, but not secret."""
    return getrandbits(64).to_bytes(8, "big").hex()  # half of what formatting costs


def request_id(sent: str | None) -> str:
    """The id for a request that came with this `X-Request-ID`."""
    return sent if sent is not None and _SAFE(sent) else fresh_id()
