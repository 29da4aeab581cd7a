"""A service ends under traffic: every request that Redis delivered to it is answered."""

from __future__ import annotations

import signal
import time

import gevent
import pytest

from tests.faults.instruments import GARDEN, IDLE, Start, settings
from tests.support import wire
from tests.support.redis_server import RedisServer
from tests.support.waiting import wait_until

pytestmark = pytest.mark.alone

INBOX = "caller:traffic"


def test_every_request_that_had_a_receiver_is_answered(shared_redis: RedisServer, start_process: Start) -> None:
    garden = start_process(GARDEN, env=settings(shared_redis.url))
    garden.wait_line("on_start has run")
    accepted: set[str] = set()
    ended = False

    def ask(number: int) -> None:
        client = shared_redis.client()
        count = 0
        while not ended:
            count += 1
            identity = f"{number}/{count}"
            request = {"action": "echo", "payload": 1, "reply_to": INBOX, "request_id": identity}
            if not wire.publish(client, "garden", request):
                break
            accepted.add(identity)
        client.close()

    listening = shared_redis.client()
    with wire.Listener(listening, INBOX) as replies:
        asking = [gevent.spawn(ask, number) for number in range(8)]
        try:
            replies.wait_for(200)
            garden.signal(signal.SIGTERM)
            assert garden.wait(10) == 0
            gevent.joinall(asking, timeout=10, raise_error=True)
        finally:
            ended = True

        def unanswered() -> set[str]:
            return accepted - {reply["request_id"] for reply in replies.messages}

        wait_until(lambda: not unanswered(), 5, lambda: f"{len(unanswered())} of {len(accepted)} have no answer")
    listening.close()


def test_without_a_bus_the_end_waits_for_nothing(redis_server: RedisServer, start_process: Start) -> None:
    service = start_process(IDLE, env=settings(redis_server.url))
    service.wait_line("is connected")
    redis_server.kill()
    service.wait_line("is away")
    begun = time.monotonic()
    assert service.terminate(5) == 0
    assert time.monotonic() - begun < 0.9, service.output
