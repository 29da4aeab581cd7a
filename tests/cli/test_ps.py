"""`daebus ps` and `daebus register`: who runs, what waits, as a table, as JSON, and again and again."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import time
import unicodedata
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from click.testing import CliRunner, Result
from daebus_runtime import keys
from daebus_runtime.cli import main
from daebus_runtime.services import register

from tests.support.process import ServiceProcess
from tests.support.redis_server import RedisServer
from tests.support.waiting import wait_until

from .conftest import COMMAND, Run, environment

HOSTILE = "a\x1b[2J\x9b\u202e\r\n日本"
CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e]")


class Bus:
    """An empty server, and the command, run in this process."""

    def __init__(self, server: RedisServer) -> None:
        self.server, self.url, self.client = server, server.url, server.client()

    def run(self, *arguments: str, charset: str = "utf-8") -> Result:
        done = CliRunner(charset=charset).invoke(main, [*arguments, "--redis-url", self.url])
        assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
        return done

    def plant(self, service: str, name: str, silent: float = 0.0, **about: Any) -> None:
        """A replica, as its scripts would leave it; `silent` seconds ago was its last sign."""
        now = int(time.time() * 1000)
        known = {"name": name, "version": "0.1.0", "protocols": [1, 2], "up": 0.0, "registered": now - 7_200_000}
        names = keys.ServiceKeys(service)
        self.client.hset(names.replicas, name, json.dumps({**known, **about}))
        self.client.hset(names.beats, name, 10)
        self.client.hset(names.signs, name, now - int(silent * 1000))


@pytest.fixture
def bus(shared_redis: RedisServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bus]:
    # Replicas that were planted give no further sign, however slow the machine is.
    monkeypatch.setattr("daebus_runtime.services.SILENT_SECONDS", 60.0)
    bus = Bus(shared_redis)
    yield bus
    bus.client.close()


def rows(text: str) -> list[list[str]]:
    """The cells of each row: two spaces or more are between them."""
    return [re.split(r" {2,}", line.strip()) for line in text.splitlines()]


def test_the_table_has_a_row_for_each_service(bus: Bus) -> None:
    register("garden", "shop", redis_url=bus.url)
    bus.plant("garden", "garden-1", 0.5)
    bus.plant("garden", "garden-2", 1.0, version="0.2.0")
    for _ in range(3):
        bus.client.xadd(keys.ServiceKeys("garden").requests, {"m": "{}"})
    bus.client.xreadgroup("workers", "garden-1", {keys.ServiceKeys("garden").requests: ">"}, count=1)
    done = bus.run("ps")
    head, garden, shop = rows(done.stdout)
    assert head == ["SERVICE", "REPLICAS", "VERSION", "PROTOCOL", "UPTIME", "LAG", "PENDING", "OLDEST"]
    assert garden[:-1] == ["garden", "2", "0.2.0 +1", "1+2", "2h", "2", "1"]
    assert re.fullmatch(r"\d+(\.\d)?s", garden[-1])
    assert shop == ["shop", "0", "-", "-", "-", "0", "0", "-"]
    assert (done.exit_code, done.stderr) == (0, "")
    assert "\x1b" not in done.stdout


def test_numbers_stand_below_each_other_and_80_columns_are_enough(bus: Bus, on_a_terminal: Callable[..., str]) -> None:
    names = ["a", "a-service-with-a-name-that-is-longer-than-most-of-them-are", "日本語"]
    register(*names, redis_url=bus.url)
    for name in names:
        bus.plant(name, f"{name[:20]}-5f6d8c9b7-abcde-1-abcdef")
        bus.client.delete(keys.ServiceKeys(name).signs)  # so that none is shown as silent
    seen = on_a_terminal("ps", env={"DAEBUS_REDIS_URL": bus.url, "NO_COLOR": "1"})
    lines = seen.replace("\r\n", "\n").splitlines()
    assert len(lines) == 4
    assert all(_columns(line) <= 80 for line in lines)
    assert len({_columns(line) for line in lines}) == 1  # the last column is to the right
    assert re.search(r"^a-service-with-a-[a-z]*~ ", seen, re.MULTILINE)
    plain = bus.run("ps").stdout
    assert names[1] in plain  # not cut where nobody's screen has an end


def _columns(text: str) -> int:
    return sum(2 if unicodedata.east_asian_width(character) in "WF" else 1 for character in text)


def test_with_names_every_replica_is_shown_and_unknown_names_are_exit_code_4(bus: Bus) -> None:
    register("garden", "shop", redis_url=bus.url)
    bus.plant("garden", "garden-1", 0.5)
    done = bus.run("ps", "garden", "gardn")
    assert [row[0] for row in rows(done.stdout)] == ["SERVICE", "garden", "garden-1"]
    assert rows(done.stdout)[2] == ["garden-1", "alive", "0.1.0", "1+2", "2h"]
    assert done.exit_code == 4
    assert re.fullmatch(r"no service 'gardn' is known at .* \(did you mean garden\?\)\n", done.stderr)


def test_a_silent_replica_is_named_without_asking(bus: Bus) -> None:
    register("garden", redis_url=bus.url)
    bus.plant("garden", "garden-1")
    bus.plant("garden", "garden-2", 3600.0)
    found = rows(bus.run("ps").stdout)
    assert found[1][:2] == ["garden", "2, 1 silent"]
    assert [row[:2] for row in found[2:]] == [["garden-2", "silent 60m"]]


def test_what_is_not_known_is_said_to_be(bus: Bus) -> None:
    register("garden", "broken", redis_url=bus.url)
    bus.plant("garden", "garden-1", -90 * 86_400, registered=int(time.time() * 1000) + 90 * 86_400_000)
    bus.client.set(keys.ServiceKeys("broken").replicas, "text")
    found = rows(bus.run("ps", "garden", "broken").stdout)
    assert found[1] == ["broken", "0", "-", "-", "-", "unknown", "unknown", "?"]
    assert "WRONGTYPE" in found[2][0]
    assert found[3] == ["garden", "1", "0.1.0", "1+2", "?", "0", "0", "-"]
    assert found[4] == ["garden-1", "?", "0.1.0", "1+2", "?"]


def test_who_only_listens_is_shown_as_protocol_1(bus: Bus) -> None:
    with bus.client.pubsub() as listener:  # type: ignore[no-untyped-call]
        listener.subscribe("old")
        assert listener.get_message(timeout=5)
        done = bus.run("ps")
    assert rows(done.stdout)[1] == ["old", "1", "-", "1", "-", "-", "-", "-"]


def test_json_is_one_list(bus: Bus) -> None:
    register("garden", redis_url=bus.url)
    bus.plant("garden", "garden-1")
    done = bus.run("ps", "--json")
    (garden,) = json.loads(done.stdout)
    assert done.stdout.count("\n") == 1
    shown = {"name": "garden", "known": True, "lag": 0, "pending": 0, "oldest": None, "protocols": [1, 2]}
    assert shown.items() <= garden.items()
    assert garden["replicas"][0].items() >= {"name": "garden-1", "version": "0.1.0", "alive": True}.items()


def test_an_empty_bus_is_no_error(bus: Bus) -> None:
    done = bus.run("ps")
    assert (done.exit_code, done.stdout) == (0, "")
    assert done.stderr.startswith("no service is known at redis://")
    assert json.loads(bus.run("ps", "--json").stdout) == []


@pytest.mark.parametrize("charset", ["utf-8", "ascii"])
def test_foreign_text_cannot_control_the_terminal(bus: Bus, charset: str) -> None:
    register("garden", redis_url=bus.url)
    bus.plant("garden", HOSTILE, 600.0, version=HOSTILE, host=HOSTILE)
    bus.client.hset(keys.ServiceKeys("garden").replicas, "\x1b]0;no JSON\x07", "\x1b[31m")
    bus.client.zadd(keys.SERVICES, {HOSTILE: time.time() * 1000})
    for arguments in (("ps",), ("ps", "garden"), ("ps", "--json"), ("doctor",)):
        done = bus.run(*arguments, charset=charset)
        assert not CONTROL.search(done.stdout_bytes.decode(charset)), arguments
        assert not CONTROL.search(done.stderr_bytes.decode(charset)), arguments
    assert "\\x1b[2J" in bus.run("ps").stdout


def test_a_missing_permission_is_exit_code_3_and_says_what_is_needed(bus: Bus) -> None:
    administer: Any = bus.client.execute_command
    administer("ACL", "SETUSER", "ada", "reset", "on", ">word", "~*", "&*", "+@all", "-zrevrange")
    done = CliRunner().invoke(main, ["ps", "--redis-url", f"redis://ada:word@127.0.0.1:{bus.server.port}"])
    administer("ACL", "DELUSER", "ada")
    assert done.exit_code == 3
    assert "(ACL SETUSER ada ~daebus:* +@read +@scripting +time +pubsub)" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("command", [("ps",), ("register", "garden"), ("ps", "--watch")])
def test_without_a_bus_it_is_exit_code_3_at_once(command: tuple[str, ...], free_port: int) -> None:
    done = CliRunner().invoke(main, [*command, "--redis-url", f"redis://127.0.0.1:{free_port}"])
    assert done.exit_code == 3
    assert "nothing listens at" in done.stderr


# --- register ---------------------------------------------------------------------------------------------------------


def test_register_says_what_it_did_and_may_be_repeated(bus: Bus) -> None:
    assert bus.run("register", "garden").stdout == "garden: known from now on\n"
    done = bus.run("register", "garden", "shop", "shop")
    assert done.stdout == "garden: was known already\nshop: known from now on\n"
    assert done.exit_code == 0
    assert sorted(bus.client.zrange(keys.SERVICES, 0, -1)) == ["garden", "shop"]


@pytest.mark.parametrize("name", ["", "two words", "a*", "x" * 129])
def test_a_name_that_is_none_is_wrong_usage_and_registers_nothing(bus: Bus, name: str) -> None:
    done = bus.run("register", "garden", name)
    assert done.exit_code == 2
    assert bus.client.keys() == []


def test_a_call_to_a_known_service_that_sleeps_waits_for_it(bus: Bus) -> None:
    register("garden", redis_url=bus.url)
    done = bus.run("call", "garden", "water", "--timeout", "0.1")
    assert done.exit_code == 4
    assert done.stderr.startswith("service 'garden' has no replica now; the call waits for one\n")
    assert "no reply within 0.1 seconds" in done.stderr
    assert bus.client.xlen(keys.ServiceKeys("garden").requests) == 1


# --- doctor -----------------------------------------------------------------------------------------------------------


def test_doctor_names_known_services_and_what_they_lack(bus: Bus) -> None:
    register("asleep", "behind", "fine", "half", redis_url=bus.url)
    for service in ("behind", "fine", "half"):
        bus.plant(service, f"{service}-1")
    bus.plant("half", "half-2", 3600.0)
    for service, age in (("asleep", 90), ("behind", 600), ("fine", 1)):
        entry = f"{int(time.time() * 1000) - age * 1000}-0"
        bus.client.xadd(keys.ServiceKeys(service).requests, {"m": "{}"}, id=entry)
    done = bus.run("doctor")
    found = dict(re.findall(r"^(\w+ +)known +(.*\n(?: +cure: .*)?)", done.stdout, re.MULTILINE))
    lines = re.findall(r"^(\w+) +known +(.*)\n", done.stdout, re.MULTILINE)
    assert lines == [
        ("warn", "'asleep' has no replica; 1 messages wait, the oldest for 90s"),
        ("warn", "'behind': 1 replica cannot keep up; 1 messages wait, the oldest for 10m"),
        ("warn", "'half': 1 of 2 replicas without a sign of life: half-2 (60m)"),
        ("ok", "'fine': 1 replica"),
    ]
    assert all("cure: " in text for level, text in found.items() if level.startswith("warn"))
    assert done.exit_code == 0


# --- real replicas, and --watch ---------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_replica_that_was_killed_is_recognizable_before_anybody_buries_it(
    start_process: Callable[..., ServiceProcess], shared_redis: RedisServer
) -> None:
    bus = Bus(shared_redis)
    program = 'from daebus import Daebus\napp = Daebus("garden")\n@app.action("x")\ndef x(): ...\napp.run()\n'
    service = start_process(program, env={"DAEBUS_REDIS_URL": bus.url})
    service.wait_line("is connected")
    wait_until(lambda: rows(bus.run("ps", "garden").stdout)[-1][1:2] == ["alive"], 15)
    service.kill()
    found = wait_until(lambda: [r for r in rows(bus.run("ps").stdout) if r[1].startswith("silent ")], 15)
    assert len(found) == 1
    bus.client.close()


class Terminal:
    """A command on a terminal of its own."""

    def __init__(self, *arguments: str, lines: int = 24, env: dict[str, str]) -> None:
        self._ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", lines, 80, 0, 0))
        surroundings = {**environment(env), "TERM": "xterm"}
        self.process = subprocess.Popen(
            [*COMMAND, *arguments], stdin=theirs, stdout=theirs, stderr=theirs, env=surroundings, start_new_session=True
        )
        os.close(theirs)
        self.seen = ""

    def read(self, seconds: float = 0.0) -> str:
        with contextlib.suppress(OSError):
            while select.select([self._ours], [], [], seconds)[0] and (data := os.read(self._ours, 65536)):
                self.seen += data.decode()
        return self.seen

    def wait_for(self, pattern: str) -> str:
        wait_until(
            lambda: re.search(pattern, self.read(0.05), re.DOTALL), 20, lambda: f"{pattern}: {self.seen[-2000:]!r}"
        )
        return self.seen

    def end(self, how: signal.Signals) -> int:
        self.process.send_signal(how)
        wait_until(lambda: self.read(0.05) is not None and self.process.poll() is not None, 20)
        self.read()
        os.close(self._ours)
        return self.process.returncode


@pytest.mark.slow
def test_watch_draws_in_place_tells_what_has_no_room_survives_the_bus_and_ends_with_code_0() -> None:
    with RedisServer() as server, server.client() as client:
        register(*(f"service-{number:02}" for number in range(30)), redis_url=server.url)
        terminal = Terminal("ps", "--watch", "--interval", "0.1", lines=10, env={"DAEBUS_REDIS_URL": server.url})
        terminal.wait_for("23 more lines are not shown")
        for number in range(27):
            client.delete(keys.ServiceKeys(f"service-{number:02}").requests)
        terminal.wait_for(r"service-29[^\n]*\n[^\n]*Ctrl-C ends")
        server.kill()
        terminal.wait_for("the bus is away .*; trying again")
        server.start()
        register("again", redis_url=server.url)
        terminal.wait_for("again +0 ")
        assert terminal.end(signal.SIGINT) == 0
        seen = terminal.seen
    assert seen.startswith("\x1b[?1049h\x1b[?25l\x1b[H")
    assert seen.endswith("\x1b[?25h\x1b[?1049l")
    assert "\x1b[2J" not in seen  # nothing is cleared before it is drawn again
    assert "Traceback" not in seen
    frames = seen.split("\x1b[H")[1:]
    assert all(frame.count("\n") < 10 for frame in frames)


@pytest.mark.slow
def test_watch_leaves_the_terminal_as_it_was_on_sigterm_too(bus: Bus) -> None:
    terminal = Terminal("ps", "--watch", env={"DAEBUS_REDIS_URL": bus.url})
    terminal.wait_for("Ctrl-C ends")
    assert terminal.end(signal.SIGTERM) == 0
    assert terminal.seen.endswith("\x1b[?25h\x1b[?1049l")


@pytest.mark.slow
def test_watch_without_a_terminal_prints_one_list_after_the_other(
    start_process: Callable[..., ServiceProcess], bus: Bus
) -> None:
    register("garden", redis_url=bus.url)
    env = {"DAEBUS_REDIS_URL": bus.url}
    watching = start_process([*COMMAND, "ps", "--watch", "--json", "--interval", "0.1"], env=env)
    wait_until(lambda: len(watching.lines) >= 3, 20)
    watching.signal(signal.SIGINT)
    assert watching.wait() == 0
    assert {json.loads(line)[0]["name"] for line in watching.lines} == {"garden"}


@pytest.mark.slow
def test_listening_to_a_service_goes_on_where_it_was_after_the_bus_was_away(
    daebus: Run, start_process: Callable[..., ServiceProcess]
) -> None:
    with RedisServer() as server, server.client() as client:
        env = {"DAEBUS_REDIS_URL": server.url}
        stream = keys.ServiceKeys("later").requests
        listening = start_process([*COMMAND, "listen", "later", "--count", "3"], env=env)
        listening.wait_line("^listening on ")
        client.xadd(stream, {"m": '{"action": "one"}'})
        wait_until(lambda: listening.count('"one"'), 10)
        client.client_kill_filter(_type="normal", skipme=True)
        client.xadd(stream, {"m": '{"action": "two"}'})
        client.xadd(stream, {"x": "y"})
        assert listening.wait() == 0
    shown = [json.loads(line) for line in listening.lines if line.startswith("{")]
    assert [message.get("payload", {}).get("action") for message in shown] == ["one", "two", None]
    assert {message["channel"] for message in shown} == {"later"}


def test_without_the_permission_to_follow_requests_broadcasts_are_shown(bus: Bus) -> None:
    administer: Any = bus.client.execute_command
    administer("ACL", "SETUSER", "ada", "reset", "on", ">word", "~*", "&*", "+@all", "-xread")
    url = f"redis://ada:word@127.0.0.1:{bus.server.port}"
    done = CliRunner().invoke(main, ["listen", "garden", "--timeout", "0.5", "--redis-url", url])
    administer("ACL", "DELUSER", "ada")
    assert done.exit_code == 0
    assert "requests that are stored for a service are not shown" in done.stderr
    assert "ACL SETUSER ada +xread" in done.stderr
    assert "listening on garden" in done.stderr
