"""`DaebusCaller` in a service, a script, Flask, asyncio, native threads and forked children; its errors; closing it."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import Any

import gevent
import gevent.event
import pytest
from daebus_runtime import (
    BusUnavailable,
    CallTimeout,
    ConfigurationError,
    Daebus,
    DaebusCaller,
    DaebusError,
    MessageTooLarge,
    RemoteError,
    request,
    response,
)
from daebus_runtime.testing import TestApp

from tests.support.process import ServiceProcess
from tests.support.redis_server import RedisServer
from tests.support.waiting import wait_until

Start = Callable[..., ServiceProcess]


def make_garden(release: gevent.event.Event) -> Daebus:
    """A service; its action `mute` answers only once it is released."""
    app = Daebus("garden")
    app.action("echo")(lambda: response.send(request.payload))
    app.action("mute")(lambda: release.wait(30))

    @app.action("steps")
    def steps() -> str:
        for step in range(3):
            response.progress({"step": step}, 25 * step)
        return "done"

    @app.action("fail")
    def fail() -> None:
        response.error("no water")

    return app


@pytest.fixture
def garden() -> Iterator[TestApp]:
    """A service in this process. Callers in this process reach it whatever address they are given."""
    release = gevent.event.Event()
    with TestApp(make_garden(release)) as service:
        yield service
        release.set()


@pytest.fixture(scope="module")
def garden_url(session_redis: RedisServer) -> Iterator[str]:
    """The address of a Redis on which a service runs that other processes can call."""
    release = gevent.event.Event()
    with TestApp(make_garden(release), redis_url=session_redis.url):
        yield session_redis.url
        release.set()


# --- results --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("payload", [{"a": 1}, {}, [1, None], "text", 5, True, None], ids=repr)
def test_the_result_is_the_replys_payload(garden: TestApp, payload: Any) -> None:
    assert DaebusCaller("garden").send_request("echo", payload) == payload


def test_without_a_payload_an_empty_object_is_sent(garden: TestApp) -> None:
    assert DaebusCaller("garden").send_request("echo") == {}
    assert garden.sent[-1][1]["payload"] == {}


def test_the_request_has_exactly_the_fields_of_the_wire_format(garden: TestApp) -> None:
    DaebusCaller("garden").send_request("echo", {"a": 1})
    ((name, message),) = garden.sent
    assert name == "garden"
    assert sorted(message) == ["action", "payload", "reply_to", "request_id", "service"]
    assert (message["action"], message["payload"], message["service"]) == ("echo", {"a": 1}, "garden")


def test_on_progress_gets_each_payload_in_order_in_the_callers_greenlet(garden: TestApp) -> None:
    seen: list[Any] = []
    caller = DaebusCaller("garden")
    result = caller.send_request("steps", on_progress=lambda payload: seen.append((payload, gevent.getcurrent())))
    assert result == "done"
    assert [payload for payload, _ in seen] == [
        {"step": 0, "progress_percentage": 0},
        {"step": 1, "progress_percentage": 25},
        {"step": 2, "progress_percentage": 50},
    ]
    assert {greenlet for _, greenlet in seen} == {gevent.getcurrent()}
    assert caller.send_request("steps") == "done"


def test_a_call_inside_on_progress_works(garden: TestApp) -> None:
    caller = DaebusCaller("garden")
    inner: list[Any] = []
    result = caller.send_request(
        "steps", on_progress=lambda payload: inner.append(caller.send_request("echo", payload["step"]))
    )
    assert (result, inner) == ("done", [0, 1, 2])


@pytest.mark.parametrize("kind", [TypeError, KeyError, BusUnavailable])
def test_an_exception_in_on_progress_comes_back_unchanged(garden: TestApp, kind: type[Exception]) -> None:
    error = kind("the author's own")

    def progress(payload: Any) -> None:
        raise error

    with pytest.raises(kind) as raised:
        DaebusCaller("garden").send_request("steps", on_progress=progress)
    assert raised.value is error
    assert DaebusCaller("garden").send_request("echo", 1) == 1


def test_one_caller_serves_many_greenlets(garden: TestApp) -> None:
    caller = DaebusCaller("garden")
    calls = [gevent.spawn(caller.send_request, "echo", number) for number in range(200)]
    assert [call.get() for call in calls] == list(range(200))


def test_send_message_and_send_to_service_count_receivers(garden: TestApp) -> None:
    caller = DaebusCaller("garden")
    assert caller.send_message("nobody", {"a": 1}) == 0
    assert garden.broadcasts == [("nobody", {"a": 1})]
    assert caller.send_to_service({"payload": {"z": 1}, "more": 2}, action="echo") == 1
    assert caller.send_to_service({"action": "echo"}) == 1
    assert DaebusCaller("absent").send_to_service({"z": 1}, action="echo") == 0
    assert [message for _, message in garden.sent] == [
        {"payload": {"z": 1}, "more": 2, "action": "echo"},
        {"action": "echo"},
        {"z": 1, "action": "echo"},
    ]


# --- errors ---------------------------------------------------------------------------------------------------------
def test_an_error_reply_is_an_exception_with_its_text_and_a_code(garden: TestApp) -> None:
    with pytest.raises(RemoteError) as raised:
        DaebusCaller("garden").send_request("fail")
    error = raised.value
    assert str(error) == "no water"
    assert (error.code, error.service, error.action, error.payload) == (
        "error",
        "garden",
        "fail",
        {"error": "no water"},
    )
    assert isinstance(error, DaebusError)
    assert "'garden'" in "".join(error.__notes__)
    assert "'fail'" in "".join(error.__notes__)


@pytest.mark.parametrize(("own", "given"), [(0.05, None), (30, 0.05)], ids=["of the caller", "of the call"])
def test_a_timeout_names_service_action_and_seconds(garden: TestApp, own: float, given: float | None) -> None:
    begun = time.monotonic()
    with pytest.raises(TimeoutError, match=r"service 'garden', action 'mute': no reply within 0\.05 seconds") as raised:
        DaebusCaller("garden", timeout=own).send_request("mute", {}, given)
    assert isinstance(raised.value, CallTimeout)
    assert raised.value.code == "timeout"
    assert time.monotonic() - begun < 2


@pytest.mark.parametrize(
    "bad",
    [float("nan"), float("inf"), 0, 0.0, -1, True, False, "5", b"5", [], 10**5000, 3.2e7, object()],
    ids=lambda bad: type(bad).__name__ if bad is not True else "True",
)
@pytest.mark.parametrize("whose", ["call", "caller"])
def test_an_invalid_timeout_is_refused_before_anything_is_sent(garden: TestApp, bad: Any, whose: str) -> None:
    caller = DaebusCaller("garden", timeout=5 if whose == "call" else bad)
    with pytest.raises(ConfigurationError, match=r"garden.*echo.*timeout.*number of seconds, above 0") as raised:
        caller.send_request("echo", 1, bad if whose == "call" else None)
    assert isinstance(raised.value, ValueError)
    assert len(str(raised.value)) < 300
    assert garden.sent == []
    assert caller.send_request("echo", 1, 5) == 1


@pytest.mark.parametrize("good", [5, 0.5, Fraction(5, 2), 31_536_000])
def test_any_number_of_seconds_up_to_a_year_is_taken(garden: TestApp, good: Any) -> None:
    assert DaebusCaller("garden", timeout=good).send_request("echo", 1) == 1
    assert DaebusCaller("garden").send_request("echo", 1, good) == 1


def test_an_unreachable_bus_is_named_with_the_reason(free_port: int) -> None:
    caller = DaebusCaller("garden", redis_port=free_port)
    with pytest.raises(BusUnavailable, match=r"service 'garden', action 'echo'.*refused.*0\.2 seconds") as raised:
        caller.send_request("echo", timeout=0.2)
    assert isinstance(raised.value, ConnectionError)
    assert raised.value.code == "bus_unavailable"


@pytest.mark.parametrize(
    ("kind", "payload", "text"),
    [(TypeError, object(), "no JSON form"), (MessageTooLarge, "x" * 20_000_000, "DAEBUS_MESSAGE_LIMIT")],
    ids=["no JSON", "too large"],
)
def test_a_message_that_cannot_be_sent_fails_at_once_with_service_and_action(
    garden: TestApp, kind: type[Exception], payload: Any, text: str
) -> None:
    begun = time.monotonic()
    with pytest.raises(kind, match=f"service 'garden', action 'echo'.*{text}"):
        DaebusCaller("garden").send_request("echo", payload, 20)
    assert time.monotonic() - begun < 2


@pytest.mark.parametrize("payload", [None, [1], "text"], ids=repr)
def test_a_broadcast_that_is_not_an_object_is_a_type_error(garden: TestApp, payload: Any) -> None:
    with pytest.raises(TypeError, match="a broadcast's payload is a dict"):
        DaebusCaller("garden").send_message("channel", payload)


@pytest.mark.parametrize("channel", ["", None, "two words", "\ud800"], ids=repr)
def test_a_bad_channel_is_a_value_error(garden: TestApp, channel: Any) -> None:
    with pytest.raises(ValueError, match="channel name"):
        DaebusCaller("garden").send_message(channel, {})


@pytest.mark.parametrize("service", ["", "two words", "a*", "x" * 200, "\ud800"], ids=lambda name: repr(name[:9]))
def test_a_bad_service_name_fails_at_the_call_not_before(service: str) -> None:
    caller = DaebusCaller(service)
    with pytest.raises(ConfigurationError, match="target_service"):
        caller.send_request("echo")


@pytest.mark.parametrize("url", ["http://x", "redis://", "redis://:secret@h:x"])
def test_a_bad_address_fails_at_the_call_and_shows_no_password(url: str) -> None:
    caller = DaebusCaller("garden", redis_url=url)
    with pytest.raises(ConfigurationError, match=r"service 'garden', action 'echo'.*redis://") as raised:
        caller.send_request("echo")
    assert "secret" not in str(raised.value)
    assert "secret" not in repr(caller)


def test_a_closed_caller_raises_and_disturbs_no_other(garden: TestApp) -> None:
    other = DaebusCaller("garden")
    with DaebusCaller("garden") as caller:
        assert caller.send_request("echo", 1) == 1
    caller.close()
    with pytest.raises(DaebusError, match=r"'garden'.*closed"):
        caller.send_request("echo", 1)
    with pytest.raises(DaebusError, match=r"'garden'.*closed"):
        caller.send_message("channel", {})
    assert other.send_request("echo", 2) == 2


# --- where it goes --------------------------------------------------------------------------------------------------
@pytest.mark.alone
def test_creating_a_caller_never_connects_and_never_fails() -> None:
    for arguments in ({}, {"redis_host": "no-such-host.invalid"}, {"redis_port": 1}, {"redis_url": "nonsense"}):
        begun = time.monotonic()
        DaebusCaller("garden", **arguments).close()
        assert time.monotonic() - begun < 0.5


def test_an_explicit_address_wins_over_the_environment_and_that_over_the_default(
    garden_url: str, session_redis: RedisServer, free_port: int
) -> None:
    said = run(f"""
