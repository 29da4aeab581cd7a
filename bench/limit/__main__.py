"""python -m bench.limit serve KIND URL
python -m bench.limit call KIND URL CALLERS SECONDS

KIND is `pubsub` (request and reply by PUBLISH) or `stream` (the durable design without features: XADD, XREADGROUP in
batches of 128, reply by PUBLISH, one XACK per batch). `call` prints one line of JSON: rate, p50 and p99 in
microseconds, errors; its exit code is 1 when a reply was wrong or none came.
"""

from __future__ import annotations

import sys

from gevent import monkey


def main() -> int:
    monkey.patch_all()
    from .echo import run

    code = run(sys.argv[1:])
    if code == 2:
        print(__doc__, file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
