"""The measurements: a table of cells, each one system under one load. The systems of a row are measured in turn, so
that other work on the machine affects all of them equally."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Cell:
    """One system under one load. `run()` measures it once; it returns rate, p50 and p99 (microseconds), and perhaps
    `cpu`, the server's microseconds of CPU for a request."""

    load: str
    system: str
    run: Callable[[], dict[str, Any]]
    taken: list[dict[str, Any]] = field(default_factory=list)
    trouble: str = ""

    def median(self, figure: str) -> float | None:
        values = [one[figure] for one in self.taken if one[figure] is not None]
        return statistics.median(values) if values else None

    def spread(self) -> tuple[float, float]:
        """The lowest and the highest rate."""
        rates = [one["rate"] for one in self.taken]
        return min(rates), max(rates)


@dataclass
class Section:
    """One table, in which `ours` is compared with each of the other systems."""

    title: str
    ours: str
    note: str = ""
    cells: list[Cell] = field(default_factory=list)
    trouble: str = ""

    def loads(self) -> list[str]:
        return list(dict.fromkeys(cell.load for cell in self.cells))

    def of(self, load: str) -> list[Cell]:
        return [cell for cell in self.cells if cell.load == load]

    def ratio(self, cell: Cell) -> float | None:
        """Our rate divided by the cell's under the same load: the median of the ratios of the rounds."""
        ours = next((one for one in self.of(cell.load) if one.system == self.ours), None)
        if ours is None or cell is ours:
            return None
        pairs = zip(ours.taken, cell.taken, strict=False)
        ratios = [mine["rate"] / other["rate"] for mine, other in pairs if other["rate"]]
        return statistics.median(ratios) if ratios else None

    def saving(self, cell: Cell) -> float | None:
        """The cell's CPU for a request divided by ours: what the ratio would be on a machine that does nothing else."""
        ours = next((one for one in self.of(cell.load) if one.system == self.ours), None)
        if ours is None or cell is ours:
            return None
        pairs = zip(ours.taken, cell.taken, strict=False)
        ratios = [other["cpu"] / mine["cpu"] for mine, other in pairs if mine.get("cpu") and other.get("cpu")]
        return statistics.median(ratios) if ratios else None


def in_turn(sections: Iterable[Section], rounds: int) -> Iterable[tuple[int, Section, Cell]]:
    """The order of the measurements: every round goes through all tables, row by row, system by system."""
    for number in range(rounds):
        for section in sections:
            # Every second round runs backwards, so that no system always follows the same one.
            for cell in section.cells if number % 2 == 0 else reversed(section.cells):
                yield number, section, cell
