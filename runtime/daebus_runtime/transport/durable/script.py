"""The Lua scripts: one file for each atomic step. A link loads them when it connects, so a call sends only a hash."""

from __future__ import annotations

import functools
import hashlib
import re
from collections.abc import Callable, Sequence
from importlib import resources
from typing import Any

from ..link import Link, pack

Word = str | bytes | int
NAMES = (
    "send",
    "finish",
    "commit",
    "register",
    "enlist",
    "beat",
    "bury",
    "release",
    "take",
    "recover",
    "claim",
    "outcomes",
)


class Script:
    """One script. `name` is its file without `.lua`."""

    def __init__(self, name: str) -> None:
        self.text = _source(name)
        self.commands = sorted(set(re.findall(r"call\('([A-Z]+)'", self.text)))
        self.digest = hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest()

    def call(
        self, link: Link, keys: Sequence[str], words: Sequence[Word], callback: Callable[[Any], None], hold: float = 0.0
    ) -> None:
        """Run it on the link's server. `callback` gets its result, or an exception as a value."""

        def answered(value: Any) -> None:
            if isinstance(value, Exception) and str(value).startswith("NOSCRIPT"):
                link.post(pack("EVAL", self.text, len(keys), *keys, *words), callback, hold)
            else:
                callback(value)

        link.post(pack("EVALSHA", self.digest, len(keys), *keys, *words), answered, hold)


def _source(name: str) -> str:
    """The text of a script without the comments at its top; a line `--! other` stands for the text of that file."""
    lines = resources.files(__package__).joinpath("scripts", f"{name}.lua").read_text().splitlines()
    parts = [_source(line[4:]) if line.startswith("--! ") else line for line in lines]
    return "\n".join(part for part in parts if not part.startswith("--"))


@functools.cache
def script(name: str) -> Script:
    return Script(name)


def load_all(link: Link) -> None:
    """Teach the scripts to the link's server; it may have been started anew."""
    for name in NAMES:
        link.post(pack("SCRIPT", "LOAD", script(name).text), _ignore)


def _ignore(value: Any) -> None:
    pass
