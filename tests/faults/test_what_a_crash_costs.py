"""At the start a service says once what a crash of its bus would cost."""

from __future__ import annotations

from typing import Any

import pytest

from tests.faults.instruments import Start, settings
from tests.support.redis_server import RedisServer
from tests.support.waiting import wait_until

pytestmark = pytest.mark.slow
PLAIN = """
    from daebus import Daebus

    app = Daebus("garden")


    @app.action("water")
    def water():
        return 1


    app.run()
"""
DURABLE = PLAIN.replace(
    "    app.run()", '    @app.listen("rain", durable=True)\n    def rain(message):\n        pass\n\n\n    app.run()'
)
KEPT = "how the bus keeps stored "


@pytest.mark.parametrize(
    ("program", "arguments", "level", "words"),
    [
        (PLAIN, [], "info", "requests: in memory only, so a restart of it loses everything that is stored"),
        (DURABLE, [], "warning", "requests and durable events: in memory only, so a restart of it loses everything"),
        (DURABLE, ["--appendonly", "yes"], "info", "once a second, so a crash of its node loses about a second"),
        (PLAIN, ["--appendonly", "yes", "--appendfsync", "always"], "info", "so a crash there loses nothing"),
        (PLAIN, ["--save", "3600 1"], "info", r"it makes snapshots \(3600 1\), so a crash there loses what was"),
    ],
)
def test_it_is_said_once(start_process: Start, program: str, arguments: list[str], level: str, words: str) -> None:
    with RedisServer(arguments=arguments) as server:
        garden = start_process(program, env={**settings(server.url), "DAEBUS_LOG_FORMAT": "json"}, name="garden.py")
        line = garden.wait_line(KEPT).string
        assert f'"level":"{level}"' in line, line
        assert garden.count(KEPT + ".*" + words) == 1, line
        server.kill()
        garden.wait_line("is away")
        server.start()
        wait_until(lambda: garden.count("is connected") == 2, 10)
        assert garden.count(KEPT) == 1
        assert garden.count("may remove stored messages") == 0


@pytest.mark.parametrize("policy", ["allkeys-lru", "volatile-ttl"])
def test_a_bus_that_may_remove_messages_is_named(start_process: Start, policy: str) -> None:
    with RedisServer(arguments=["--maxmemory", "64mb", "--maxmemory-policy", policy]) as server:
        garden = start_process(PLAIN, env=settings(server.url), name="garden.py")
        garden.wait_line(rf"may remove stored messages when its memory is full \(maxmemory-policy {policy}\)")


@pytest.mark.parametrize(
    ("rule", "words"), [("-config", "cannot be read .CONFIG GET is not allowed."), ("-info", None)]
)
def test_a_user_that_may_not_ask_starts_as_well(start_process: Start, rule: str, words: str | None) -> None:
    with RedisServer() as server:
        client = server.client()
        administer: Any = client.execute_command
        administer("ACL", "SETUSER", "ada", "on", ">word", "~*", "&*", "+@all", rule)
        url = f"redis://ada:word@127.0.0.1:{server.port}"
        garden = start_process(PLAIN, env=settings(url), name="garden.py")
        garden.wait_line("is connected")
        if words:
            garden.wait_line(KEPT + ".*" + words)
        client.close()
