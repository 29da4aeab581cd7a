"""The table of `ps`: columns as wide as what they hold, within the width of the terminal."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from typing import NamedTuple

import click

from .. import printable
from ..services import ReplicaInfo, ServiceInfo

HEAD = ("SERVICE", "REPLICAS", "VERSION", "PROTOCOL", "UPTIME", "LAG", "PENDING", "OLDEST")
TO_THE_RIGHT = frozenset({"UPTIME", "LAG", "PENDING", "OLDEST"})
UNITS = ((86400, "d"), (3600, "h"), (60, "m"), (1, "s"))
LEAST_NAME, MOST_VERSION = 12, 12
GAP = "  "


class Row(NamedTuple):
    """One line: the texts of its cells, and its colour, if any. A note has one cell, as long as the line may be."""

    cells: tuple[str, ...]
    colour: str | None = None


def rows(services: Sequence[ServiceInfo], detailed: bool) -> list[Row]:
    """A row for each service, below it its replicas: all of them if `detailed`, else the silent ones."""
    found = []
    for service in services:
        found.append(_service(service))
        if service.problem:
            found.append(Row((f"  {service.problem}",), "yellow"))
        found += [_replica(replica) for replica in service.replicas if detailed or replica.alive is False]
    return found


def lines(found: Sequence[Row], width: int | None, encoding: str | None, colours: bool) -> list[str]:
    """The head and the rows as text. width: of the terminal; None for as wide as needed."""
    safe = [Row(tuple(printable.text(cell, encoding) for cell in row.cells), row.colour) for row in found]
    table = [row.cells for row in safe if len(row.cells) > 1]
    widths = [max(map(wide, column)) for column in zip(HEAD, *table, strict=True)]
    if width is not None:
        excess = sum(widths) + len(GAP) * (len(widths) - 1) - width
        widths[0] = max(LEAST_NAME, widths[0] - max(0, excess))
    written = [_line(HEAD, widths, width), *(_line(row.cells, widths, width) for row in safe)]
    if not colours:
        return written
    styled = zip(written[1:], safe, strict=True)
    return [click.style(written[0], bold=True), *(click.style(line, fg=row.colour) for line, row in styled)]


def _line(cells: Sequence[str], widths: Sequence[int], width: int | None) -> str:
    if len(cells) == 1:
        return cells[0] if width is None else cut(cells[0], width)
    padded = []
    for title, cell, room in zip(HEAD, cells, widths, strict=True):
        text = cut(cell, room)
        space = " " * (room - wide(text))
        padded.append(space + text if title in TO_THE_RIGHT else text + space)
    line = GAP.join(padded).rstrip()
    return line if width is None else cut(line, width)


def _service(service: ServiceInfo) -> Row:
    if not service.known:
        heard = "?" if service.listeners is None else str(service.listeners)
        return Row((service.name, heard, "-", "1", "-", "-", "-", "-"), None)
    silent, waits = len(service.silent), bool(service.lag or service.pending)
    count = str(service.replica_count) + (f", {silent} silent" if silent else "")
    unread = service.oldest is None and waits
    row = (
        service.name,
        count,
        _versions(service.versions),
        "+".join(map(str, service.protocols)) or "-",
        span(service.uptime) if service.replicas else "-",
        "unknown" if service.lag is None else str(service.lag),
        "unknown" if service.pending is None else str(service.pending),
        "?" if unread or service.problem else span(service.oldest, "-"),
    )
    trouble = service.problem or silent or (service.lag and not service.replica_count)
    return Row(row, "yellow" if trouble else None)


def _replica(replica: ReplicaInfo) -> Row:
    state = {True: "alive", False: f"silent {span(replica.silent)}", None: "?"}[replica.alive]
    protocols = "+".join(map(str, replica.protocols)) or "?"
    row = (f"  {replica.name}", state, replica.version or "?", protocols, span(replica.uptime), "", "", "")
    return Row(row, "red" if replica.alive is False else None)


def _versions(versions: Sequence[str]) -> str:
    if not versions:
        return "-"
    more = f" +{len(versions) - 1}" if len(versions) > 1 else ""
    return cut(versions[-1], MOST_VERSION) + more


def span(seconds: float | None, unknown: str = "?") -> str:
    """A time as a short text: 0.3s, 12s, 5m, 3h, 17d."""
    if seconds is None:
        return unknown
    if seconds < 9.95:
        return f"{seconds:.1f}s"
    size, unit = next((size, unit) for size, unit in UNITS if seconds >= 2 * size or size == 1)
    return f"{seconds / size:.0f}{unit}"


def wide(text: str) -> int:
    """How many columns of a terminal a text takes."""
    if text.isascii():
        return len(text)
    return sum(_columns(character) for character in text)


def _columns(character: str) -> int:
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def cut(text: str, width: int) -> str:
    """A text in at most `width` columns; "~" stands for what is left out."""
    if wide(text) <= width:
        return text
    kept = ""
    for character in text:
        if wide(kept + character) > width - 1:
            break
        kept += character
    return kept + "~"