import os
from daebus import DaebusCaller
os.environ["DAEBUS_REDIS_URL"] = "redis://127.0.0.1:{free_port}"
print(DaebusCaller("garden", redis_host="127.0.0.1", redis_port={session_redis.port}).send_request("echo", 1))
print(DaebusCaller("garden", redis_url={garden_url!r}).send_request("echo", 2))
os.environ["DAEBUS_REDIS_URL"] = {garden_url!r}
print(DaebusCaller("garden").send_request("echo", 3))
""")
    assert said.split() == ["1", "2", "3"]


def run(program: str, timeout: float = 20.0) -> str:
    """Run a program in a Python that gevent has not patched, warnings as errors; it must exit with 0; its output."""
    command = [sys.executable, "-W", "error", "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    return done.stdout.strip()


@pytest.fixture
def at_garden(garden_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Programs that a test starts find the garden's bus in their environment."""
    monkeypatch.setenv("DAEBUS_REDIS_URL", garden_url)


# --- programs that know nothing of gevent ---------------------------------------------------------------------------
@pytest.mark.usefixtures("at_garden")
def test_a_plain_script_is_not_patched_and_ends_though_nothing_is_closed() -> None:
    said = run("""
import socket, time
plain = socket.socket
from daebus import DaebusCaller
caller = DaebusCaller("garden")
steps = []
print(caller.send_request("echo", {"a": 1}))
print(caller.send_request("steps", on_progress=lambda step: steps.append(caller.send_request("echo", step["step"]))))
print(steps, socket.socket is plain, caller.send_message("nobody", {}))
open("/dev/null").close()
import gevent.monkey
print(gevent.monkey.is_module_patched("socket"))
""")
    assert said.splitlines() == ["{'a': 1}", "done", "[0, 1, 2] True 0", "False"]


