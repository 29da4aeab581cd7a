"""Programs on the published daebus 0.0.31 and programs on ours, on one Redis, in both directions.

The same service text runs on both. The results differ only where the original has a bug.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from daebus_runtime import DaebusCaller, RemoteError

from tests.interop.programs import OriginalCaller, start_service, wait_for_service
from tests.support import wire
from tests.support.original import VERSION, original_python
from tests.support.process import ServiceProcess
from tests.support.redis_server import RedisServer
from tests.support.waiting import wait_until

# The environment of the original is downloaded at the first run.
pytestmark = pytest.mark.slow

ORIGINAL = "original_service"
OURS = "our_service"
Call = Callable[[str, Any], Any]


@pytest.fixture(scope="module")
def python() -> Path:
    return original_python()


@pytest.fixture(scope="module")
def redis(session_redis: RedisServer, tmp_path_factory: pytest.TempPathFactory, python: Path) -> Iterator[RedisServer]:
    """A Redis with both services on it."""
    directory = tmp_path_factory.mktemp("services")
    with (
        start_service(session_redis, directory, OURS, ORIGINAL) as ours,
        start_service(session_redis, directory, ORIGINAL, OURS, original=python) as original,
        session_redis.client() as client,
    ):
        wait_for_service(session_redis, ours, OURS)
        wait_for_service(session_redis, original, ORIGINAL)
        wire.wait_for_subscriber(client, "news", 2)
        yield session_redis
        for process in (ours, original):
            assert process.running, process.output


@pytest.fixture
def to_original(redis: RedisServer) -> Iterator[DaebusCaller]:
    """Our caller of the original's service."""
    with DaebusCaller(ORIGINAL, redis_host="127.0.0.1", redis_port=redis.port, timeout=5) as caller:
        yield caller


@pytest.fixture
def original(redis: RedisServer, tmp_path: Path, python: Path) -> OriginalCaller:
    """The original's caller."""
    return OriginalCaller(redis, tmp_path, python)


def heard(redis: RedisServer, service: str) -> list[Any]:
    """What a service has received since `forget`, asked by a raw request."""
    with redis.client() as client:
        news: list[Any] = wire.request(client, service, "heard")[-1]["payload"]
        return news


def wait_for_heard(redis: RedisServer, service: str, count: int) -> list[Any]:
    """The same, once it has received this many."""
    return wait_until(lambda: news if len(news := heard(redis, service)) >= count else [], 5, f"news at {service}")


@pytest.fixture(autouse=True)
def nothing_heard(redis: RedisServer) -> None:
    with redis.client() as client:
        for service in (OURS, ORIGINAL):
            wire.request(client, service, "forget")


def test_the_other_side_is_the_published_original(python: Path, start_process: Callable[..., ServiceProcess]) -> None:
    process = start_process("import daebus; print(daebus.__version__)", python=python, env={"PYTHONPATH": None})
    assert process.wait() == 0
    assert process.output == VERSION


PAYLOADS = [{"a": 1, "nested": {"list": [1, 2.5, None, True]}}, {"text": "grüße ☃ 𝄞"}, {}, [1, "two"], None]
SHAPES = ["object", "unicode", "empty", "array", "null"]


