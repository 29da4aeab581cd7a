"""All measurements in one run: `python -m bench`, or `make bench`. Prints Markdown; progress goes to standard error.

Exit code 0; 1 when something could not be measured.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

from . import report, rpc, sockets, web
from .cells import Section, in_turn
from .processes import Running, Trouble

PARTS = ("rpc", "http", "websocket")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=3.0, help="of each measurement (default 3)")
    parser.add_argument("--rounds", type=int, default=3, help="of all measurements, medians are reported (default 3)")
    parser.add_argument("--only", choices=PARTS, action="append", help="a part; may be repeated (default all)")
    parser.add_argument("--no-original", action="store_true", help="leave the original out: nothing is installed")
    parser.add_argument("--json", type=Path, help="also write every single figure to this file")
    parser.add_argument(
        "--original",
        type=Path,
        default=os.environ.get("BENCH_ORIGINAL"),
        help="a Python with daebus 0.0.31 installed (default $BENCH_ORIGINAL, else one made in .cache)",
    )
    return parser.parse_args()


def prepare(running: Running, options: argparse.Namespace) -> list[Section]:
    """Starts every server of the run and returns the tables to fill."""
    wanted = options.only or PARTS
    running.start_redis()
    sections = []
    if "rpc" in wanted:
        original = None if options.no_original else rpc.peer_python(options.original)
        sections.append(rpc.section(running, original, options.seconds))
    if {"http", "websocket"} & set(wanted):
        port = web.start_ours(running)
        if "http" in wanted:
            sections.extend(web.sections(running, port, options.seconds))
        if "websocket" in wanted:
            sections.append(sockets.section(running, port, options.seconds))
    return sections


def measure(sections: list[Section], rounds: int) -> bool:
    """Fills the tables; True when everything could be measured."""
    complete = not any(section.trouble for section in sections)
    for number, section, cell in in_turn(sections, rounds):
        words = f"round {number + 1}/{rounds}  {section.title}, {cell.load}, {cell.system}"
        try:
            cell.taken.append(cell.run())
            report.progress(f"{words}: {cell.taken[-1]['rate']:,}/s")
        except Trouble as trouble:
            cell.trouble, complete = str(trouble), False
            report.progress(f"{words}: {trouble}")
    return complete


def main() -> int:
    options = arguments()
    before = report.load_average()
    try:
        with Running() as running:
            sections = prepare(running, options)
            complete = measure(sections, options.rounds)
    except Trouble as trouble:
        print(f"bench: {trouble}", file=sys.stderr)
        return 1
    for fact in report.machine():
        print(f"* {fact}")
    print(f"* load average before {before}, after {report.load_average()}")
    print(f"* medians of {options.rounds} interleaved rounds of {options.seconds:g} s\n")
    print(report.as_markdown(sections))
    if options.json:
        rows = [
            {"section": section.title, "load": cell.load, "system": cell.system, "rounds": cell.taken}
            for section in sections
            for cell in section.cells
        ]
        options.json.write_text(json.dumps({"machine": report.machine(), "figures": rows}, indent=1) + "\n")
    return 0 if complete else 1


if __name__ == "__main__":
    sys.exit(main())
