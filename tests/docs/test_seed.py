"""The overview page from which Daebus was ordered, kept in `seed/`: every program on it works unchanged."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable

import pytest

from scripts.complete_service import PAGE, PROGRAM, last_program
from tests.docs.pages import Block, blocks_of
from tests.docs.stage import Stage
from tests.support.process import ServiceProcess
from tests.support.waiting import wait_until
from tests.support.wire import WebSocketClient

SEED = PAGE.read_text()
SNIPPETS = {name: block for block in blocks_of(SEED, PAGE.name) for name in [block.text.partition("\n")[0]]}
PUBLISHED = "e172f3eacc36435fa54ce614ee13dbfa50abf3544d140acb72eebf7889f80908"
SECOND = """
    from daebus import Daebus, cache
    import json
    app = Daebus("watcher")

    @app.listen("metrics_updates")
    def seen(message):
        cache.rpush("seen", json.dumps(message))

    app.run()
"""


@pytest.fixture
def stage(make_stage: Callable[[Block], Stage]) -> Stage:
    return make_stage(Block(PAGE.name, 0, "python", last_program(SEED), "complete_service"))


def snippet(stage: Stage, first_line: str) -> Stage:
    stage.block = Block(PAGE.name, 0, "python", SNIPPETS[first_line].text, "snippet")
    return stage


def test_the_page_is_unchanged_since_it_was_published() -> None:
    assert hashlib.sha256(PAGE.read_bytes()).hexdigest() == PUBLISHED


def test_the_example_is_the_pages_last_program() -> None:
    assert PROGRAM.read_text() == last_program(SEED)
    assert f"```python\n{PROGRAM.read_text()}```\n" in SEED


# the smaller snippets, in the page's order


def test_action_handler(stage: Stage) -> None:
    with snippet(stage, '@app.action("get_status")').service() as service:
        assert service.call("get_status") == {"status": "healthy", "uptime": 3600}


def test_channel_listener(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    with snippet(stage, '@app.listen("system_events")').service() as service:
        assert service.broadcast("system_events", {"type": "shutdown"}) == 1
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []


def test_http_endpoint(stage: Stage) -> None:
    with snippet(stage, '@app.route("/api/status")').service() as service:
        answer = service.http("GET", "/api/status")
        assert (answer.status, answer.json) == (200, {"status": "operational", "version": "1.0.0"})


def test_background_task(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    with snippet(stage, '@app.background("cleanup", 3600)  # Run hourly').service() as service, caplog.at_level("INFO"):
        assert service.clock.advance(7200) == 2
    assert caplog.messages.count("Cleanup completed") == 2


def test_websocket_handler(stage: Stage) -> None:
    with snippet(stage, '@app.socket("chat_message")').service() as service, service.websocket() as client:
        answer = client.request("chat_message", {"message": "hello"})
        assert answer["type"] == "response"
        assert answer["data"]["status"] == "received"
        assert abs(answer["data"]["timestamp"] - time.time()) < 5


def test_no_snippet_is_left_out() -> None:
    assert len(SNIPPETS) == 7  # the drawing, the five snippets above, and the complete service


# the complete service


@pytest.mark.slow
def test_the_complete_service_runs_unchanged(stage: Stage) -> None:
    service = stage.program(PROGRAM)
    # Started now, so that it listens before the first broadcast.
    watcher = stage.program(SECOND, DAEBUS_MANAGEMENT_PORT=str(stage.port + 1))
    with stage.websocket() as client:
        assert client.ask("subscribe_metrics") == {
            "type": "response",
            "data": {"status": "subscribed", "update_interval": 10},
        }
        check_answers(stage, requests=1)
        check_that_the_mistake_hurts_nothing(stage, service)
        check_broadcasts(stage, client)
    assert watcher.terminate() == 0
    assert service.terminate() == 0
    assert service.count("Metrics broadcast completed") >= 2


def check_answers(stage: Stage, requests: int) -> None:
    """Asks by DaebusCaller and by HTTP."""
    reply = stage.caller("metrics_service").send_request("get_metrics")
    assert set(reply) == {"uptime", "requests", "broadcasts"}
    assert reply["requests"] == requests
    shown = stage.shell(f"curl -i {stage.url('/api/metrics')}").stdout
    assert shown.startswith("HTTP/1.1 200 OK\n")
    assert f'"requests":{requests}' in shown


def check_that_the_mistake_hurts_nothing(stage: Stage, service: ServiceProcess) -> None:
    """The page's program uses `logger` without importing it."""
    assert stage.caller("anybody").send_message("system_events", {"type": "maintenance_mode"}) == 1
    service.wait_line("NameError: name 'logger' is not defined")
    assert service.count("listener on 'system_events' failed") == 1
    check_answers(stage, requests=2)


def check_broadcasts(stage: Stage, client: WebSocketClient) -> None:
    """Two broadcasts, ten seconds apart, reach the WebSocket client and the second service."""
    first, second = client.receive(timeout=25), client.receive(timeout=25)
    assert first["type"] == second["type"] == "metrics_update"
    assert set(first["data"]) == {"uptime", "requests", "broadcasts", "timestamp"}
    assert second["data"]["broadcasts"] == first["data"]["broadcasts"] + 1
    assert 9.5 < second["data"]["timestamp"] - first["data"]["timestamp"] < 11
    redis = stage.client()
    wait_until(lambda: redis.llen("seen") >= 2)
