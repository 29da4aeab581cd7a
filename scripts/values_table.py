"""Writes the tables of values in the charts' READMEs from the comments in their files of values.

python -m scripts.values_table            prints the tables
python -m scripts.values_table --write    writes each into its page, between its two marks
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

HELM = Path(__file__).resolve().parent.parent / "helm"
# The library's defaults are a file of its own: Helm would hand a values.yaml over as if a user had set it.
VALUES = {HELM / "daebus": "defaults.yaml", HELM / "daebus-bus": "values.yaml"}
BEGIN = "<!-- table: scripts/values_table.py writes it -->\n"
END = "<!-- end of table -->\n"
KEY = re.compile(r"^( *)([A-Za-z]+):")


def described(text: str) -> dict[str, str]:
    """The comment above each value of such a file, by dotted path. A map whose members have comments has none."""
    found: dict[str, str] = {}
    path: list[str] = []
    comment: list[str] = []
    for line in text.splitlines():
        if line.lstrip().startswith("#"):
            comment.append(line.lstrip().removeprefix("#").strip())
            continue
        if key := KEY.match(line):
            path = [*path[: len(key[1]) // 2], key[2]]
            if comment:
                found[".".join(path)] = " ".join(comment)
        comment = []
    return found


def leaves(values: dict[str, Any], commented: set[str], above: str = "") -> Iterator[tuple[str, Any]]:
    """Every value with its path; a map is one value where the map itself has a comment."""
    for name, value in values.items():
        path = f"{above}{name}"
        if isinstance(value, dict) and value and path not in commented:
            yield from leaves(value, commented, f"{path}.")
        else:
            yield path, value


def table(chart: Path) -> str:
    """One row for each value, in the order of the file. ValueError when a value has no comment."""
    name = VALUES.get(chart, "values.yaml")
    text = (chart / name).read_text()
    comments = described(text)
    rows = ["| value | default | what for |", "|---|---|---|"]
    for path, default in leaves(yaml.safe_load(text), set(comments)):
        if path not in comments:
            raise ValueError(f"{chart.name}/{name}: {path} has no comment")
        rows.append(f"| `{path}` | `{shown(default)}` | {comments[path]} |")
    return "\n".join(rows) + "\n"


def shown(default: Any) -> str:
    """A default as YAML on one line."""
    if default == "":
        return '""'
    text = yaml.safe_dump(default, default_flow_style=True, sort_keys=False, width=1000)
    return text.removesuffix("...\n").strip()


def filled(chart: Path) -> str:
    """The text of the chart's README with the table as it is now. ValueError when the marks are missing."""
    before, begin, rest = (chart / "README.md").read_text().partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{chart.name}/README.md lacks the marks {BEGIN.strip()!r} and {END.strip()!r}")
    return before + begin + table(chart) + end + after


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--write", action="store_true", help="put each table into its chart's README.md")
    write = parser.parse_args().write
    for chart in VALUES:
        if write:
            (chart / "README.md").write_text(filled(chart))
        else:
            print(f"{chart.name}\n\n{table(chart)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