@pytest.mark.usefixtures("at_garden")
@pytest.mark.parametrize("how", ["idle", "waiting", "away"])
def test_an_unclosed_caller_never_keeps_a_program_from_ending(how: str) -> None:
    calls = {
        "idle": 'caller.send_request("echo")',
        "waiting": 'threading.Thread(target=caller.send_request, args=("mute",), daemon=True).start(); time.sleep(0.1)',
        "away": """
try:
    DaebusCaller("garden", redis_port=1).send_request("echo", timeout=0.1)
except ConnectionError:
    pass
""",
    }
    ended = run(f"""
import threading, time
from daebus import DaebusCaller
caller = DaebusCaller("garden")
{calls[how]}
print(time.time())
""")
    assert time.time() - float(ended) < 2.5


@pytest.mark.usefixtures("at_garden")
def test_eight_native_threads_at_once() -> None:
    said = run("""
import threading
from daebus import DaebusCaller
shared = DaebusCaller("garden")
results = {}
def work(thread):
    own = DaebusCaller("garden")
    results[thread] = [caller.send_request("echo", [thread, n]) for n in range(50) for caller in (own, shared)]
threads = [threading.Thread(target=work, args=(thread,)) for thread in range(8)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
print(all(results[t] == [[t, n] for n in range(50) for _ in (0, 1)] for t in range(8)))
""")
    assert said == "True"


