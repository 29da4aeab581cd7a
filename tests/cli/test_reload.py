"""Restarting the service when a file changes: `daebus run --reload`, and `app.run(debug=True)`."""

from __future__ import annotations

import re
import signal
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.process import ServiceProcess
from tests.support.redis_server import RedisServer
from tests.support.waiting import wait_until

from .conftest import COMMAND, environment

pytestmark = pytest.mark.slow  # each test starts several programs

SERVICE = """
    import os
    from daebus import Daebus
    app = Daebus("garden")
    print("serving", "{word}", os.getpid(), flush=True)

    @app.on_stop()
    def stopped():
        print("stopped", os.getpid(), flush=True)

    if __name__ == "__main__":
        app.run(debug=True)
"""
Start = Callable[..., ServiceProcess]


@pytest.fixture(params=["run --reload", "debug=True"])
def start(
    request: pytest.FixtureRequest,
    start_process: Callable[..., ServiceProcess],
    shared_redis: RedisServer,
    tmp_path: Path,
) -> Start:
    """Starts `garden.py` in one of the two ways, and waits until it serves."""
    how = (
        [*COMMAND, "run", "--reload", "garden.py"] if request.param == "run --reload" else [sys.executable, "garden.py"]
    )

    def make(word: str) -> ServiceProcess:
        write(tmp_path, word)
        process = start_process(how, env={"DAEBUS_REDIS_URL": shared_redis.url})
        process.wait_line("service garden started")
        return process

    return make


def write(folder: Path, word: str) -> None:
    # Replaced in one step, as editors do: emptying the file and then filling it can count as two changes.
    new = folder / "garden.new"
    new.write_text(textwrap.dedent(SERVICE).replace("{word}", word))
    new.replace(folder / "garden.py")


def served(process: ServiceProcess, word: str) -> int:
    """Waits for a child that serves this word; its pid."""
    return int(process.wait_line(rf"serving {word} (\d+)").group(1))


def started(process: ServiceProcess, times: int) -> None:
    wait_until(lambda: process.count("service garden started") == times, 20, lambda: process.output)


def alive(pid: int) -> bool:
    try:
        return not re.search(r"\) [ZX] ", Path(f"/proc/{pid}/stat").read_text())
    except OSError:
        return False


def last_child(process: ServiceProcess) -> int:
    return [int(m.group(1)) for line in process.lines if (m := re.search(r"serving \w+ (\d+)", line))][-1]


def test_a_change_stops_the_service_in_order_and_starts_it_again(start: Start, tmp_path: Path) -> None:
    process = start("one")
    first = last_child(process)
    write(tmp_path, "two")
    served(process, "two")
    started(process, 2)
    assert process.count("reloaded because garden.py changed") == 1
    assert process.count(f"stopped {first}") == 1
    assert not alive(first)
    assert process.terminate() == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_and_sigterm_end_both_in_order(start: Start, number: signal.Signals) -> None:
    process = start("one")
    child = last_child(process)
    process.signal(number)
    assert process.wait() == 0
    assert process.count(f"stopped {child}") == 1
    assert not alive(child)
    assert "Traceback" not in process.output


def test_a_child_that_cannot_start_is_reported_and_started_again_at_the_next_change(
    start: Start, tmp_path: Path
) -> None:
    process = start("one")
    (tmp_path / "garden.py").write_text("import no_such_thing\n")
    process.wait_line("no_such_thing")
    process.wait_line("the service ended with exit code 1; waiting for a change")
    write(tmp_path, "two")
    served(process, "two")
    started(process, 2)
    assert process.terminate() == 0


def test_a_change_in_a_subfolder_counts_and_one_of_another_file_type_does_not(start: Start, tmp_path: Path) -> None:
    (tmp_path / "parts").mkdir()
    process = start("one")
    (tmp_path / "notes.txt").write_text("no code")
    (tmp_path / "parts" / "words.py").write_text("WORD = 1\n")
    process.wait_line(r"reloaded because parts/words\.py changed")
    started(process, 2)
    assert process.count("notes.txt") == 0
    assert process.terminate() == 0


@pytest.mark.skipif(sys.platform != "linux", reason="only there the kernel tells a child of its parent's end")
def test_killing_the_parent_ends_the_service(start: Start) -> None:
    process = start("one")
    child = last_child(process)
    process.kill()
    wait_until(lambda: not alive(child), 10, "end of the service")


def test_without_watchfiles_the_cure_is_named(start_process: Callable[..., ServiceProcess], tmp_path: Path) -> None:
    write(tmp_path, "one")
    (tmp_path / "watchfiles.py").write_text("raise ImportError('not here')\n")
    env = {**environment(), "PYTHONPATH": f"{tmp_path}:{environment().get('PYTHONPATH', '')}"}
    for command, code in (([*COMMAND, "run", "--reload", "garden.py"], 2), ([sys.executable, "garden.py"], 1)):
        process = start_process(command, env=env)
        assert process.wait() == code
        assert process.count("pip install 'daebus-runtime") == 1
        assert "Traceback" not in process.output


def test_when_the_service_ends_by_itself_reloading_ends_too(
    start_process: Callable[..., ServiceProcess], tmp_path: Path
) -> None:
    (tmp_path / "garden.py").write_text("print('nothing to do')\nraise SystemExit(0)\n")
    begun = time.monotonic()
    process = start_process([*COMMAND, "run", "--reload", "garden.py"])
    assert process.wait() == 0
    assert time.monotonic() - begun < 30
