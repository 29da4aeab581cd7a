"""rpc_caller.py NAME PORT CALLERS SECONDS [gevent]: callers, each waiting for its reply.

The same source runs on the original (threads) and on ours (`gevent` makes them greenlets). Prints a line of JSON: rate,
p50 and p99 in microseconds, errors. Every reply is checked by its value, which contains the request's number.
"""

import sys

if sys.argv[5:] == ["gevent"]:
    from gevent import monkey

    monkey.patch_all()

import json
import logging
import os
import threading
import time

from daebus import DaebusCaller

WARM_UP = 0.4
BODY = {"order": 12345, "items": ["a", "b", "c"], "note": "hello world"}

logging.disable(logging.CRITICAL)
service, port, callers, seconds = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])
# The original's connection pool (redis-py's default) raises above 100 connections, so at most 32 callers share one.
shared = [
    DaebusCaller(service, redis_host="127.0.0.1", redis_port=port, timeout=10) for _ in range((callers + 31) // 32)
]
latencies: list[float] = []
errors: list[str] = []
stopping = False


def work(first: int) -> None:
    number = first
    clock = time.perf_counter
    send_request = shared[first % len(shared)].send_request
    while not stopping:
        number += callers
        payload = {"number": number, **BODY}
        begun = clock()
        try:
            if send_request("echo", payload) != payload:
                errors.append(f"a wrong reply to {number}")
        except Exception as error:
            errors.append(repr(error))
        latencies.append(clock() - begun)


for first in range(callers):
    threading.Thread(target=work, args=(first,), daemon=True).start()
time.sleep(WARM_UP)
latencies.clear()
begun = time.perf_counter()
time.sleep(seconds)
measured, elapsed = sorted(latencies), time.perf_counter() - begun
stopping = True
count = len(measured)
figures = {
    "rate": round(count / elapsed),
    "p50": round(measured[count // 2] * 1e6) if count else None,
    "p99": round(measured[int(count * 0.99)] * 1e6) if count else None,
    "errors": len(errors),
}
print(json.dumps(figures), *errors[:1], flush=True)
os._exit(1 if errors or not count else 0)