def test_many_callers_in_a_process_share_two_connections(garden_url: str, session_redis: RedisServer) -> None:
    client = session_redis.client()
    before = client.info("clients")["connected_clients"]
    said = run(f"""
import redis
from daebus import DaebusCaller
callers = [DaebusCaller("garden", redis_url={garden_url!r}) for _ in range(50)]
print(sum(caller.send_request("echo", 1) for caller in callers))
print(redis.Redis.from_url({garden_url!r}).info("clients")["connected_clients"] - {before} - 1)
""")
    assert said.split() == ["50", "2"]
    client.close()


@pytest.mark.usefixtures("at_garden")
def test_an_asyncio_program() -> None:
    said = run("""
import asyncio
from daebus import DaebusCaller
caller = DaebusCaller("garden")
async def main():
    ticks = 0
    async def tick():
        nonlocal ticks
        while True:
            ticks += 1
            await asyncio.sleep(0.001)
    ticking = asyncio.create_task(tick())
    many = await asyncio.gather(*(asyncio.to_thread(caller.send_request, "echo", n) for n in range(100)))
    print(many == list(range(100)))
    try:
        await asyncio.to_thread(caller.send_request, "mute", {}, 0.2)
    except TimeoutError as error:
        print(error, ticks > 20)
    print(caller.send_request("echo", "inside the loop"))
    ticking.cancel()
asyncio.run(main())
""")
    assert said.splitlines() == [
        "True",
        "service 'garden', action 'mute': no reply within 0.2 seconds True",
        "inside the loop",
    ]


FLASK = """
    from daebus import DaebusCaller
    from flask import Flask
    from werkzeug.serving import make_server

    web = Flask(__name__)
    caller = DaebusCaller("garden")


    @web.get("/echo/<int:number>")
    def echo(number):
        return {"number": caller.send_request("echo", number)}


    server = make_server("127.0.0.1", 0, web, threaded=True)
    print(f"port {server.server_port}", flush=True)
    server.serve_forever()
"""


def test_flasks_own_threaded_server(garden_url: str, start_process: Start) -> None:
    program = start_process(FLASK, env={"DAEBUS_REDIS_URL": garden_url})
    port = program.wait_line(r"port (\d+)")[1]

    def get(number: int) -> Any:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/echo/{number}", timeout=10) as answer:
            return json.load(answer)

    asked = [gevent.spawn(get, number) for number in range(40)]
    assert [answer.get() for answer in asked] == [{"number": number} for number in range(40)]


@pytest.mark.usefixtures("at_garden")
def test_forked_children_call_by_themselves() -> None:
    said = run("""
import multiprocessing, os, warnings
warnings.simplefilter("ignore", DeprecationWarning)  # of Python 3.12, about forking with threads
from daebus import DaebusCaller
caller = DaebusCaller("garden")
print(caller.send_request("echo", "parent"))
for n in range(3):
    child = os.fork()
    if not child:
        os._exit(0 if [caller.send_request("echo", [n, m], 5) for m in range(5)] == [[n, m] for m in range(5)] else 1)
    print(os.waitpid(child, 0)[1])
with multiprocessing.get_context("fork").Pool(2) as pool:
    print(pool.starmap(caller.send_request, [("echo", n) for n in range(4)]))
print(caller.send_request("echo", "parent again"))
""")
    assert said.splitlines() == ["parent", "0", "0", "0", "[0, 1, 2, 3]", "parent again"]


