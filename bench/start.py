"""Compare the CPU time that the start of a service takes, on this work tree and on another commit.

Measured is the user and system time of all processes of a service with an action, HTTP and WebSockets, from `exec` to
the first 200 of its /readyz. Both trees start the same program with the same libraries and Redis, in turns A B B A, in
each of the three ways to start a service. The peer is a process that only imports the five libraries. The figures are
printed as Markdown; progress goes to standard error. One sitting takes less than a minute.

  python -m bench.start v0.1.0                              # all ways, five sittings
  python -m bench.start HEAD~20 --most 0.7                  # exit code 1 when a ratio is above 0.7
  python -m bench.start ../other-tree --only 'daebus run'   # one way, against a folder

Run it with the Python of .venv (`make environment` creates it), on a machine that does nothing else.
"""

from __future__ import annotations

import argparse
import http.client
import resource
import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from tests.support.ports import free_port

from . import report
from .against import HERE, TURNS, Cost, tree_of
from .meters import Cpu, processes_of
from .processes import PROGRAMS, REPOSITORY, Running, Trouble

PEER = "import redis, falcon, gevent, apscheduler, prometheus_client"
PROGRAM = PROGRAMS / "start_service.py"
WAYS: dict[str, Callable[[int], list[str]]] = {
    "app.run()": lambda port: [str(PROGRAM)],
    "daebus run": lambda port: ["-m", "daebus_runtime", "run", str(PROGRAM)],
    "gunicorn": lambda port: [
        *("-m", "gunicorn", "-c", "python:daebus_runtime.gunicorn", "--bind", f"127.0.0.1:{port}"),
        *("--chdir", str(PROGRAMS), f"{PROGRAM.stem}:app"),
    ],
}


def arguments() -> argparse.Namespace:
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(prog="python -m bench.start", description=__doc__, formatter_class=form)
    parser.add_argument("commit", help="compare with this commit, branch or tag, or with the work tree in this folder")
    ways = f"measure only this way ({', '.join(WAYS)}); may be repeated"
    parser.add_argument("--only", choices=WAYS, metavar="WAY", action="append", help=ways)
    parser.add_argument("--sittings", type=int, default=5, help="how often A B B A is run for each way (default 5)")
    parser.add_argument("--most", type=float, help="exit with code 1 when a ratio is above this number")
    options = parser.parse_args()
    if options.sittings < 1:
        parser.error("--sittings: at least 1 is needed")
    return options


def start(way: str, tree: Path, redis_url: str) -> float:
    """Start the service, stop it once it is ready; milliseconds of CPU that it took until then."""
    port, management = free_port(), free_port()
    environment = {
        **environment_of(tree),
        "DAEBUS_REDIS_URL": redis_url,
        "DAEBUS_HTTP_PORT": str(port),
        "DAEBUS_MANAGEMENT_PORT": str(management),
        "DAEBUS_MANAGEMENT_HOST": "127.0.0.1",
    }
    with Running() as running:
        command = [sys.executable, *WAYS[way](port)]
        process = running.start("service", command, lambda: is_ready(management), env=environment, patience=120)
        return sum(Cpu.clock(pid) for pid in processes_of(process.pid)) * 1e3


def is_ready(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


def environment_of(tree: Path) -> dict[str, str]:
    # Compiled files may be written: the first start of each tree is not measured.
    return {"PYTHONPATH": str(tree / "runtime"), "PYTHONHASHSEED": "0", "PYTHONDONTWRITEBYTECODE": ""}


def peer() -> float:
    """Milliseconds of CPU of a process that imports the five libraries and ends."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", PEER], check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) * 1e3


def measure(options: argparse.Namespace) -> tuple[list[Cost], list[float]]:
    ways = options.only or list(WAYS)
    costs, peers = [Cost(way) for way in ways], []
    with tree_of(options.commit) as other, Running() as running:
        running.start_redis()
        trees = (other, REPOSITORY)
        for tree in trees:
            start(ways[0], tree, running.redis_url)
        for sitting in range(options.sittings):
            for cost in costs:
                peers.append(peer())
                for number in TURNS:
                    cost.taken[number].append(start(cost.name, trees[number], running.redis_url))
                before, now = (sum(values[-2:]) / 2 for values in cost.taken)
                report.progress(f"{sitting + 1}. {cost.name}: {before:.0f} ms, {now:.0f} ms; peer {peers[-1]:.0f} ms")
    return costs, peers


def table(costs: list[Cost], peers: list[float], commit: str) -> str:
    alone = statistics.median(peers)
    lines = [f"| ms of CPU until ready, median | {commit} | {HERE} | ratio | to the peer |", "|---|---|---|---|---|"]
    for cost in costs:
        before, now = (statistics.median(values) for values in cost.taken)
        lines.append(f"| {cost.name} | {before:,.0f} | {now:,.0f} | {cost.ratio():.3f} | {now / alone:.2f} |")
    return "\n".join([*lines, f"| `{PEER}` | | {alone:,.0f} | | 1 |"])


def main() -> int:
    options = arguments()
    try:
        costs, peers = measure(options)
    except Trouble as trouble:
        print(f"bench: {trouble}", file=sys.stderr)
        return 1
    for fact in report.machine():
        print(f"* {fact}")
    print(f"* load average {report.load_average()}\n")
    print(table(costs, peers, options.commit))
    return int(options.most is not None and any(cost.ratio() > options.most for cost in costs))


if __name__ == "__main__":
    sys.exit(main())
