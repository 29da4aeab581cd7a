"""Two or more other clients of a real service, which must notice nothing while a client misbehaves.

    with Bystanders(http_port=port, redis_url=url, service="garden") as others:
        …one client, task, hook or clock misbehaves…
    others.assert_unharmed()

Each is a process of its own (`bystander`), so neither the test's loop nor the misbehaving client delays it.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from .orphans import die_with_parent
from .waiting import wait_until

REPOSITORY = Path(__file__).resolve().parents[2]
QUIET = 25  # requests of each bystander before the misbehaviour begins
WARM_UP = 5


@dataclass(frozen=True)
class Sample:
    """One request: when it began (`time.monotonic()`), its seconds, and how many of these the machine caused."""

    begun: float
    seconds: float
    machine: float
    """Seconds in which the service, its Redis or the client was ready to run but had no processor."""
    trouble: str

    @classmethod
    def of(cls, line: str) -> Sample:
        begun, seconds, machine, trouble = line.rstrip("\n").split(" ", 3)
        return cls(float(begun), float(seconds), float(machine), trouble)

    @property
    def waited(self) -> float:
        """The seconds that the service itself took."""
        return max(0.0, self.seconds - self.machine)


def quantile(values: Sequence[float], share: float) -> float:
    """The quantile: this share of the values does not exceed it."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


@dataclass(frozen=True)
class Figures:
    """The results of one bystander in one phase, in seconds, without those that the machine caused."""

    count: int
    median: float
    p99: float
    worst: float
    machine: float
    """p99 of the seconds that the machine added."""

    @classmethod
    def of(cls, samples: Sequence[Sample]) -> Figures:
        waited = [sample.waited for sample in samples]
        machine = quantile([sample.machine for sample in samples], 0.99)
        return cls(len(waited), statistics.median(waited), quantile(waited, 0.99), max(waited), machine)

    def __str__(self) -> str:
        figures = {"median": self.median, "p99": self.p99, "worst": self.worst, "p99 of the machine": self.machine}
        return f"{self.count} requests, " + ", ".join(f"{name} {value * 1e3:.1f} ms" for name, value in figures.items())


