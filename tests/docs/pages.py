"""Reads the pages of `docs/` and their fenced blocks. Runs nothing itself.

A fenced block in one of the LANGUAGES has a comment in the line before its fence:

    <!-- run: name -->        the driver of that name in `drivers/` runs it
    <!-- shown: reason -->    it is not run, for the reason given; not allowed for python
"""

from __future__ import annotations

import dataclasses
import re
from functools import cache
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent.parent
DOCS = REPOSITORY / "docs"
LANGUAGES = ("python", "console")
MARK = re.compile(r"<!-- (run|shown): (.+) -->")
FENCE = re.compile(r"^(\s*)```([\w-]*)\s*$")


@dataclasses.dataclass(frozen=True)
class Block:
    """One fenced block. `name` is None when the comment gives a reason not to run it, or there is no comment."""

    page: str
    line: int
    language: str
    text: str
    name: str | None = None
    excuse: str | None = None

    def __str__(self) -> str:
        return f"{self.page}:{self.line} ({self.language}, {self.name or 'without a name'})"


def blocks_of(text: str, page: str) -> list[Block]:
    """Every fenced block of a page in order, in any language."""
    found: list[Block] = []
    inside: tuple[int, str, list[str]] | None = None
    before = ""
    for number, line in enumerate(text.splitlines(), start=1):
        fence = FENCE.match(line)
        if inside is not None and fence and not fence[2]:
            begun, language, lines = inside
            mark = MARK.fullmatch(before)
            name, excuse = _marked(mark)
            found.append(Block(page, begun, language, "\n".join(lines) + "\n", name, excuse))
            inside, before = None, ""
        elif inside is not None:
            inside[2].append(line)
        elif fence:
            inside = (number + 1, fence[2], [])
        elif line.strip():
            before = line.strip()
    return found


def _marked(mark: re.Match[str] | None) -> tuple[str | None, str | None]:
    if mark is None:
        return None, None
    return (mark[2], None) if mark[1] == "run" else (None, mark[2])


def pages() -> list[Path]:
    return sorted(DOCS.glob("*.md"))


@cache
def runnable() -> tuple[Block, ...]:
    """The blocks of all pages that are in one of the LANGUAGES."""
    blocks = [block for page in pages() for block in blocks_of(page.read_text(), page.name)]
    return tuple(block for block in blocks if block.language in LANGUAGES)


def block(page: str, name: str) -> Block:
    """The block with this name on a page."""
    found = [block for block in runnable() if (block.page, block.name) == (page, name)]
    assert found, f"docs/{page} has no block with <!-- run: {name} -->"
    return found[0]
