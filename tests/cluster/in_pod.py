"""A client for the inside of a cluster, where only Python's standard library is; the tests hand it to a pod as text.

in_pod.py ask METHOD URL             one request; prints `{"status": 200, "body": …}`
in_pod.py until METHOD URL SECONDS   asks again and again; prints how many seconds it took until the answer was 200
in_pod.py flood METHOD URL CLIENTS   asks without a pause, each time on a new connection, until its input ends;
                                     prints `{"answers": 812, "failures": ["+1.52 s: …"]}`
"""

from __future__ import annotations

import http.client
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


def until(method: str, url: str, seconds: float) -> float:
    """How long it took until the answer was 200. Raises SystemExit with the last answer when it never was."""
    begun = time.monotonic()
    last = ""
    while time.monotonic() < begun + seconds:
        try:
            status, last = ask(method, url, 2.0)
            if status == 200:
                return time.monotonic() - begun
        except (OSError, http.client.HTTPException) as error:
            last = repr(error)
        time.sleep(0.02)
    raise SystemExit(f"no 200 within {seconds:g} s, at last: {last}")


class Flood:
    """Clients that ask at the same time, and what became of it."""

    def __init__(self, method: str, url: str) -> None:
        self.method, self.url = method, url
        self.ended = threading.Event()
        self.begun = time.monotonic()
        self.answers = 0
        self.failures: list[str] = []

    def client(self) -> None:
        while not self.ended.is_set():
            begun = time.monotonic() - self.begun
            try:
                status, body = ask(self.method, self.url)
            except (OSError, http.client.HTTPException) as error:
                self.failures.append(f"+{begun:.2f} s: {error!r}")
            else:
                if status == 200:
                    self.answers += 1
                else:
                    self.failures.append(f"+{begun:.2f} s: {status} {body[:200]}")
            time.sleep(0.005)

    def run(self, clients: int) -> dict[str, object]:
        threads = [threading.Thread(target=self.client) for _ in range(clients)]
        for thread in threads:
            thread.start()
        sys.stdin.read()
        self.ended.set()
        for thread in threads:
            thread.join()
        return {"answers": self.answers, "failures": self.failures}


def main(what: str, method: str, url: str, number: str = "1") -> None:
    if what == "ask":
        status, body = ask(method, url)
        print(json.dumps({"status": status, "body": body}))
    elif what == "until":
        print(until(method, url, float(number)))
    else:
        print(json.dumps(Flood(method, url).run(int(number))))


if __name__ == "__main__":
    main(*sys.argv[1:])
