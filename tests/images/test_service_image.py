"""The image of a generated service, built by its own `make image`; it runs without any other container."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any

import pytest

from tests.support.docker import LABEL, Container, Generated, inspected
from tests.support.waiting import wait_until
from tests.support.wire import WebSocketClient

pytestmark = [pytest.mark.slow, pytest.mark.docker]
TRIES = 3


def get(container: Container, port: int, path: str) -> Any:
    """Sends a GET; the JSON of the answer, or None without an answer or with an error status."""
    try:
        with urllib.request.urlopen(f"http://{container.address(port)}{path}", timeout=5) as answer:
            return json.load(answer)
    except (OSError, urllib.error.HTTPError):
        return None


def ready_after(container: Container) -> float:
    """Seconds from the start of `docker run` to the first 200 of /readyz."""
    wait_until(lambda: get(container, 9000, "/readyz"), 60, container.said)
    return time.monotonic() - container.began


def test_its_labels_and_settings_are_its_own(service: Generated) -> None:
    settings = inspected(f"{service.image}:0.1.0")["Config"]
    assert settings["User"] == "65532:65532"
    assert settings["Cmd"] == ["daebus", "run", "cold_store.app:app"]
    assert settings["ExposedPorts"].keys() == {"8080/tcp", "9000/tcp"}
    labels = {name.removeprefix(f"{LABEL}."): text for name, text in settings["Labels"].items() if text}
    assert labels["title"] == "cold_store"
    assert labels["description"] == "Keeps what's cold: 24 h a day"
    assert labels["authors"] == "The Garden & Co"
    assert (labels["licenses"], labels["version"], labels["revision"]) == ("MIT", "0.1.0", "unknown")
    # The base's own labels must not remain on the service's image.
    inherited = inspected(service.base)["Config"]["Labels"]
    assert {name for name, text in inherited.items() if settings["Labels"][name] == text} == set()


def test_without_rights_and_other_containers_it_answers_everything(
    service: Generated, start: Callable[..., Container]
) -> None:
    container = start(f"{service.image}:0.1.0")
    container.wait_ready()
    assert get(container, 8080, "/plants")["plants"]["basil"] == 60
    called = container.run("daebus", "call", "cold_store", "water", '{"plant": "basil"}')
    assert json.loads(called) == {"plant": "basil", "moisture": 85}
    page = WebSocketClient(f"ws://{container.address(8080)}/ws")
    page.send({"type": "look"})
    assert page.receive()["data"]["plants"]["basil"] == 85
    page.close()
    assert "private: other machines cannot reach it" in container.said()

    status = dict(line.split(":\t", 1) for line in container.run("cat", "/proc/1/status").splitlines() if ":\t" in line)
    assert {status[kind].split()[0] for kind in ("Uid", "Gid")} == {"65532"}
    assert {int(status[kind], 16) for kind in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {0}
    assert status["NoNewPrivs"] == "1"
    with pytest.raises(AssertionError, match="Read-only file system"):
        container.run("touch", "/srv/file")


COMPILED = """
import importlib.util, os, sys
import cold_store.app
for name, module in list(sys.modules.items()):
    source = getattr(getattr(module, "__spec__", None), "origin", None)
    if not (isinstance(source, str) and source.endswith(".py")) or name == "__main__":
        continue
    try:
        with open(importlib.util.cache_from_source(source), "rb") as file:
            magic, flags, *rest = (file.read(4) for _ in range(4))
    except OSError:
        print(name, "is not compiled")
        continue
    about, text = os.stat(source), open(source, "rb").read()
    number = lambda value: (int(value) & 0xFFFFFFFF).to_bytes(4, "little")
    by_time, by_content = [number(about.st_mtime), number(about.st_size)], importlib.util.source_hash(text)
    fits = b"".join(rest) == by_content if flags[0] & 1 else rest == by_time
    if magic != importlib.util.MAGIC_NUMBER or not fits:
        print(name, "is compiled from another file")
"""


def test_every_module_that_it_imports_is_compiled(service: Generated, start: Callable[..., Container]) -> None:
    container = start(f"{service.image}:0.1.0")
    container.wait_ready()
    assert container.run("python", "-c", COMPILED).strip() == ""


def test_the_engine_reports_it_healthy(service: Generated, start: Callable[..., Container]) -> None:
    container = start(f"{service.image}:0.1.0")
    wait_until(lambda: container.state()["Health"]["Status"] == "healthy", 60, container.said)


@pytest.mark.alone
def test_it_is_ready_in_three_seconds_and_ends_in_two(
    service: Generated, start: Callable[..., Container], measured: Callable[[str], None]
) -> None:
    """From `docker run` to the first 200 of /readyz, from `docker stop` to its return; the best of three."""
    ready, ended = [], []
    for _ in range(TRIES):
        container = start(f"{service.image}:0.1.0")
        ready.append(ready_after(container))
        ended.append(container.stop())
        assert container.state()["ExitCode"] == 0, container.said()
    measured(f"docker run to /readyz {min(ready):.2f} s, SIGTERM to exit 0 {min(ended):.2f} s (best of {TRIES})")
    assert min(ready) < 3, ready
    assert min(ended) < 2, ended


def test_a_service_without_a_port_of_its_own_runs_too(
    build: Callable[..., Generated], start: Callable[..., Container]
) -> None:
    """The other answers: neither HTTP nor WebSocket, no licence, a name with a dash."""
    service = build(service_name="night-watch", features=["tasks"], licence="none", bus_mode="shared")
    settings = inspected(f"{service.image}:0.1.0")["Config"]
    assert settings["ExposedPorts"].keys() == {"9000/tcp"}
    assert settings["Cmd"] == ["daebus", "run", "night_watch.app:app"]
    assert f"{LABEL}.licenses" not in settings["Labels"]
    container = start(f"{service.image}:0.1.0")
    container.wait_ready()
    called = json.loads(container.run("daebus", "call", "night-watch", "water", '{"plant": "mint"}'))
    assert called["plant"] == "mint"
    assert 60 < called["moisture"] <= 70  # it dries a little every ten seconds
    assert "HTTP" not in container.said()
    container.stop()
    assert container.state()["ExitCode"] == 0, container.said()