class TestOurCallerOnTheOriginalsService:
    @pytest.mark.parametrize("payload", PAYLOADS, ids=SHAPES)
    def test_gets_the_reply(self, to_original: DaebusCaller, payload: Any) -> None:
        assert to_original.send_request("echo", payload) == payload

    def test_gets_an_error_as_an_exception_with_its_text(self, to_original: DaebusCaller) -> None:
        with pytest.raises(RemoteError) as caught:
            to_original.send_request("fail", {"order": 7})
        assert str(caught.value) == "no such order: 7"

    def test_gets_progress_before_the_reply(self, to_original: DaebusCaller) -> None:
        progress: list[Any] = []
        assert to_original.send_request("steps", {}, on_progress=progress.append) == {"steps": 3}
        assert progress == [
            {"step": 1, "progress_percentage": 25},
            {"step": 2, "progress_percentage": 50},
            {"step": 3},
        ]

    def test_takes_only_the_final_reply_without_on_progress(self, to_original: DaebusCaller) -> None:
        assert to_original.send_request("steps", {}) == {"steps": 3}
        assert to_original.send_request("fail_softly", {}) == {"tried": 2}

    @pytest.mark.parametrize("action", ["raise", "silent", "unknown"])
    def test_waits_no_longer_than_its_timeout_for_what_the_original_never_answers(
        self, to_original: DaebusCaller, action: str
    ) -> None:
        begun = time.monotonic()
        with pytest.raises(TimeoutError, match=rf"{ORIGINAL}.*{action}.*0\.5"):
            to_original.send_request(action, {}, timeout=0.5)
        assert 0.4 < time.monotonic() - begun < 2

    def test_runs_many_requests_at_once_without_mixing_them_up(self, to_original: DaebusCaller) -> None:
        replies: dict[int, Any] = {}

        def ask(number: int) -> None:
            replies[number] = to_original.send_request("echo", {"number": number}, timeout=20)

        threads = [threading.Thread(target=ask, args=(number,)) for number in range(64)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert replies == {number: {"number": number} for number in range(64)}

    def test_sends_messages_without_waiting(self, to_original: DaebusCaller, redis: RedisServer) -> None:
        assert to_original.send_to_service({"payload": {"n": 1}}, action="note") == 1
        assert to_original.send_message("news", {"n": 2}) == 2
        noted, news = sorted(wait_for_heard(redis, ORIGINAL, 2), key=lambda entry: "noted" not in entry)
        assert noted == {"noted": {"payload": {"n": 1}, "action": "note"}, "payload": {"n": 1}}
        assert news == {"n": 2}


class TestTheOriginalsCallerOnOurService:
    @pytest.mark.parametrize("payload", PAYLOADS, ids=SHAPES)
    def test_gets_the_reply(self, original: OriginalCaller, payload: Any) -> None:
        outcome = original.request(OURS, "echo", payload)
        assert outcome["result"] == payload
        assert outcome["seconds"] < 1

    def test_gets_an_error_as_an_exception_with_its_text(self, original: OriginalCaller) -> None:
        outcome = original.request(OURS, "fail", {"order": 7})
        assert (outcome["error"], outcome["text"]) == ("Exception", "no such order: 7")

    def test_gets_progress_before_the_reply(self, original: OriginalCaller) -> None:
        outcome = original.request(OURS, "steps", {})
        assert outcome["result"] == {"steps": 3}
        assert outcome["progress"] == [
            {"step": 1, "progress_percentage": 25},
            {"step": 2, "progress_percentage": 50},
            {"step": 3},
        ]

    def test_gets_a_soft_error_as_progress(self, original: OriginalCaller) -> None:
        outcome = original.request(OURS, "fail_softly", {})
        assert outcome["progress"] == [{"error": "still trying"}]
        assert outcome["result"] == {"tried": 2}

    @pytest.mark.parametrize("action", ["raise", "silent", "unknown"])
    def test_gets_an_error_at_once_where_the_original_leaves_it_waiting(
        self, original: OriginalCaller, action: str
    ) -> None:
        outcome = original.request(OURS, action, {})
        assert outcome["error"] == "Exception", outcome
        assert outcome["text"]
        assert outcome["seconds"] < 1

    def test_runs_many_requests_at_once_without_mixing_them_up(self, original: OriginalCaller) -> None:
        calls = [("send_request", ["echo", {"number": number}], dict[str, Any]()) for number in range(200)]
        outcomes = original.run(OURS, *calls, threads=8)
        assert [outcome.get("result") for outcome in outcomes] == [{"number": number} for number in range(200)]

    def test_sends_messages_without_waiting(self, original: OriginalCaller, redis: RedisServer) -> None:
        outcomes = original.run(
            OURS,
            ("send_to_service", [{"n": 1}], {"action": "note"}),
            ("send_message", ["news", {"n": 2}], {}),
        )
        assert [outcome["result"] for outcome in outcomes] == [1, 2]
        noted, news = sorted(wait_for_heard(redis, OURS, 2), key=lambda entry: "noted" not in entry)
        assert noted == {"noted": {"n": 1, "action": "note"}, "payload": {}}
        assert news == {"n": 2}


class TestBothServices:
    @pytest.mark.parametrize("sender", [OURS, ORIGINAL])
    def test_broadcasts_reach_both(self, redis: RedisServer, sender: str) -> None:
        with redis.client() as client:
            (reply,) = wire.request(client, sender, "announce", {"n": 3})
        assert reply["payload"] == {"receivers": 2}
        for service in (OURS, ORIGINAL):
            assert wait_for_heard(redis, service, 1) == [{"from": sender, "n": 3}]

    @pytest.mark.parametrize("service", [OURS, ORIGINAL])
    def test_a_handler_calls_the_other_service(self, redis: RedisServer, service: str) -> None:
        with redis.client() as client:
            (reply,) = wire.request(client, service, "relay", {"n": 4})
        assert reply["payload"] == {"via": service, "answer": {"n": 4}}

    def test_replies_are_the_same_on_the_wire(self, redis: RedisServer) -> None:
        for action in ("echo", "fail", "steps", "fail_softly"):
            with redis.client() as client:
                ours = wire.request(client, OURS, action, {"a": 1}, request_id=action)
                original = wire.request(client, ORIGINAL, action, {"a": 1}, request_id=action)
            # Ours adds a stable code to an error.
            assert [{**reply, "code": None} for reply in ours] == [{**reply, "code": None} for reply in original]

    def test_a_request_without_reply_channel_is_answered_on_the_same_channel(self, redis: RedisServer) -> None:
        for service in (OURS, ORIGINAL):
            with redis.client() as client, wire.Listener(client, f"{service}.responses") as responses:
                wire.publish(client, service, {"action": "echo", "payload": [5], "request_id": 9, "service": service})
                (reply,) = responses.wait_for()
            assert reply == {"status": "success", "payload": [5], "request_id": 9, "final": True}

    @pytest.mark.parametrize("message", ["garbage", "[1, 2]", '"text"', "null", "{}"])
    def test_a_broken_message_disturbs_neither(self, redis: RedisServer, message: str) -> None:
        with redis.client() as client:
            for service in (OURS, ORIGINAL):
                wire.publish(client, service, message)
                wire.publish(client, "news", message)
                (reply,) = wire.request(client, service, "echo", {"still": "there"})
                assert reply["payload"] == {"still": "there"}
