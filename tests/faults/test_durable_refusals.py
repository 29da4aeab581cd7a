"""The server refuses the steps of the durable layer, or somebody removes its keys: one line for each change of state,
red readiness while it lasts, nothing is lost, and the service goes on by itself."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gevent
import pytest
import redis
from daebus_runtime import BusUnavailable, DaebusCaller, DaebusError, RemoteError
from daebus_runtime.errors import BusRefused, NotPermitted

from tests.faults.instruments import Start
from tests.faults.mill import START_SECONDS, Mill, answers, caller
from tests.support import durable
from tests.support.redis_server import RedisServer
from tests.support.waiting import wait_until

pytestmark = pytest.mark.slow
KEY = "daebus:{mill}:"


@pytest.fixture
def mill(redis_server: RedisServer, start_process: Start, tmp_path: Path) -> Mill:
    return Mill(start_process, redis_server.url, tmp_path).ready()


@pytest.fixture
def client(redis_server: RedisServer) -> Iterator[redis.Redis]:
    client = redis_server.client()
    yield client
    client.close()


def held_call(mill: Mill, to: DaebusCaller, number: int, timeout: float = 30) -> gevent.Greenlet[..., Any]:
    """A call whose handler has begun, and waits for `release`."""
    call = gevent.spawn(to.send_request, "wait", number, timeout=timeout)
    mill.wait_run("began", "wait", number)
    return call


def commits(to: DaebusCaller) -> bool:
    """Whether a call goes through the stream."""
    try:
        return bool(to.send_request("count", "probe", timeout=2) == "probe")
    except RemoteError:
        return False


def test_keys_that_somebody_removes_are_made_anew(
    mill: Mill, redis_server: RedisServer, client: redis.Redis, tmp_path: Path
) -> None:
    to = caller(redis_server)
    answers(to)
    removals: list[Callable[[], Any]] = [
        lambda: client.delete(f"{KEY}requests"),
        lambda: client.xgroup_destroy(f"{KEY}requests", "workers"),
        lambda: client.delete(f"{KEY}replicas"),
        lambda: client.delete(f"{KEY}meta"),
        lambda: client.delete(f"{KEY}beats"),
        lambda: client.flushall(),
    ]
    for number, remove in enumerate(removals):
        lines = len(mill.process.lines)
        # For a second after a service was unknown, its callers publish; and what is published cannot be committed.
        wait_until(lambda: commits(to))
        call = held_call(mill, to, number)
        remove()
        assert answers(to, 5) < 3
        (tmp_path / "release").touch()
        if number < 4:  # the replica is known, so the outcome of what it runs counts
            assert call.get(timeout=5) == mill.process.pid
        else:
            call.kill()
        (tmp_path / "release").unlink()
        mill.management.wait_ready(3)
        assert len(mill.runs("began", "wait", number)) == 1
        said = [line for line in mill.process.lines[lines:] if "WARNING" in line or "ERROR" in line]
        assert len(said) <= 1, said
    assert 1 <= mill.said("removed the stream") <= 2  # one line for what happens within half a second
    wait_until(lambda: mill.said("was taken out of the bus") == 2, message=lambda: mill.process.output)
    assert not durable.untrue_lags(client)


def test_a_key_of_another_type_is_named_until_it_is_removed(
    mill: Mill, redis_server: RedisServer, client: redis.Redis, tmp_path: Path
) -> None:
    to = caller(redis_server)
    for number, key in enumerate(["meta", "requests", "beats"], 1):
        call = held_call(mill, to, number)
        client.set(KEY + key, "something else")
        (tmp_path / "release").touch()
        mill.management.wait_not_ready("WRONGTYPE")
        begun = time.monotonic()
        with pytest.raises(DaebusError, match="WRONGTYPE"):
            to.send_request("echo", {}, timeout=10)
        assert time.monotonic() - begun < 1
        client.delete(KEY + key)
        mill.management.wait_ready()
        answers(to)
        if key == "meta":
            assert call.get(timeout=10) == mill.process.pid
        call.kill()
        (tmp_path / "release").unlink()
        assert mill.said("WRONGTYPE") == number, mill.process.output
        assert mill.said("receives its requests again") == number, mill.process.output


def test_a_server_without_memory_keeps_what_is_running(
    mill: Mill, redis_server: RedisServer, client: redis.Redis, tmp_path: Path
) -> None:
    to = caller(redis_server)
    calls = [held_call(mill, to, number) for number in range(3)]
    client.config_set("maxmemory-policy", "noeviction")
    client.config_set("maxmemory", 1)
    (tmp_path / "release").touch()
    mill.management.wait_not_ready("OOM")
    with pytest.raises(BusRefused, match="OOM"):
        to.send_request("echo", {}, timeout=5)
    assert not any(call.ready() for call in calls)
    client.config_set("maxmemory", 0)
    assert [call.get(timeout=5) for call in calls] == [mill.process.pid] * 3
    mill.management.wait_ready()
    assert client.hgetall("counts") == {"0": "1", "1": "1", "2": "1"}
    assert len(mill.runs("began", "wait")) == 3
    assert mill.said("OOM") == 1, mill.process.output
    assert mill.said("receives its requests again") == 1
    durable.check(client)


def test_a_server_that_only_reads_for_a_while_is_waited_for(
    mill: Mill, redis_server: RedisServer, client: redis.Redis, tmp_path: Path
) -> None:
    to = caller(redis_server)
    call = held_call(mill, to, 1)
    client.replicaof("127.0.0.1", "1")
    (tmp_path / "release").touch()
    mill.management.wait_not_ready("READONLY")
    waiting = gevent.spawn(to.send_request, "echo", 7, timeout=20)
    with pytest.raises(BusUnavailable):
        to.send_to_service({}, "echo")
    client.replicaof("NO", "ONE")
    assert call.get(timeout=5) == mill.process.pid
    assert waiting.get(timeout=5) == 7
    mill.management.wait_ready()
    assert client.hgetall("counts") == {"1": "1"}
    assert mill.said("READONLY") == 1, mill.process.output


def test_a_server_that_loads_its_data_is_waited_for(start_process: Start, tmp_path: Path) -> None:
    with RedisServer(arguments=["--appendonly", "yes", "--key-load-delay", "500"]) as server:
        mill = Mill(start_process, server.url, tmp_path).ready()
        to, client = caller(server), server.client()
        call = held_call(mill, to, 1)
        pipe = client.pipeline(transaction=False)
        for number in range(4000):
            pipe.set(f"k{number}", 1)
        pipe.execute()
        client.close()
        server.kill()
        (tmp_path / "release").touch()
        server.start()
        calls = [gevent.spawn(to.send_request, "echo", number, timeout=20) for number in range(100)]
        assert [one.get(timeout=20) for one in calls] == list(range(100))
        assert call.get(timeout=5) == mill.process.pid
        mill.management.wait_ready()
        assert mill.said("ERROR") <= 1, mill.process.output


def test_a_missing_permission_is_named_and_used_once_it_is_given(
    redis_server: RedisServer, client: redis.Redis, start_process: Start, tmp_path: Path
) -> None:
    allow(client, "~mine:*")
    url = f"redis://bob:pw@127.0.0.1:{redis_server.port}/0"
    mill, to = Mill(start_process, url, tmp_path), caller(url)
    mill.management.wait_not_ready("ACL SETUSER bob ~daebus:*", START_SECONDS)
    for refused, missing in (
        ("-xreadgroup", r"\+xreadgroup"),
        ("-evalsha", r"\+evalsha"),
        ("-hincrby", r"\+.*hincrby"),
    ):
        allow(client, "~*")
        mill.management.wait_ready()
        answers(to)
        allow(client, "~*", refused)
        mill.process.wait_line(f"ACL SETUSER bob .*{missing}")
        mill.management.wait_not_ready("ACL SETUSER bob")
    allow(client, "~*", "-xadd")
    mill.management.wait_ready()
    with pytest.raises(NotPermitted, match=r"\+xadd"):
        to.send_request("echo", {}, timeout=5)
    assert mill.said("cannot be served") == 4, mill.process.output
    assert mill.said("receives its requests again") == 4, mill.process.output


def allow(client: redis.Redis, *rules: str) -> None:
    """Give the user bob every permission but these."""
    command = ("ACL", "SETUSER", "bob", "reset", "on", ">pw", "+@all", "&*", *rules)
    client.execute_command(*command)  # type: ignore[no-untyped-call]


def test_a_command_of_a_commit_that_the_server_refuses_fails_this_call_only(
    mill: Mill, redis_server: RedisServer, client: redis.Redis
) -> None:
    to = caller(redis_server)
    client.hset("counts", "bad", "no number")
    calls = [gevent.spawn(to.send_request, "count", name, timeout=5) for name in ("a", "bad", "b", "c")]
    gevent.joinall(calls)
    assert [call.value for call in calls] == ["a", None, "b", "c"]
    assert "not an integer" in str(calls[1].exception)
    assert client.hgetall("counts") == {"a": "1", "b": "1", "c": "1", "bad": "no number"}
    wait_until(lambda: durable.group(client, "mill")["pending"] == 0)
    durable.check(client)
