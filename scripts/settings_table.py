"""Writes the table of settings in `docs/settings.md` from the dataclass that declares them.

python -m scripts.settings_table            prints the table
python -m scripts.settings_table --write    writes it into the page, between its two marks
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from pathlib import Path
from typing import Any

from daebus_runtime.settings import MIB, PREFIX, Settings

PAGE = Path(__file__).resolve().parent.parent / "docs" / "settings.md"
BEGIN = "<!-- table: scripts/settings_table.py writes it -->\n"
END = "<!-- end of table -->\n"


def table() -> str:
    """One row for each setting, in the order of their declaration."""
    rows = ["| variable | default | expected | what for |", "|---|---|---|---|"]
    for field in dataclasses.fields(Settings):
        about, form = field.metadata["about"], field.metadata["form"]
        rows.append(f"| `{PREFIX}{field.name.upper()}` | {shown(field.default)} | {form} | {about} |")
    return "\n".join(rows) + "\n"


def shown(default: Any) -> str:
    """A default in the form that its variable takes."""
    if default is None:
        return "none"
    if isinstance(default, bool):
        return f"`{str(default).lower()}`"
    if isinstance(default, int) and default >= MIB and default % MIB == 0:
        return f"`{default}` ({default // MIB} MiB)"
    return f"`{default:g}`" if isinstance(default, float) else f"`{default}`"


def filled(page: str) -> str:
    """The page's text with the table as it is now. ValueError when the marks are missing."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the page lacks the marks {BEGIN.strip()!r} and {END.strip()!r}")
    return before + begin + table() + end + after


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--write", action="store_true", help="put the table into docs/settings.md")
    if parser.parse_args().write:
        PAGE.write_text(filled(PAGE.read_text()))
    else:
        print(table(), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
