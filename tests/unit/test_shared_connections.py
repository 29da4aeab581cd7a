"""The connections of a process: few, shared by callers and service, reopened after a stop; none is leaked."""

from __future__ import annotations

import gc
import subprocess
import sys
import weakref
from collections.abc import Callable

import gevent
from daebus_runtime import Daebus, DaebusCaller, request
from daebus_runtime.metrics import Metrics
from daebus_runtime.settings import Settings
from daebus_runtime.testing import TestApp
from daebus_runtime.transport import State, shared

from tests.support.process import ServiceProcess
from tests.support.redis_server import RedisServer
from tests.support.waiting import wait_until


def run(program: str) -> str:
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.strip()


def test_a_service_takes_over_the_connections_of_callers(redis_server: RedisServer) -> None:
    caller = DaebusCaller("garden", redis_url=redis_server.url)
    assert caller.send_message("nobody", {}) == 0
    metrics = Metrics()
    # The same server, with its address written differently.
    transport = shared.make(f"redis://127.0.0.1:{redis_server.port}", Settings(), metrics)
    wait_until(lambda: transport.state is State.UP)
    assert metrics.sent == 1
    assert caller.send_message("nobody", {}) == 0
    assert metrics.sent == 2
    client = redis_server.client()
    assert len([one for one in client.client_list() if one["name"].startswith("daebus-")]) == 2
    transport.close()
    client.close()


def test_calls_before_the_start_leave_no_connection_in_gunicorns_master(
    redis_server: RedisServer, start_process: Callable[..., ServiceProcess]
) -> None:
    program = """
    from daebus import Daebus, DaebusCaller, DaebusHttp
    app = Daebus("garden")
    app.attach(DaebusHttp(port=0))
    app.action("echo")(lambda: "here")
    DaebusCaller("nobody").send_message("nobody", {})
    app.run()
    """
    garden = start_process(program, env={"DAEBUS_REDIS_URL": redis_server.url})
    garden.wait_line("is connected")
    client = redis_server.client()
    named = [one for one in client.client_list() if one["name"].startswith("daebus-")]
    assert len(named) == 3, named  # the worker's: commands, subscriptions, the stream of its requests
    client.close()


def test_a_caller_that_is_kept_after_the_service_has_ended_works(redis_server: RedisServer) -> None:
    app = Daebus("garden")
    app.action("echo")(lambda: request.payload)
    caller = DaebusCaller("garden", redis_url=redis_server.url)
    for _ in range(2):
        with TestApp(app, redis_url=redis_server.url):
            assert caller.send_request("echo", 1) == 1
        assert caller.send_message("nobody", {}) == 0
    shared.close_all()


def test_a_link_keeps_no_reference_to_the_call_that_opened_it(redis_server: RedisServer) -> None:
    class Body(dict[str, int]):
        pass

    class Local:
        def __init__(self) -> None:
            self.body = Body()

    def call() -> weakref.ref[Body]:
        local = Local()
        gevent.getcurrent().spawn_tree_locals = {"daebus": None, "local": local}  # type: ignore[attr-defined]
        DaebusCaller("garden", redis_url=redis_server.url).send_message("nobody", {})
        return weakref.ref(local.body)

    kept = gevent.spawn(call).get()
    wait_until(lambda: gc.collect() >= 0 and kept() is None)
    shared.close_all()


def test_the_first_use_in_a_bare_thread_of_a_patched_program_works(shared_redis: RedisServer) -> None:
    said = run(f"""
from daebus import Daebus, DaebusCaller
import gevent
caller = DaebusCaller("garden", redis_url={shared_redis.url!r})
print(gevent.get_hub().threadpool.apply(caller.send_message, ("nobody", {{}})))
print(caller.send_message("nobody", {{}}))
""")
    assert said.split() == ["0", "0"]


def test_a_forked_child_leaves_the_parents_connections_alone(shared_redis: RedisServer) -> None:
    said = run(f"""
from daebus import Daebus, DaebusCaller
import gevent, os, time
caller = DaebusCaller("garden", redis_url={shared_redis.url!r})
print(caller.send_message("nobody", {{}}), flush=True)
child = os.fork()
if not child:
    gevent.sleep(1.6)  # a heartbeat would be sent on the parent's connection meanwhile
    print(caller.send_message("nobody", {{}}), flush=True)
    os._exit(0)
os.waitpid(child, 0)
print(caller.send_message("nobody", {{}}), flush=True)
""")
    assert said.split() == ["0", "0", "0"]
