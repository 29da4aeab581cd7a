"""The shell blocks of a generated README, pasted in their order as they stand, say and do what the README says."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from scripts.snapshot import snapshot
from tests.support.ports import free_port
from tests.support.process import ServiceProcess
from tests.support.redis_server import RedisServer
from tests.template.readme import SHELLS, Desk, blocks, interrupt, missing
from tests.template.rendering import REPOSITORY, copy_project
from tests.template.updating import commit_all, replace

pytestmark = pytest.mark.slow

MINUTES = 300.0  # seconds for a block that installs
EVERY_DAY = "make check"
MEANWHILE = ".venv/bin/daebus doctor"
UPDATE = "copier update --defaults"
DOCKER = ("make up", "make image")  # test_readme_blocks_in_docker.py
CLUSTER = ("make image chart", "helm upgrade --install {chart} dist/{chart}-0.1.0.tgz --wait")  # tests/cluster
Start = Callable[..., ServiceProcess]


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone of its own: an update needs a commit that is newer."""
    return snapshot(REPOSITORY, tmp_path_factory.mktemp("readme") / "daebus-template")


@pytest.fixture(scope="module")
def project(template: Path) -> Path:
    """One for both shells: the second finds an environment. Its port is free, for the blocks name it."""
    made = copy_project(template, template.parent / "cold_store", port=str(free_port()))
    return commit_all(made, "from the template")


@pytest.fixture
def desk(project: Path, start_process: Start, shared_redis: RedisServer, shell: str) -> Desk:
    if reason := missing(shell):
        pytest.skip(reason)
    return Desk(project, start_process, shell, {"DAEBUS_REDIS_URL": shared_redis.url})


@pytest.mark.parametrize("shell", ["bash", pytest.param("dash", marks=pytest.mark.long)])
def test_every_day(desk: Desk, shared_redis: RedisServer) -> None:
    service = desk.paste(EVERY_DAY)
    service.wait_line("is connected", MINUTES)
    assert re.search(r"\d+ passed", service.output)
    other = desk.paste(MEANWHILE)
    other.wait_line("^listening on cold_store.garden")
    assert_told(other.output)
    with shared_redis.client() as client:
        client.publish("cold_store.garden", "{}")
    other.wait_line('{"channel":"cold_store.garden","payload":{}}')
    interrupt(other)
    interrupt(service)
    assert service.count("service cold_store stopped") == 1, service.output


@pytest.mark.long
@pytest.mark.parametrize("shell", SHELLS)
def test_an_update(desk: Desk, template: Path, shell: str) -> None:
    replace(template / "template" / "README.md.jinja", r"\Z", f"\nNewer, says {shell}.\n")
    commit_all(template, "newer")
    told = desk.run(UPDATE, MINUTES)
    assert f"+Newer, says {shell}." in told, "git diff shows it"
    assert re.search(r"\d+ passed", told), "and the check is green"
    commit_all(desk.project, "updated")


def assert_told(output: str) -> None:
    """What doctor, call, curl and send printed, in this order."""
    lines = output.splitlines()
    about = {line.split()[1]: line for line in lines if re.match(r"(ok|warn|fail) ", line)}
    assert {line.split()[0] for line in about.values()} == {"ok"}, output
    assert "cold_store.app:app (pyproject.toml): service 'cold_store'" in about["target"]
    assert "'cold_store' answers: 1 replica" in about["service"]
    assert "the service runs" in about["http"]
    called, routes, watered, sent = [json.loads(line) for line in lines if line.startswith("{")]
    assert (called["plant"], watered["plant"], sent) == ("basil", "basil", {"receivers": 1})
    assert routes["routes"]["/plants/<name>/water"] == ["POST"]


def of_others(project: Path) -> list[str]:
    """The first lines of the blocks that tests elsewhere run."""
    chart = project.name.replace("_", "-")
    return [first.format(chart=chart) for first in (*DOCKER, *CLUSTER)]


@pytest.mark.parametrize("features", [[], ["http"], ["websocket", "tasks"]], ids=lambda some: "+".join(some) or "none")
@pytest.mark.parametrize("registry", ["", "registry.local:5000/team"], ids=["carried", "pushed"])
def test_other_answers_have_the_same_blocks_in_words_of_any_shell(
    plain: Path, tmp_path: Path, features: list[str], registry: str
) -> None:
    made = copy_project(plain, tmp_path / "cold_store", features=features, image_registry=registry)
    found = blocks(made)
    assert list(found) == [EVERY_DAY, MEANWHILE, *of_others(made), UPDATE]
    for text in found.values():
        for shell in SHELLS:
            if missing(shell) is None:
                done = subprocess.run([shell, "-n"], input=text, capture_output=True, text=True)
                assert (done.returncode, done.stderr) == (0, "")
    assert "```console" not in (made / "README.md").read_text(), "a block is marked sh, so that it is pasted here"
