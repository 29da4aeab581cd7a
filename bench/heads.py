"""What it costs to parse the head of a request, beside httptools: `python -m bench.heads`. Microseconds, the best of
several tries.

httptools calls a function for each field. It finds no invalid Host, no repeated field and no malformed target; ours
includes those checks.
"""

from __future__ import annotations

import sys
import timeit
from typing import Any

from daebus_runtime.servers.http.head import read_head

from .web import peers_python

SMALL = b"GET /hello HTTP/1.1\r\nHost: 127.0.0.1:8080\r\n\r\n"
BROWSER = (
    b"GET /hello?page=2 HTTP/1.1\r\nHost: 127.0.0.1:8080\r\n"
    b"User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:130.0) Gecko/20100101 Firefox/130.0\r\n"
    b"Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\nAccept-Language: en-US,en;q=0.5\r\n"
    b"Accept-Encoding: gzip, deflate, br, zstd\r\nConnection: keep-alive\r\nCookie: session=0123456789abcdef\r\n"
    b"Upgrade-Insecure-Requests: 1\r\nSec-Fetch-Dest: document\r\nSec-Fetch-Mode: navigate\r\n"
    b"Sec-Fetch-Site: none\r\nPriority: u=0, i\r\n\r\n"
)
TIMES, TRIES = 20_000, 7


class File:
    """What `read_head` needs of a buffered file."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def read(self, size: int) -> bytes:
        return self._data[:size]


class Parsed:
    """Takes what httptools finds, in the form in which `Head` has it."""

    def __init__(self) -> None:
        self.fields: dict[str, str] = {}
        self.url = b""

    def on_url(self, url: bytes) -> None:
        self.url = url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.fields[name.decode("latin-1").lower()] = value.decode("latin-1")


def with_httptools(httptools: Any, data: bytes) -> Parsed:
    found = Parsed()
    parser = httptools.HttpRequestParser(found)
    parser.feed_data(data)
    parser.get_method()
    parser.get_http_version()
    parser.should_keep_alive()
    httptools.parse_url(found.url)
    return found


def cost(function: Any) -> float:
    return min(timeit.repeat(function, number=TIMES, repeat=TRIES)) / TIMES * 1e6


def main() -> None:
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    sys.path.append(str(peers_python().parent.parent / "lib" / version / "site-packages"))
    import httptools  # type: ignore[import-not-found, unused-ignore]

    for name, data in (("2 lines", SMALL), (f"{data_lines(BROWSER)} lines, a browser's", BROWSER)):
        file = File(data)
        ours = cost(lambda file=file, data=data: read_head(file, data, "127.0.0.1:8080"))
        other = cost(lambda data=data: with_httptools(httptools, data))
        print(f"| {name} | {ours:.2f} | {other:.2f} | {other / ours:.2f} |")


def data_lines(data: bytes) -> int:
    return data.count(b"\r\n") - 1


if __name__ == "__main__":
    main()