@dataclass
class Bystander:
    """One client process and the samples that it has reported so far."""

    name: str
    process: subprocess.Popen[str]
    samples: list[Sample] = field(default_factory=list)
    reader: threading.Thread = field(init=False)

    def __post_init__(self) -> None:
        self.reader = threading.Thread(target=self._read, name=f"bystander {self.name}", daemon=True)
        self.reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as stream:
            for line in stream:
                self.samples.append(Sample.of(line))

    def since(self, begun: float, until: float = float("inf")) -> list[Sample]:
        """The requests that were under way at some time between the two moments."""
        return [
            sample for sample in list(self.samples) if sample.begun < until and sample.begun + sample.seconds >= begun
        ]

    def began_after(self, moment: float) -> bool:
        """Whether a request has finished that began after the moment."""
        return bool(self.samples) and self.samples[-1].begun > moment

    def ask_to_end(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()

    def end(self, timeout: float) -> None:
        """Returns once its last request has finished and been reported."""
        try:
            self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.reader.join(2)


class Bystanders:
    """Clients of a ready service. `http_port` gives one that sends GETs, `redis_url` with `service` one that calls an
    action over the bus, `websocket_port` one that sends WebSocket messages. A single kind is started twice.

    Each sends `rate` requests a second, first for a quiet phase of half a second before the block, then all through the
    block. A request that takes longer than `timeout` seconds fails.
    """

    def __init__(
        self,
        *,
        http_port: int | None = None,
        path: str = "/ping",
        redis_url: str | None = None,
        service: str | None = None,
        action: str = "ping",
        payload: Any = None,
        websocket_port: int | None = None,
        websocket_path: str = "/ws",
        message_type: str = "ping",
        data: Any = None,
        host: str = "127.0.0.1",
        rate: float = 50.0,
        timeout: float = 10.0,
    ) -> None:
        self._timeout = timeout
        wanted: list[tuple[str, ...]] = []
        if http_port is not None:
            wanted.append(("http", host, str(http_port), path))
        if redis_url is not None and service is not None:
            wanted.append(("bus", redis_url, service, action, json.dumps({} if payload is None else payload)))
        if websocket_port is not None:
            kind = json.dumps({} if data is None else data)
            wanted.append(("websocket", host, str(websocket_port), websocket_path, message_type, kind))
        assert wanted, "a bystander of what? Give http_port, websocket_port, or redis_url and service"
        self._wanted = wanted * 2 if len(wanted) == 1 else wanted
        self._pause = 1 / rate
        self._begun = 0.0
        self._ended = float("inf")
        self._others: list[Bystander] = []

    def __enter__(self) -> Self:
        self._others = [self._start(number, kind, *where) for number, (kind, *where) in enumerate(self._wanted)]
        try:
            wait_until(self._have_been_quiet, self._timeout + 10, lambda: f"the bystanders' first answers: {self}")
        except BaseException:
            self._stop()
            raise
        self._begun = time.monotonic()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._ended = time.monotonic()
        self._stop()

    def _start(self, number: int, kind: str, *where: str) -> Bystander:
        words = [kind, str(self._pause), str(self._timeout), *where]
        command = die_with_parent([sys.executable, "-E", "-S", "-m", "tests.support.bystander", *words])
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=REPOSITORY)
        return Bystander(f"{number + 1} ({kind})", process)

    def _have_been_quiet(self) -> bool:
        for one in self._others:
            assert one.process.poll() is None, f"bystander {one.name} ended at once"
            troubles = [sample.trouble for sample in one.samples if sample.trouble]
            assert not troubles, f"bystander {one.name} is in trouble before anybody misbehaves: {troubles[0]}"
        return all(len(one.samples) >= WARM_UP + QUIET for one in self._others)

    def _stop(self) -> None:
        for one in self._others:
            one.ask_to_end()
        for one in self._others:
            one.end(self._timeout + 5)

    # what they saw

    def quiet(self) -> dict[str, Figures]:
        """The results of each bystander before the block, by name."""
        return {one.name: Figures.of(one.samples[WARM_UP:][:QUIET]) for one in self._others}

    def seen(self) -> dict[str, list[Sample]]:
        """The requests during the block, by name; when called inside the block, those up to now."""
        if self._ended == float("inf"):
            self._wait_for_answers()
        return {one.name: one.since(self._begun, self._ended) for one in self._others}

    def _wait_for_answers(self) -> None:
        """Returns once each has finished a request that began after this call, so all earlier ones are counted."""
        now = time.monotonic()
        for one in self._others:
            wait_until(partial(one.began_after, now), self._timeout + 5, f"an answer for bystander {one.name}")

    def assert_unharmed(self, most_seconds: float = 0.5, *, ratio: float = 3.0, floor: float = 0.05) -> None:
        """Fails when a bystander had an error, when an answer took more than `most_seconds`, or when its p99 or median
        in the block is above `ratio` times that of the quiet phase. A p99 below `floor` seconds and a median below half
        of it are always accepted.

        Time without a processor does not count (Linux): the service is not to blame for other work on the machine.
        May be called inside the block too.
        """
        quiet = self.quiet()
        harm = [
            f"bystander {name}: {what}"
            for name, samples in self.seen().items()
            for what in _harm(samples, quiet[name], most_seconds, ratio, floor)
        ]
        assert not harm, "\n".join([*harm, str(self)])

    def __str__(self) -> str:
        """The results of each in both phases, for the text of a failure or a measured line."""
        lines = []
        for one in self._others:
            quiet, block = one.samples[WARM_UP:][:QUIET], one.since(self._begun, self._ended) if self._begun else []
            for phase, samples in (("quiet", quiet), ("in the block", block)):
                lines.append(f"bystander {one.name} {phase}: {Figures.of(samples) if samples else 'no request'}")
        return "\n".join(lines)


def _harm(samples: Sequence[Sample], quiet: Figures, most: float, ratio: float, floor: float) -> list[str]:
    if not samples:
        return ["no request at all"]
    harm = [f"{sample.trouble} after {sample.seconds:.3f} s" for sample in samples if sample.trouble][:3]
    seen = Figures.of(samples)
    bounds = {
        "worst": (seen.worst, most),
        "p99": (seen.p99, max(floor, ratio * quiet.p99)),
        "median": (seen.median, max(floor / 2, ratio * quiet.median)),
    }
    for name, (value, bound) in bounds.items():
        if value > bound:
            harm.append(f"{name} {value * 1e3:.1f} ms, at most {bound * 1e3:.1f} ms allowed")
    return harm
