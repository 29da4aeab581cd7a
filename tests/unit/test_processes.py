"""Child processes of handlers: they work in OS threads, where blocking code belongs, and in greenlets as well."""

from __future__ import annotations

import asyncio
import concurrent.futures
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import gevent
import pytest
from daebus_runtime import Daebus, RemoteError
from daebus_runtime.testing import TestApp

from tests.support.waiting import wait_until


def square(number: int) -> int:
    time.sleep(0.01)  # gevent's sleep in a forked child: nothing of the service may run in it meanwhile
    return number * number


def run_with_output() -> Any:
    done = subprocess.run(["sh", "-c", "cat; exit 3"], input="in", capture_output=True, text=True, timeout=5)
    return [done.stdout, done.returncode]


def check_output() -> Any:
    return subprocess.check_output(["echo", "out"], text=True)


def timeout() -> Any:
    with pytest.raises(subprocess.TimeoutExpired):
        subprocess.run(["sleep", "20"], timeout=0.1)
    return subprocess.call(["sh", "-c", "sleep 0.05; exit 7"], timeout=5)


def killed() -> Any:
    with subprocess.Popen(["sleep", "20"]) as child:
        assert child.poll() is None
        child.kill()
        return child.wait(5)


def popen() -> Any:
    with os.popen("echo out") as lines:
        text = lines.read()
    return [text, os.popen("exit 2").close()]


def system() -> Any:
    return os.waitstatus_to_exitcode(os.system("exit 4"))


def posix_spawn() -> Any:
    pid = os.posix_spawn("/bin/sh", ["sh", "-c", "exit 6"], dict(os.environ))
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def process() -> Any:
    queue: Any = multiprocessing.SimpleQueue()
    child = multiprocessing.Process(target=queue.put, args=(5,))
    child.start()
    value = queue.get()
    child.join(5)
    return [value, child.exitcode]


def pool() -> Any:
    with multiprocessing.Pool(2) as workers:
        return workers.map(square, [1, 2, 3])


def executor() -> Any:
    with concurrent.futures.ProcessPoolExecutor(2) as workers:
        return list(workers.map(square, [4, 5]))


def of_asyncio() -> Any:
    async def main() -> Any:
        child = await asyncio.create_subprocess_exec("sh", "-c", "echo out; exit 5", stdout=subprocess.PIPE)
        out, _ = await child.communicate()
        return [out.decode(), child.returncode]

    return asyncio.run(main())


WAYS: dict[str, tuple[Callable[[], Any], Any]] = {
    "run": (run_with_output, ["in", 3]),
    "check_output": (check_output, "out\n"),
    "timeout": (timeout, 7),
    "killed": (killed, -signal.SIGKILL),
    "popen": (popen, ["out\n", 2 << 8]),
    "system": (system, 4),
    "posix_spawn": (posix_spawn, 6),
    "Process": (process, [5, 0]),
    "Pool": (pool, [1, 4, 9]),
    "ProcessPoolExecutor": (executor, [16, 25]),
    "asyncio": (of_asyncio, ["out\n", 5]),
}


@pytest.mark.parametrize("where", ["blocking", "greenlet"])
def test_every_way_to_start_a_child_works_and_returns_its_exit_code(where: str) -> None:
    app = Daebus("forge")
    app.action("ping")(lambda: "pong")
    for way, (function, _) in WAYS.items():
        app.action(way, blocking=where == "blocking")(function)
    with TestApp(app) as service:
        for way, (_, result) in WAYS.items():
            assert service.call(way, None, 15) == result, way
            assert service.call("ping") == "pong"


def test_children_of_many_threads_at_once_keep_their_exit_codes() -> None:
    app = Daebus("forge", max_workers=4)

    def code(blocking: bool) -> Any:
        return subprocess.call(["sh", "-c", "exit 9"])

    app.action("threads", blocking=True)(lambda: code(True))
    app.action("greenlets")(lambda: code(False))
    with TestApp(app) as service:
        calls = [gevent.spawn(service.call, ("threads", "greenlets")[n % 2], None, 20) for n in range(24)]
        assert [call.get(timeout=30) for call in calls] == [9] * 24


def test_a_native_thread_may_start_children() -> None:
    app = Daebus("forge")
    said: list[Any] = []

    @app.thread("smith", native=True)
    def smith() -> None:
        said.extend([check_output(), process(), pool()])

    with TestApp(app):
        wait_until(lambda: len(said) == 3, 15)
    assert said == ["out\n", [5, 0], [1, 4, 9]]


def test_a_second_asyncio_loop_on_one_thread_is_refused_with_the_cure(caplog: pytest.LogCaptureFixture) -> None:
    app = Daebus("forge")

    def sleep() -> str:
        nap = asyncio.sleep(0.2)
        try:
            asyncio.run(nap)
        finally:
            nap.close()  # the refused coroutine
        return "slept"

    app.action("greenlet")(sleep)
    app.action("blocking", blocking=True)(sleep)

    def call(action: str) -> Any:
        try:
            return service.call(action, None, 15)
        except RemoteError as error:
            return error.code

    with TestApp(app) as service:
        assert [one.get(timeout=15) for one in [gevent.spawn(call, "blocking") for _ in range(3)]] == ["slept"] * 3
        caplog.clear()
        results = [one.get(timeout=15) for one in [gevent.spawn(call, "greenlet") for _ in range(3)]]
    assert sorted(results) == ["handler_error", "handler_error", "slept"]
    assert caplog.text.count("blocking=True (for a thread: native=True) runs the handler in an OS thread") == 2


PROGRAM = """
import os, subprocess, threading
from daebus import DaebusCaller
DaebusCaller("forge")
print(os.fork.__module__, os.waitpid.__module__, subprocess.Popen.__module__, os.close.__module__)
"""


def test_a_program_that_only_calls_keeps_the_standard_subprocess() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split() == ["posix", "posix", "subprocess", "posix"]
