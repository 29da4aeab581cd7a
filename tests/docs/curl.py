"""The part of curl that the pages and the READMEs use, so that the tests need no curl:
`curl [-i] [-w TEXT] [-X METHOD] [-H HEADER] [-d BODY] URL`.
"""

from __future__ import annotations

import argparse
import http.client
import sys
import urllib.parse


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("-i", action="store_true", dest="head")
    parser.add_argument("-s", action="store_true")
    parser.add_argument("-w", dest="after", default="")
    parser.add_argument("-X", dest="method")
    parser.add_argument("-H", dest="headers", action="append", default=[])
    parser.add_argument("-d", dest="body")
    parser.add_argument("url")
    options = parser.parse_args()
    parts = urllib.parse.urlsplit(options.url)
    headers = dict(line.split(": ", 1) for line in options.headers)
    if options.body is not None:
        headers.setdefault("Content-Type", "application/x-www-form-urlencoded")
    connection = http.client.HTTPConnection(parts.netloc, timeout=10)
    target = parts.path + (f"?{parts.query}" if parts.query else "")
    connection.request(options.method or ("POST" if options.body else "GET"), target, options.body, headers)
    answer = connection.getresponse()
    if options.head:
        sys.stdout.write(f"HTTP/1.1 {answer.status} {answer.reason}\n")
        sys.stdout.writelines(f"{name}: {value}\n" for name, value in answer.getheaders())
        sys.stdout.write("\n")
    sys.stdout.write(answer.read().decode() + options.after.replace("\\n", "\n"))


if __name__ == "__main__":
    main()
