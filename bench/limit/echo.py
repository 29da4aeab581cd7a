"""Both ends of the bare link, and the measurement at the calling end."""

from __future__ import annotations

import json
import os
import sys
import time
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


def call(kind: str, url: str, callers: int, seconds: float) -> int:
    inbox = f"bare:replies:{os.getpid()}"
    waiting: dict[int, Any] = {}
    latencies: list[float] = []
    errors = 0
    last = 0
    stopping = False
    hub = get_hub()
    soon = hub.loop.run_callback
    clock = time.perf_counter

    def receive(_: bytes, data: bytes) -> None:
        message = orjson.loads(data)
        caller = waiting.pop(message["id"], None)
        if caller is not None:
            soon(caller.switch, message["p"])

    link = BareLink(url, on_message=receive)
    link.reader.link_exception(lambda _: os._exit(1))
    link.subscribe(inbox)
    link.call("PING")

    def send(data: bytes) -> None:
        if kind == "pubsub":
            link.post(pack("PUBLISH", SERVICE, data))
        else:
            link.post(pack("XADD", STREAM, "MAXLEN", "~", 20_000, "*", "d", data))

    def caller() -> None:
        nonlocal errors, last
        while not stopping:
            last += 1
            identity, begun = last, clock()
            waiting[identity] = getcurrent()
            send(orjson.dumps({"id": identity, "r": inbox, "m": "echo", "p": BODY}))
            if hub.switch() != BODY:
                errors += 1
            latencies.append(clock() - begun)

    for _ in range(callers):
        gevent.spawn(caller)
    gevent.sleep(WARM_UP)
    latencies.clear()
    begun = clock()
    gevent.sleep(seconds)
    measured, elapsed = sorted(latencies), clock() - begun
    stopping = True
    count = len(measured)
    figures = {
        "rate": round(count / elapsed),
        "p50": round(measured[count // 2] * 1e6) if count else None,
        "p99": round(measured[int(count * 0.99)] * 1e6) if count else None,
        "errors": errors,
    }
    print(json.dumps(figures), flush=True)
    return 0 if count and not errors else 1


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
