"""Redis is killed and comes back: services and callers work again at once, are not restarted, and get no message twice.

After 8 s without Redis the original never receives anything again (api.md, "What the original gets wrong", 1).
"""

from __future__ import annotations

from collections.abc import Mapping

import gevent
import pytest

from tests.faults.instruments import (
    CALLER,
    GARDEN,
    SHED,
    Management,
    Start,
    after,
    best_of,
    open_connections,
    settings,
    start_and_time,
    wait_after,
    wait_for_subscribers,
)
from tests.support import wire
from tests.support.redis_server import RedisServer
from tests.support.waiting import wait_until

OUTAGE_SECONDS = 8.0
LIMIT_SECONDS = 0.5


class Traffic:
    """A service, another one that calls it and listens to it, and a plain program that calls it, all busy."""

    def __init__(self, server: RedisServer, start: Start, port: int) -> None:
        self.server = server
        self.management = Management(port)
        self.garden = start(GARDEN, env=settings(server.url, management=port), name="garden.py")
        self.shed = start(SHED, env=settings(server.url), name="shed.py")
        self.caller = start(CALLER, env=settings(server.url), name="caller.py")
        self.garden.wait_line("service garden started")
        self.management.wait_ready()
        self.working_after(0.0)

    def working_after(self, moment: float) -> dict[str, float]:
        """The seconds from `moment` until each of them works again."""
        return {
            "caller": wait_after(self.caller, "call", moment) - moment,
            "service that calls": wait_after(self.shed, "ask", moment) - moment,
            "broadcasts": wait_after(self.shed, "tick", moment) - moment,
        }

    def outage(self, seconds: float) -> Mapping[str, float]:
        """Kill Redis and start it again; the seconds from its first accepted connection until each works again."""
        self.server.kill()
        gevent.sleep(seconds)  # the outage itself, not a wait for something
        back = start_and_time(self.server)
        return self.working_after(back)

    def check_nothing_doubled(self, before: list[str]) -> None:
        client = self.server.client()
        wait_for_subscribers(client, ["garden", "shed", "ticks"])
        wait_until(lambda: client.pubsub_numpat() == 1)
        wait_until(lambda: open_connections(client) == before, 5, lambda: f"{open_connections(client)} != {before}")
        inbox = "caller:once"
        with wire.Listener(client, inbox) as replies:
            request = {"action": "echo", "payload": 1, "reply_to": inbox, "request_id": "once"}
            assert wire.publish(client, "garden", request) == 1
            wire.publish(client, "garden", {**request, "request_id": "last"})
            replies.wait_where(lambda reply: reply["request_id"] == "last")
            assert [reply["request_id"] for reply in replies.messages] == ["once", "last"]
        client.close()


@pytest.fixture
def traffic(redis_server: RedisServer, start_process: Start, free_port: int) -> Traffic:
    return Traffic(redis_server, start_process, free_port)


def check(traffic: Traffic, rounds: int, all_rounds: bool) -> str:
    client = traffic.server.client()
    before = open_connections(client)
    client.close()
    medians = best_of(rounds, lambda: traffic.outage(OUTAGE_SECONDS), LIMIT_SECONDS, all_rounds=all_rounds)
    traffic.management.wait_ready(1)
    traffic.check_nothing_doubled(before)
    for process, word in ((traffic.caller, "call"), (traffic.shed, "ask")):
        assert process.running
        assert not after(process, word, 0, "WRONG")
    return medians


@pytest.mark.alone
@pytest.mark.slow
def test_kill_9_and_a_restart_8_s_later_under_traffic(traffic: Traffic, capsys: pytest.CaptureFixture[str]) -> None:
    medians = check(traffic, 3, all_rounds=False)
    with capsys.disabled():
        print(f"\nafter kill -9 and {OUTAGE_SECONDS:g} s, working again in: {medians}")


@pytest.mark.alone
@pytest.mark.long
def test_kill_9_three_times_in_a_row(traffic: Traffic, capsys: pytest.CaptureFixture[str]) -> None:
    medians = check(traffic, 3, all_rounds=True)
    with capsys.disabled():
        print(f"\nafter kill -9 and {OUTAGE_SECONDS:g} s, working again in: {medians}")


def test_many_short_outages_leave_nothing_doubled(traffic: Traffic) -> None:
    client = traffic.server.client()
    before = open_connections(client)
    client.close()
    for _ in range(5):
        traffic.outage(0.1)
    traffic.check_nothing_doubled(before)
    # One log line for each change, however many connections and attempts there were.
    for process in (traffic.garden, traffic.shed):
        assert process.count("is away") == 5, process.output
        assert process.count("is connected") == 6, process.output
    assert traffic.management.metric("daebus_bus_reconnects_total") >= 10


@pytest.mark.alone
def test_a_broadcast_during_a_short_outage_arrives_after_it(traffic: Traffic) -> None:
    """A publish waits `DAEBUS_SEND_SECONDS` for a lost bus, so a task that broadcasts need not handle the outage."""
    server = traffic.server
    server.kill()
    wait_until(lambda: traffic.garden.count("is away"))
    back = start_and_time(server)
    traffic.working_after(back)
    # A call may fail that Redis had received but not answered. No call may fail that began while there was no Redis.
    assert "there was no connection to the bus" not in traffic.garden.output
    assert traffic.garden.count("task 'tick' failed") <= 1, traffic.garden.output
