"""A service and its server hold no more after many messages than after some."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import gevent.pool
import pytest

from tests.faults.instruments import Start
from tests.faults.mill import Mill, caller
from tests.support import durable
from tests.support.redis_server import RedisServer
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.alone, pytest.mark.long]
MIB = 2**20


def resident(pid: int) -> int:
    """The memory that a process has, in bytes."""
    return int(re.findall(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())[0]) * 1024


def test_a_million_calls_leave_nothing_behind(
    redis_server: RedisServer, start_process: Start, tmp_path: Path, measured: Callable[[str], None]
) -> None:
    mill, to = Mill(start_process, redis_server.url, tmp_path).ready(), caller(redis_server)
    client = redis_server.client()

    def call(count: int) -> None:
        pool = gevent.pool.Pool(64)
        for number in range(count):
            pool.spawn(to.send_request, "echo", {"n": number}, timeout=60)
        pool.join()
        wait_until(lambda: durable.group(client, "mill")["pending"] == 0)

    call(10_000)
    before, server = resident(mill.process.pid), client.info("memory")["used_memory"]
    call(990_000)
    grown, more = resident(mill.process.pid) - before, client.info("memory")["used_memory"] - server
    measured(f"990,000 calls more: service {grown / MIB:.1f} MiB, server {more / MIB:.1f} MiB")
    assert grown < 5 * MIB
    assert more < 12 * MIB  # the outcomes: DAEBUS_OUTCOME_BYTES of text, in hashes
    assert client.xlen(durable.requests_of("mill")) <= 2
    durable.check(client)
    client.close()