@pytest.mark.usefixtures("at_garden")
def test_a_program_that_applies_gevents_patch_itself() -> None:
    said = run("""
from gevent import monkey
monkey.patch_all()
import gevent
from daebus import DaebusCaller
caller = DaebusCaller("garden")
calls = [gevent.spawn(caller.send_request, "echo", n) for n in range(50)]
print([call.get() for call in calls] == list(range(50)))
print(gevent.get_hub().threadpool.apply(lambda: caller.send_request("echo", "from an OS thread")))
""")
    assert said.splitlines() == ["True", "from an OS thread"]


@pytest.mark.usefixtures("at_garden")
def test_two_buses_in_one_process(session_redis: RedisServer) -> None:
    with RedisServer() as other:
        program = f"""
from daebus import DaebusCaller
garden = DaebusCaller("garden", redis_url={session_redis.url!r})
shed = DaebusCaller("shed", redis_url={other.url!r}, timeout=0.3)
print(garden.send_request("echo", "garden's"))
try:
    shed.send_request("echo")
except LookupError as error:
    print(error)
print(garden.send_request("echo", "still"))
"""
        assert run(program).splitlines() == [
            "garden's",
            "service 'shed', action 'echo': no such service is known on this bus: it never ran here",
            "still",
        ]


# --- ways to a bus, in a program that gevent has not patched --------------------------------------------------------
@pytest.mark.parametrize("options", [{"tls": True}, {"unix_socket": True}, {"password": "s3cret/@:"}], ids=str)
def test_every_way_to_reach_redis_serves_large_and_small(options: dict[str, Any]) -> None:
    with RedisServer(**options) as server:
        release = gevent.event.Event()
        with TestApp(make_garden(release), redis_url=server.url):
            said = run(f"""
from concurrent.futures import ThreadPoolExecutor
from daebus import DaebusCaller
caller = DaebusCaller("garden", redis_url={server.url!r}, timeout=20)
large = "x" * 3_000_000
with ThreadPoolExecutor(4) as pool:
    asked = [large if n % 4 == 0 else n for n in range(40)]
    print(list(pool.map(lambda payload: caller.send_request("echo", payload), asked)) == asked)
""")
            release.set()
    assert said == "True"


def test_a_message_above_the_usual_queue_is_sent_when_the_limit_allows_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DAEBUS_MESSAGE_LIMIT", str(128 * 1024 * 1024))
    app = Daebus("garden")
    app.action("length")(lambda: len(request.payload))
    with (
        RedisServer(arguments=("--client-output-buffer-limit", "pubsub 0 0 0")) as server,
        TestApp(app, redis_url=server.url) as service,
    ):
        assert service.call("length", "x" * 80_000_000, 30) == 80_000_000


# --- inside a service -----------------------------------------------------------------------------------------------
def test_a_caller_made_at_import_time_works_in_handlers_tasks_and_threads() -> None:
    caller = DaebusCaller("garden")
    app = make_garden(gevent.event.Event())
    seen: list[Any] = []
    app.action("relay")(lambda: caller.send_request("echo", request.payload))
    app.action("relay blocking", blocking=True)(lambda: caller.send_request("echo", request.payload))
    app.background("task", 10)(lambda: seen.append(caller.send_request("echo", "task")))
    app.thread("thread", native=True, auto_start=False)(lambda: seen.append(caller.send_request("echo", "thread")))
    with TestApp(app) as garden:
        calls = [gevent.spawn(garden.call, action, n) for n in range(30) for action in ("relay", "relay blocking")]
        assert [call.get() for call in calls] == [n for n in range(30) for _ in (0, 1)]
        garden.clock.advance(10)
        app.start_thread("thread")
        wait_until(lambda: sorted(seen) == ["task", "thread"], message=lambda: str(seen))


def test_an_outage_of_the_bus_costs_no_memory(free_port: int) -> None:
    """A call that times out also removes its unsent request from the queue."""
    said = run(f"""
import tracemalloc
from daebus import BusUnavailable, DaebusCaller
caller = DaebusCaller("garden", redis_port={free_port})
text = "x" * 1_000_000
def call():
    try:
        caller.send_request("echo", text, 0.05)
    except BusUnavailable:
        return
    raise AssertionError("it is not away")
call()
tracemalloc.start()
for _ in range(20):
    call()
print(tracemalloc.get_traced_memory()[0] < 5_000_000)
""")
    assert said == "True"
