"""A client that runs in a pod, with Python's standard library only; the tests pass it to the pod as text.

    in_pod.py ask METHOD URL             one request; prints `{"status": 200, "body": …}`
    in_pod.py flood METHOD URL CLIENTS   asks without a pause, each time on a new connection, until its input ends;
                                         prints `{"answers": 812, "failures": ["+1.52 s: …"], "gap": 0.02}`
    in_pod.py kept METHOD URL CLIENTS    the same, but each client keeps its connection until an answer ends it

`gap` is the longest time, in seconds, in which no client got an answer.
"""

from __future__ import annotations

import http.client
import itertools
import json
import sys
import threading
import time
import urllib.parse


def ask(method: str, url: str, seconds: float = 10.0) -> tuple[int, str]:
    """Status and body of the answer. Raises OSError or HTTPException when there is none."""
    parts = urllib.parse.urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=seconds)
    try:
        connection.request(method, parts.path, headers={"Connection": "close"})
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


class Flood:
    """Clients that send requests at the same time, and their results."""

    def __init__(self, method: str, url: str, kept: bool = False) -> None:
        self.method, self.url, self.kept = method, url, kept
        self.ended = threading.Event()
        self.begun = time.monotonic()
        self.answered: list[float] = []
        self.failures: list[str] = []

    def client(self) -> None:
        parts = urllib.parse.urlsplit(self.url)
        connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=2.0)

        def ask_again() -> tuple[int, str]:
            try:
                connection.request(self.method, parts.path)
                answer = connection.getresponse()  # closes the connection if the answer says so
                return answer.status, answer.read().decode()
            except (OSError, http.client.HTTPException):
                connection.close()
                raise

        while not self.ended.is_set():
            begun = time.monotonic() - self.begun
            try:
                status, body = ask_again() if self.kept else ask(self.method, self.url, 2.0)
            except (OSError, http.client.HTTPException) as error:
                self.failures.append(f"+{begun:.2f} s: {error!r}")
            else:
                if status == 200:
                    self.answered.append(time.monotonic())
                else:
                    self.failures.append(f"+{begun:.2f} s: {status} {body[:200]}")
            time.sleep(0.005)
        connection.close()

    def run(self, clients: int) -> dict[str, object]:
        threads = [threading.Thread(target=self.client) for _ in range(clients)]
        for thread in threads:
            thread.start()
        sys.stdin.read()
        self.ended.set()
        for thread in threads:
            thread.join()
        times = sorted([self.begun, *self.answered, time.monotonic()])
        gap = max(later - earlier for earlier, later in itertools.pairwise(times))
        return {"answers": len(self.answered), "failures": self.failures, "gap": gap}


def main(what: str, method: str, url: str, number: str = "1") -> None:
    if what == "ask":
        status, body = ask(method, url)
        print(json.dumps({"status": status, "body": body}))
    else:
        print(json.dumps(Flood(method, url, kept=what == "kept").run(int(number))))


if __name__ == "__main__":
    main(*sys.argv[1:])
