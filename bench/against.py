"""The cost of a request in this work tree compared with another commit: `python -m bench.against COMMIT`.

The same service programs run on both trees, with one environment, one Redis and the same fixed number of requests, in
turns A B B A. Each sitting repeats this with new processes. Exit code 1 when a ratio is above `--most`.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.orphans import die_with_parent
from tests.support.ports import accepts, free_port

from . import report
from .meters import Cpu, Instructions, Meter
from .processes import PROGRAMS, REPOSITORY, Running, Trouble

HERE = "this work tree"
TURNS = (0, 1, 1, 0)
PATIENCE = 300  # seconds that a start may take under callgrind on a busy machine


@dataclass
class Cost:
    """One figure: its name, and the cost of a request in each turn, for the other tree and for this one."""

    name: str
    taken: tuple[list[float], list[float]] = field(default_factory=lambda: ([], []))

    def ratio(self) -> float:
        """The median of the ratios of all A B B A blocks; above 1 when this tree costs more."""
        size = len(TURNS) // 2
        before, now = self.taken
        blocks = range(0, len(now), size)
        return statistics.median(sum(now[at : at + size]) / sum(before[at : at + size]) for at in blocks)


@dataclass
class Service:
    """A running service program: its address and its meter."""

    address: str
    meter: Meter


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.against", description=__doc__.splitlines()[0])
    parser.add_argument("commit", help="a commit, branch or tag; or the folder of another work tree")
    parser.add_argument("--only", choices=KINDS, action="append", help="may be repeated (default all)")
    parser.add_argument("--requests", type=int, help="in each turn (default 10000; 2000 with --instructions)")
    parser.add_argument("--clients", type=int, default=32, help="requests under way at a time (default 32)")
    parser.add_argument("--sittings", type=int, help="A B B A with new processes (default 6; 1 with --instructions)")
    parser.add_argument("--instructions", action="store_true", help="count instructions (valgrind) instead of CPU time")
    parser.add_argument("--most", type=float, help="fail when a ratio is above this")
    parser.add_argument("--keep", type=Path, help="with --instructions: a folder that keeps callgrind's profiles")
    options = parser.parse_args()
    options.requests = options.requests or (2000 if options.instructions else 10_000)
    options.sittings = options.sittings or (1 if options.instructions else 6)
    return options


@contextlib.contextmanager
def tree_of(commit: str) -> Iterator[Path]:
    """A temporary folder with the files of that commit, or the given folder itself."""
    if Path(commit).is_dir():
        yield Path(commit).resolve()
        return
    git = ["git", "-C", str(REPOSITORY), "worktree"]
    with tempfile.TemporaryDirectory(prefix="bench-tree-") as folder:
        added = subprocess.run([*git, "add", "--quiet", "--detach", folder, commit], capture_output=True, text=True)
        if added.returncode:
            raise Trouble(f"no work tree of {commit}: {added.stderr.strip()}")
        try:
            yield Path(folder)
        finally:
            subprocess.run([*git, "remove", "--force", folder], check=True)


class Sitting:
    """One kind of service, started anew from both trees and measured in turns."""

    def __init__(self, running: Running, trees: tuple[Path, Path], options: argparse.Namespace) -> None:
        self._running, self._trees, self._options = running, trees, options
        self._profiles = options.keep or running.folder

    def measure(self, kind: str, costs: list[Cost]) -> None:
        self._running.start_redis()
        services = [self._start(kind, number) for number in (0, 1)]
        for number in TURNS:
            for cost, value in zip(costs, KINDS[kind](self, services[number], number), strict=True):
                cost.taken[number].append(value)
            figures = ", ".join(f"{cost.name} {cost.taken[number][-1]:,.1f}" for cost in costs)
            report.progress(f"{(self._options.commit, HERE)[number]}: {figures}")

    def rpc(self, service: Service, number: int) -> list[float]:
        """The cost of a request for the service and for the caller, both from this tree."""
        words = [service.address, str(self._running.redis_port)]
        return self._under(service, number, "fixed_caller.py", *words, measured=True)

    def http(self, service: Service, number: int) -> list[float]:
        return self._under(service, number, "fixed_clients.py", "http", service.address)

    def websocket(self, service: Service, number: int) -> list[float]:
        return self._under(service, number, "fixed_clients.py", "websocket", service.address)

    # inside

    def _start(self, kind: str, number: int) -> Service:
        port, name = free_port(), f"{kind}-{number}"
        if kind == "rpc":
            words = ["rpc_service.py", name, str(self._running.redis_port)]
        else:
            words = ["http_ours.py", str(port)]
        command = self._command(name, *words)
        environment = self._environment(number) | {"DAEBUS_REDIS_URL": self._running.redis_url}
        process = self._running.start(
            name,
            command,
            lambda: self._running.subscribed(name) if kind == "rpc" else accepts(port),
            env=environment,
            patience=PATIENCE,
        )
        return Service(name if kind == "rpc" else str(port), self._meter(process.pid, name))

    def _environment(self, number: int) -> dict[str, str]:
        # The same hash seed in both, so that neither has a luckier order of sets.
        return {
            "PYTHONPATH": str(self._trees[number] / "runtime"),
            "PYTHONHASHSEED": "0",
            "PYTHONDONTWRITEBYTECODE": "",
        }

    def _command(self, name: str, program: str, *words: str) -> list[str]:
        command = [sys.executable, str(PROGRAMS / program), *words]
        return (
            Instructions.command(command, self._profiles / f"callgrind.{name}")
            if self._options.instructions
            else command
        )

    def _meter(self, group: int, name: str) -> Meter:
        return Instructions(group, self._profiles / f"callgrind.{name}") if self._options.instructions else Cpu(group)

    def _under(self, service: Service, number: int, program: str, *words: str, measured: bool = False) -> list[float]:
        """Runs the load; the cost of a request for the service and, with `measured`, for the load program itself."""
        options, name = self._options, f"load-{number}"
        words = (*words, str(options.clients), str(options.requests))
        command = (
            self._command(name, program, *words) if measured else [sys.executable, str(PROGRAMS / program), *words]
        )
        with subprocess.Popen(
            die_with_parent(command),
            env={**os.environ, **self._environment(number)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        ) as load:
            meters = [service.meter, *([self._meter(load.pid, name)] if measured else [])]
            self._expect(load, "ready")
            for meter in meters:
                meter.start()
            self._expect(load, "done")
            costs = [meter.stop() / options.requests for meter in meters]
            load.communicate("\n")
        return costs

    def _expect(self, load: subprocess.Popen[str], word: str) -> None:
        assert load.stdin is not None
        assert load.stdout is not None
        if word == "done":
            load.stdin.write("\n")
            load.stdin.flush()
        if load.stdout.readline().strip() != word:
            raise Trouble(f"the load ended without {word!r}")


KINDS = {"rpc": Sitting.rpc, "http": Sitting.http, "websocket": Sitting.websocket}
NAMES = {"rpc": ("RPC, service", "RPC, caller"), "http": ("HTTP",), "websocket": ("WebSocket echo",)}


def table(costs: list[Cost], commit: str, unit: str) -> str:
    lines = [f"| {unit} per request, median | {commit} | {HERE} | ratio |", "|---|---|---|---|"]
    for cost in costs:
        before, now = (statistics.median(values) for values in cost.taken)
        lines.append(f"| {cost.name} | {before:,.1f} | {now:,.1f} | {cost.ratio():.3f} |")
    return "\n".join(lines)


def measure(options: argparse.Namespace) -> dict[str, list[Cost]]:
    """The costs of each kind over all sittings."""
    costs = {kind: [Cost(name) for name in NAMES[kind]] for kind in (options.only or KINDS)}
    # Under callgrind a clean end takes too long to wait for.
    grace = 0.5 if options.instructions else 8.0
    with tree_of(options.commit) as other:
        for _ in range(options.sittings):
            for kind, of_kind in costs.items():
                with Running(grace) as running:
                    Sitting(running, (other, REPOSITORY), options).measure(kind, of_kind)
    return costs


def main() -> int:
    options = arguments()
    try:
        costs = [cost for of_kind in measure(options).values() for cost in of_kind]
    except Trouble as trouble:
        print(f"bench: {trouble}", file=sys.stderr)
        return 1
    for fact in report.machine():
        print(f"* {fact}")
    print(
        f"* load average {report.load_average()}; {options.clients} requests under way, {options.requests} in a turn\n"
    )
    print(table(costs, options.commit, (Instructions if options.instructions else Cpu).unit))
    return int(any(cost.ratio() > options.most for cost in costs) if options.most else 0)


if __name__ == "__main__":
    sys.exit(main())
