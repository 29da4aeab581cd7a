"""Both ends of the bare link, and the measurement at the calling end."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any

import gevent
import orjson
import redis
from gevent import get_hub, getcurrent

from .link import BareLink, pack

SERVICE = "bare"
STREAM = "bare:stream"
GROUP = "bare:group"
BATCH = 128
BODY = {"order": 12345, "items": ["a", "b", "c"], "note": "hello world"}
WARM_UP = 0.4


def echo(payload: Any) -> Any:
    return payload


def reply(data: bytes) -> bytes:
    """The packed reply to a request."""
    request = orjson.loads(data)
    return pack("PUBLISH", request["r"], orjson.dumps({"id": request["id"], "p": echo(request["p"])}))


def serve_pubsub(url: str) -> None:
    link = BareLink(url, on_message=lambda _, data: link.post(reply(data)))
    link.subscribe(SERVICE)
    print("ready", flush=True)
    link.reader.get()


def serve_stream(url: str) -> None:
    with redis.Redis.from_url(url) as client:
        client.delete(STREAM)
        client.xgroup_create(STREAM, GROUP, id="$", mkstream=True)
    reading, writing = BareLink(url), BareLink(url)
    print("ready", flush=True)
    for link in (reading, writing):
        link.reader.link_exception(lambda _: os._exit(1))
    while True:
        found = reading.call("XREADGROUP", "GROUP", GROUP, "one", "COUNT", BATCH, "BLOCK", 2000, "STREAMS", STREAM, ">")
        if not found:
            continue
        entries = found[STREAM.encode()]
        for _, fields in entries:
            writing.post(reply(fields[1]))
        writing.post(pack("XACK", STREAM, GROUP, *[identity for identity, _ in entries]))


class Callers:
    """Callers at once, each with one request on its way, over one link. They go on until `stopping`."""

    def __init__(self, kind: str, url: str) -> None:
        self.inbox = f"bare:replies:{os.getpid()}"
        self.latencies: list[float] = []
        self.errors = 0
        self.stopping = False
        self._last = 0
        self._waiting: dict[int, Any] = {}
        self._link = BareLink(url, on_message=self._receiver())
        self._link.reader.link_exception(lambda _: os._exit(1))
        self._link.subscribe(self.inbox)
        self._link.call("PING")
        self._send = self._publish if kind == "pubsub" else self._append

    def _receiver(self) -> Callable[[bytes, bytes], None]:
        waiting, soon = self._waiting, get_hub().loop.run_callback

        def receive(_: bytes, data: bytes) -> None:
            message = orjson.loads(data)
            caller = waiting.pop(message["id"], None)
            if caller is not None:
                soon(caller.switch, message["p"])

        return receive

    def _publish(self, data: bytes) -> None:
        self._link.post(pack("PUBLISH", SERVICE, data))

    def _append(self, data: bytes) -> None:
        self._link.post(pack("XADD", STREAM, "MAXLEN", "~", 20_000, "*", "d", data))

    def call(self) -> None:
        """Run one caller."""
        hub, clock, send, waiting, inbox = get_hub(), time.perf_counter, self._send, self._waiting, self.inbox
        latencies = self.latencies
        while not self.stopping:
            self._last += 1
            identity, begun = self._last, clock()
            waiting[identity] = getcurrent()
            send(orjson.dumps({"id": identity, "r": inbox, "m": "echo", "p": BODY}))
            if hub.switch() != BODY:
                self.errors += 1
            latencies.append(clock() - begun)


def call(kind: str, url: str, count: int, seconds: float) -> int:
    callers = Callers(kind, url)
    for _ in range(count):
        gevent.spawn(callers.call)
    gevent.sleep(WARM_UP)
    callers.latencies.clear()
    begun = time.perf_counter()
    gevent.sleep(seconds)
    measured, elapsed = sorted(callers.latencies), time.perf_counter() - begun
    callers.stopping = True
    print(json.dumps(figures(measured, elapsed, callers.errors)), flush=True)
    return 0 if measured and not callers.errors else 1


def figures(latencies: list[float], elapsed: float, errors: int) -> dict[str, int | None]:
    """latencies: in seconds, sorted. p50 and p99 are microseconds."""
    count = len(latencies)
    return {
        "rate": round(count / elapsed),
        "p50": round(latencies[count // 2] * 1e6) if count else None,
        "p99": round(latencies[int(count * 0.99)] * 1e6) if count else None,
        "errors": errors,
    }


def run(arguments: list[str]) -> int:
    match arguments:
        case ["serve", "pubsub", url]:
            serve_pubsub(url)
        case ["serve", "stream", url]:
            serve_stream(url)
        case ["call", ("pubsub" | "stream") as kind, url, callers, seconds]:
            # Callers still wait for replies: exit without unwinding their greenlets.
            sys.stdout.flush()
            os._exit(call(kind, url, int(callers), float(seconds)))
        case _:
            return 2
    return 0
