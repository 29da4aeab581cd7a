"""Services of an earlier commit and of this one on one bus: each calls the other, and what follows a reply goes on."""

from __future__ import annotations

import subprocess
from pathlib import Path

import gevent.pool
import pytest
from daebus_runtime import DaebusCaller

from tests.cluster.images import extract
from tests.faults.instruments import Start, settings
from tests.faults.mill import START_SECONDS
from tests.support import wire
from tests.support.redis_server import RedisServer
from tests.support.waiting import wait_until
from tests.template.rendering import REPOSITORY

pytestmark = pytest.mark.slow

# The first is from before requests were stored, the second stores them.
EARLIER = ("67fe023", "7d59a24", "9c54909")
PROGRAM = """
    import os, time
    from daebus import Daebus, DaebusCaller, broadcast, request, response

    name, other = os.environ["NAME"], os.environ["OTHER"]
    app = Daebus(name)


    @app.action("echo")
    def echo():
        response.send({"echo": request.payload["n"], "by": name})
        time.sleep(0.01)
        broadcast.send("after", {"n": request.payload["n"], "by": name})


    @app.action("ask")
    def ask():
        found = DaebusCaller(other).send_request("echo", {"n": request.payload["n"]}, timeout=20)
        DaebusCaller(other).send_to_service({"n": request.payload["n"]}, "note")
        return found


    @app.action("note")
    def note():
        broadcast.send("noted", {"n": request.raw["n"], "by": name})


    app.run()
"""


def knows(commit: str) -> bool:
    return not subprocess.run(
        ["git", "cat-file", "-e", f"{commit}^{{commit}}"], cwd=REPOSITORY, capture_output=True
    ).returncode


@pytest.fixture(scope="module", params=EARLIER)
def earlier(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The runtime of an earlier commit."""
    if not knows(request.param):
        pytest.skip(f"this repository does not know {request.param}: it is a shallow clone")
    tree = tmp_path_factory.mktemp("earlier") / request.param
    extract(request.param, tree)
    return Path(tree / "runtime")


def test_they_call_each_other(redis_server: RedisServer, start_process: Start, earlier: Path) -> None:
    url, count = redis_server.url, 60
    client = redis_server.client()
    old_env = {**settings(url), "PYTHONPATH": str(earlier), "NAME": "old", "OTHER": "new"}
    old = start_process(PROGRAM, env=old_env, name="old.py")
    for _ in range(2):
        new = start_process(PROGRAM, env={**settings(url), "NAME": "new", "OTHER": "old"}, name="new.py")
        new.wait_line("is connected", START_SECONDS)
    old.wait_line("is connected", START_SECONDS)
    wait_until(lambda: wire.subscribers(client, "new") == 2 and wire.subscribers(client, "old") == 1, START_SECONDS)
    with wire.Listener(client, "after", "noted") as heard:
        pool = gevent.pool.Pool(20)
        calls = {
            name: [
                pool.spawn(DaebusCaller(name, redis_url=url).send_request, "ask", {"n": n}, timeout=30)
                for n in range(count)
            ]
            for name in ("old", "new")
        }
        for name, other in (("old", "new"), ("new", "old")):
            assert [one.get(timeout=60) for one in calls[name]] == [{"echo": n, "by": other} for n in range(count)]
        wait_until(lambda: len(heard.messages) >= 4 * count, 20, lambda: f"{len(heard.messages)} messages")
        gevent.sleep(0.2)  # a second run of something would have been heard by now
        seen = sorted((channel, message["by"], message["n"]) for channel, message in heard.received)
    assert seen == sorted(
        (channel, by, n) for channel in ("after", "noted") for by in ("old", "new") for n in range(count)
    )
    client.close()
