"""The figures as Markdown, with the machine and the versions."""

from __future__ import annotations

import datetime
import os
import platform
import re
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from tests.support.redis_server import server_binary

from .cells import Section

PACKAGES = (
    "daebus-runtime",
    "redis",
    "hiredis",
    "gevent",
    "greenlet",
    "gunicorn",
    "falcon",
    "gevent-websocket",
    "orjson",
)


def machine() -> list[str]:
    """The facts on which the figures depend, one per line."""
    model = "unknown processor"
    if (info := Path("/proc/cpuinfo")).exists() and (found := re.search(r"model name\s*:\s*(.*)", info.read_text())):
        model = found[1]
    now = datetime.datetime.now(datetime.UTC)
    return [
        f"{now:%Y-%m-%d}, {model}, {os.cpu_count()} cores, {platform.system()} {platform.release()}",
        f"{platform.python_implementation()} {platform.python_version()}, {_first_line(server_binary(), '--version')}",
        ", ".join(f"{name} {_version(name)}" for name in PACKAGES),
    ]


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "(not installed)"


def _first_line(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    line = (done.stdout or done.stderr).splitlines()
    return re.sub(r" sha=.*", "", line[0]) if line else "?"


def load_average() -> str:
    return " ".join(f"{value:.2f}" for value in os.getloadavg())


def as_markdown(sections: list[Section]) -> str:
    """One table per section; the medians over the rounds."""
    lines: list[str] = []
    for section in sections:
        lines += [f"### {section.title}", ""]
        if section.trouble:
            lines += [section.trouble, ""]
            continue
        more = (" CPU for one | ours to it, by CPU |", "---|---|") if _has_cpu(section) else ("", "")
        lines += [
            section.note,
            "",
            f"| load | system | per second | lowest to highest | p50 | p99 | ours to it |{more[0]}",
        ]
        lines += [f"|---|---|---|---|---|---|---|{more[1]}"]
        lines += [_row(section, load, number) for load in section.loads() for number in range(len(section.of(load)))]
        lines += [""]
    return "\n".join(lines)


def _has_cpu(section: Section) -> bool:
    return any("cpu" in one for cell in section.cells for one in cell.taken)


def _row(section: Section, load: str, number: int) -> str:
    cell = section.of(load)[number]
    first = load if number == 0 else ""
    if not cell.taken:
        return f"| {first} | {cell.system} | failed: {cell.trouble.splitlines()[0]} | | | | |"
    low, high = cell.spread()
    ratio = section.ratio(cell)
    against = "" if ratio is None else f"{ratio:.2f} x"
    spread = f"{low:,.0f} to {high:,.0f}"
    times = f"{_time(cell.median('p50'))} | {_time(cell.median('p99'))}"
    failed = f" (failed once: {cell.trouble.splitlines()[0]})" if cell.trouble else ""
    row = f"| {first} | {cell.system}{failed} | {cell.median('rate'):,.0f} | {spread} | {times} | {against} |"
    if not _has_cpu(section):
        return row
    saving = section.saving(cell)
    return f"{row} {cell.median('cpu'):,.1f} µs | {'' if saving is None else f'{saving:.2f} x'} |"


def _time(microseconds: float | None) -> str:
    if microseconds is None:
        return "?"
    return f"{microseconds:,.0f} µs" if microseconds < 10_000 else f"{microseconds / 1000:,.1f} ms"


def progress(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
