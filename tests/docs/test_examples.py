"""The examples run as their README says. (`complete_service.py`: see test_seed.py.)"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable

import pytest
from daebus_runtime import RemoteError

from tests.docs.pages import REPOSITORY, Block, blocks_of
from tests.docs.stage import Stage
from tests.support.ports import free_port
from tests.support.process import ServiceProcess
from tests.support.wire import Listener

EXAMPLES = REPOSITORY / "examples"
README = (EXAMPLES / "README.md").read_text()
ORDER, NEXT = (
    Block("examples/README.md", block.line, block.language, block.text, "session")
    for block in blocks_of(README, "examples/README.md")
)


@pytest.fixture
def stage(make_stage: Callable[[Block], Stage]) -> Stage:
    return make_stage(ORDER)


def start(stage: Stage, name: str) -> ServiceProcess:
    return stage.program(EXAMPLES / name, DAEBUS_MANAGEMENT_PORT=str(free_port()))


@pytest.mark.slow
def test_the_waiter_and_the_kitchen(stage: Stage) -> None:
    kitchen, waiter = start(stage, "kitchen.py"), start(stage, "waiter.py")
    stage.block = ORDER
    stage.session()
    waiter.wait_line("serving soup at table 4")
    progress: list[object] = []
    order = stage.caller("waiter").send_request("order", {"dish": "salad", "table": 2}, on_progress=progress.append)
    assert order == {"order": 2, "dish": "salad"}
    assert progress == [
        {"step": "wash", "progress_percentage": 50},
        {"step": "chop", "progress_percentage": 100},
    ]
    with pytest.raises(RemoteError, match="sorry: nobody here can cook whale"):
        stage.caller("waiter").send_request("order", {"dish": "whale", "table": 2})
    assert kitchen.terminate() == waiter.terminate() == 0


@pytest.mark.slow
def test_the_thermometer(stage: Stage) -> None:
    with Listener(stage.client(), "sensors.*") as heard:
        process = start(stage, "thermometer.py")
        thermometer = stage.caller("thermometer")
        assert thermometer.send_request("set_interval", {"seconds": 0.05}) == {"seconds": 0.05}
        with pytest.raises(RemoteError, match=r"from 0\.05 to 10"):
            thermometer.send_request("set_interval", {"seconds": "soon"})
        first = heard.wait_for(1)[0]
        assert isinstance(first["celsius"], float)
        assert isinstance(thermometer.send_request("read")["celsius"], float)
        assert float(stage.client().get("thermometer:celsius") or "nan") > -300
        assert process.terminate() == 0


@pytest.mark.slow
def test_the_kiosk(stage: Stage) -> None:
    process = start(stage, "kiosk.py")
    page = stage.shell(f"curl -i {stage.url('/')}").stdout
    assert "text/html; charset=utf-8" in page
    assert "<h1>Now serving</h1>" in page
    with pytest.raises(RemoteError, match="nobody waits"):
        stage.caller("kiosk").send_request("next")
    with stage.websocket() as visitor, stage.websocket() as screen:
        shown = {"type": "state", "data": {"serving": 0, "taken": 0, "celsius": None}}
        assert visitor.receive() == screen.receive() == shown
        assert visitor.ask("take") == {"type": "response", "data": {"number": 1}}
        stage.block = NEXT
        stage.session()
        assert screen.receive()["data"] == {"serving": 1, "taken": 1, "celsius": None}
        stage.caller("anybody").send_message("sensors.room", {"celsius": 21.5})
        assert screen.receive()["data"]["celsius"] == 21.5
        assert process.terminate() == 0
        assert screen.wait_closed()[0] == 1001


def test_the_readme_names_every_example() -> None:
    named = set(re.findall(r"\(([a-z_]+\.py)\)", README))
    assert named == {path.name for path in EXAMPLES.glob("*.py")}


def test_the_examples_are_formatted_and_lint_clean() -> None:
    for words in (("format", "--check"), ("check",)):
        command = [sys.executable, "-m", "ruff", *words, str(EXAMPLES)]
        done = subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY)
        assert done.returncode == 0, done.stdout + done.stderr
