"""`redeliver=False`: what may have begun does not begin again."""

from __future__ import annotations

from pathlib import Path

import pytest
from daebus_runtime import Daebus, DaebusCaller, errors

from tests.faults.instruments import Start, settings
from tests.faults.mill import START_SECONDS
from tests.support.redis_server import RedisServer
from tests.support.waiting import wait_until

pytestmark = pytest.mark.slow

TILL = """
    import os
    from daebus import Daebus, request

    app = Daebus("till")
    log = os.open("runs", os.O_WRONLY | os.O_APPEND | os.O_CREAT)


    @app.action("charge", redeliver=False)
    def charge():
        os.write(log, b"charge\\n")
        if request.payload == "die":
            os._exit(9)
        return "charged"


    @app.listen("paid", durable=True, redeliver=False)
    def paid(message):
        os.write(log, b"paid\\n")
        if message["die"]:
            os._exit(9)


    app.run()
"""


def test_it_is_answered_or_logged_and_not_run(redis_server: RedisServer, start_process: Start, tmp_path: Path) -> None:
    url = redis_server.url
    tills = [start_process(TILL, env=settings(url), name="till.py") for _ in range(3)]
    for till in tills:
        till.wait_line("is connected", START_SECONDS)
    client, runs = redis_server.client(), tmp_path / "runs"
    wait_until(lambda: client.hlen("daebus:{till}:events:beats") == client.hlen("daebus:{till}:beats") == 3, 20)
    caller = DaebusCaller("till", redis_url=url)
    assert caller.send_request("charge", "ok", timeout=20) == "charged"
    with pytest.raises(errors.RemoteError, match="action 'charge' may have run already") as caught:
        caller.send_request("charge", "die", timeout=40)
    assert caught.value.code == errors.WORKER_DIED
    assert runs.read_text().split() == ["charge"] * 2
    assert caller.send_message("paid", {"die": True}, durable=True) == 1
    wait_until(lambda: any(till.count("durable listener on 'paid' may have run already") for till in tills), 40)
    assert caller.send_message("paid", {"die": False}, durable=True) == 1
    wait_until(lambda: runs.read_text().split() == ["charge", "charge", "paid", "paid"], 20)
    client.close()


def test_only_durable_listeners_can_say_so() -> None:
    with pytest.raises(errors.RegistrationError, match="a plain one never gets a message again"):
        Daebus("till").listen("paid", redeliver=False)
