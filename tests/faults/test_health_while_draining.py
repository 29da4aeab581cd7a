"""/livez, /readyz and the health command while a service drains: it is alive, but no longer ready."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import pytest

from tests.faults.instruments import GARDEN, Management, Start, settings
from tests.support import wire
from tests.support.redis_server import RedisServer

pytestmark = pytest.mark.alone


def test_health_tells_the_truth_while_work_in_flight_finishes(
    shared_redis: RedisServer, start_process: Start, free_port: int, tmp_path: Path
) -> None:
    management = Management(free_port)
    garden = start_process(GARDEN, env=settings(shared_redis.url, management=free_port))
    garden.wait_line("service garden started")
    management.wait_ready()
    assert management.health() == (0, '/readyz: 200 {"ready":true,"reasons":[]}\n')
    client = shared_redis.client()
    with wire.Listener(client, "caller:drain") as replies:
        request = {"action": "held", "payload": None, "reply_to": "caller:drain", "request_id": 1}
        wire.publish(client, "garden", request)
        garden.wait_line("held began")
        garden.signal(signal.SIGTERM)
        management.wait_not_ready("draining", 1)
        assert management.get("/livez")[0] == 200
        code, text = management.health()
        assert (code, "draining" in text) == (1, True), text
        assert management.health("--live")[0] == 0
        (tmp_path / "release").touch()
        (reply,) = replies.wait_for(1, timeout=10)
        assert reply["payload"] == "held done"
        answered = time.monotonic()
    assert garden.wait(5) == 0
    assert time.monotonic() - answered < 2, "idle after its last work, and did not end"
    assert management.get("/livez")[0] == 0
    client.close()
