"""A server whose rules (ACL, rename-command) forbid a subscription or a message: one log line names the missing
permission, everything else works, and a permission that is granted later is used."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Callable, Iterator

import pytest
from daebus_runtime import BusUnavailable, DaebusCaller
from daebus_runtime.errors import BusRefused, NotPermitted
from daebus_runtime.transport import Limits, home, subscriptions, topology
from daebus_runtime.transport.redis import RedisTransport

from tests.faults.instruments import Management, Start, settings
from tests.support.bystanders import Bystanders
from tests.support.redis_server import RedisServer
from tests.support.waiting import wait_until

Make = Callable[[str], RedisTransport]

TWO = """
    from daebus import Daebus, request
    app = Daebus("garden")
    @app.action("ping")
    def ping():
        return request.payload
    @app.listen("allowed.news")
    def allowed(message):
        print("heard", message["text"], flush=True)
    @app.listen("forbidden.news")
    def forbidden(message):
        print("heard", message["text"], flush=True)
    app.run()
"""


def rules(server: RedisServer, *rules: str) -> str:
    """Create a user with these ACL rules; the address with which to connect as this user."""
    client = server.client()
    client.execute_command("ACL", "SETUSER", "bob", "reset", "on", ">pw", "+@all", "~*", *rules)  # type: ignore[no-untyped-call]
    client.close()
    return f"redis://bob:pw@127.0.0.1:{server.port}/0"


@pytest.fixture
def transport_to() -> Iterator[Make]:
    made: list[RedisTransport] = []

    def make(url: str) -> RedisTransport:
        made.append(RedisTransport(topology.of(url), home.current(), Limits(1 << 20, 1.0)))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.mark.alone
def test_with_one_forbidden_channel_the_rest_of_the_service_works(
    redis_server: RedisServer, start_process: Start, free_port: int
) -> None:
    url = rules(redis_server, "resetchannels", "&garden", "&daebus:*", "&allowed.*", "&caller:*")
    management = Management(free_port)
    garden = start_process(TWO, env=settings(url, management=free_port))
    garden.wait_line("is refused")
    client = redis_server.client()
    wait_until(lambda: client.pubsub_numsub("garden")[0][1] == 1)
    before = client.info("stats")["total_connections_received"]
    with Bystanders(redis_url=redis_server.url, service="garden") as others:
        client.publish("allowed.news", json.dumps({"text": "yes"}))
        garden.wait_line("heard yes")
        assert management.get("/readyz")[0] == 503
        assert "'forbidden.news' is refused" in management.get("/readyz")[1]
        wait_until(
            lambda: client.info("commandstats")["cmdstat_subscribe"]["rejected_calls"] >= 2, 5
        )  # it has tried again
    others.assert_unharmed()
    line = garden.wait_line("is refused")[0] and next(line for line in garden.lines if "is refused" in line)
    assert "ACL SETUSER bob +subscribe &forbidden.news" in line
    assert garden.count("is refused") == 1, garden.output
    assert garden.count("is away") == 0, garden.output
    assert client.info("stats")["total_connections_received"] - before <= 5, "it does not connect again and again"
    rules(redis_server, "allchannels")
    management.wait_ready(5)
    client.publish("forbidden.news", json.dumps({"text": "at last"}))
    garden.wait_line("heard at last")
    client.close()


@pytest.mark.parametrize("hidden", ["SUBSCRIBE", "PSUBSCRIBE"])
def test_a_renamed_command_is_named_and_patterns_or_channels_still_work(
    hidden: str, transport_to: Make, caplog: pytest.LogCaptureFixture
) -> None:
    with RedisServer(arguments=["--rename-command", hidden, ""]) as server:
        transport = transport_to(server.url)
        heard: list[bytes] = []
        kinds = {name: transport.subscribe(name, lambda channel, data: heard.append(data)) for name in ("a", "b", "c*")}
        works = "c*" if hidden == "SUBSCRIBE" else "a"
        wait_until(lambda: kinds[works].confirmed)
        refused = [name for name in kinds if kinds[name].refused]
        assert refused == (["a", "b"] if hidden == "SUBSCRIBE" else ["c*"])
        assert f"Daebus needs {hidden}" in kinds[refused[0]].refused
        wait_until(lambda: any("is refused" in record.getMessage() for record in caplog.records))
        assert sum("is refused" in record.getMessage() for record in caplog.records) == 1
        transport.publish("c1" if works == "c*" else "a", b"{}")
        wait_until(lambda: heard)


def test_the_pause_between_attempts_grows(
    redis_server: RedisServer, transport_to: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subscriptions, "RETRY_FIRST", 0.1)
    transport = transport_to(rules(redis_server, "resetchannels"))
    client = redis_server.client()
    subscription = transport.subscribe("nowhere", lambda channel, data: None)
    attempts: list[float] = []

    def tried() -> int:
        count = client.info("commandstats").get("cmdstat_subscribe", {}).get("rejected_calls", 0)
        while len(attempts) < count:
            attempts.append(time.monotonic())
        return len(attempts)

    wait_until(lambda: tried() >= 5, 10)
    pauses = [later - earlier for earlier, later in itertools.pairwise(attempts)]
    assert pauses[-1] > 2.5 * pauses[0], pauses
    assert not subscription.confirmed
    subscription.cancel()
    client.close()


def test_an_error_is_matched_to_its_channel_among_other_commands(redis_server: RedisServer, transport_to: Make) -> None:
    transport = transport_to(rules(redis_server, "resetchannels", "&ok*"))
    subscriptions = [transport.subscribe(f"{'ok' if number % 3 else 'no'}{number}", print) for number in range(60)]
    for subscription in subscriptions[1::3]:
        subscription.cancel()
    wait_until(lambda: all(s.confirmed for s in subscriptions[2::3]))
    wait_until(lambda: all(s.refused for s in subscriptions[0::3]))
    assert not any(s.confirmed or s.refused for s in subscriptions[1::3])


# --- calls and messages ----------------------------------------------------------------------------------------------
def test_a_call_without_permission_fails_at_once_and_names_the_permission(redis_server: RedisServer) -> None:
    caller = DaebusCaller("garden", redis_url=rules(redis_server, "resetkeys", "~other", "resetchannels", "&caller:*"))
    begun = time.monotonic()
    with pytest.raises(NotPermitted, match=r"'garden', action 'ping'.*ACL SETUSER bob ~daebus:\*") as raised:
        caller.send_request("ping", {}, 30)
    assert isinstance(raised.value, PermissionError)
    assert not isinstance(raised.value, BusUnavailable)
    assert raised.value.code == "not_permitted"
    with pytest.raises(NotPermitted, match=r"ACL SETUSER bob ~daebus:\*"):
        caller.send_to_service({}, "ping")
    with pytest.raises(NotPermitted, match=r"ACL SETUSER bob \+publish &garden"):
        caller.send_message("garden", {})
    assert time.monotonic() - begun < 2


def test_a_call_whose_reply_cannot_be_received_fails_at_once_until_it_is_allowed(
    redis_server: RedisServer, start_process: Start
) -> None:
    garden = start_process(TWO, env=settings(redis_server.url))
    garden.wait_line("is connected")
    caller = DaebusCaller("garden", redis_url=rules(redis_server, "resetchannels", "&garden"))
    for _ in range(3):
        begun = time.monotonic()
        with pytest.raises(NotPermitted, match=r"\+subscribe &caller:\*"):
            caller.send_request("ping", {}, 30)
        assert time.monotonic() - begun < 2
    rules(redis_server, "resetchannels", "&garden", "&caller:*")
    assert caller.send_request("ping", 1, 5) == 1


def test_a_renamed_publish_command_is_refused_at_once_and_named(redis_server: RedisServer) -> None:
    with RedisServer(arguments=["--rename-command", "PUBLISH", ""]) as server:
        with pytest.raises(BusRefused, match="Daebus needs PUBLISH") as raised:
            DaebusCaller("garden", redis_url=server.url).send_message("garden", {})
        assert raised.value.code == "bus_refused"


def test_a_reply_that_the_rules_forbid_is_counted_and_logged_once(
    redis_server: RedisServer, start_process: Start, free_port: int
) -> None:
    url = rules(redis_server, "resetchannels", "&garden", "&allowed.*", "&forbidden.*")
    garden = start_process(TWO, env=settings(url, management=free_port))
    garden.wait_line("is connected")
    client = redis_server.client()
    wait_until(lambda: client.pubsub_numsub("garden")[0][1] == 1)
    for number in range(20):
        client.publish("garden", json.dumps({"action": "ping", "reply_to": "elsewhere", "request_id": number}))
    wait_until(lambda: Management(free_port).metric('daebus_messages_dropped_total{reason="refused"}') == 20)
    assert garden.count("was not taken by the bus") == 1, garden.output
    client.close()
