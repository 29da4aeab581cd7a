"""fixed_caller.py NAME PORT CALLERS COUNT: greenlets that share a DaebusCaller, COUNT requests in all.

Warms up with some requests, prints "ready" and waits for a line on standard input; then sends COUNT requests and prints
"done". So the parent can measure this process and the service over exactly COUNT requests. Every reply is checked.
"""

import os
import sys
from collections.abc import Iterator

import gevent
import gevent.monkey

gevent.monkey.patch_all()

from daebus import DaebusCaller  # noqa: E402

WARM_UP = 300
BODY = {"order": 12345, "items": ["a", "b", "c"], "note": "hello world"}

service, port, callers, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
caller = DaebusCaller(service, redis_host="127.0.0.1", redis_port=port, timeout=60)


def work(numbers: Iterator[int]) -> None:
    for number in numbers:
        payload = {"number": number, **BODY}
        if caller.send_request("echo", payload) != payload:
            raise SystemExit(f"a wrong reply to {number}")


def ask(total: int) -> None:
    numbers = iter(range(total))  # shared by all greenlets; a faster one sends more of them
    gevent.joinall([gevent.spawn(work, numbers) for _ in range(callers)], raise_error=True)


ask(WARM_UP)
print("ready", flush=True)
os.read(0, 1)
ask(count)
print("done", flush=True)
os.read(0, 1)
os._exit(0)
