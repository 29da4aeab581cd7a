"""The README: short, its commands exist, its program runs."""

from __future__ import annotations

import re
import sys
import types
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
README = (REPOSITORY / "README.md").read_text()


def test_it_is_short() -> None:
    without_drawing = re.sub(r"```text\n.*?```\n", "", README, flags=re.DOTALL)
    assert len(without_drawing.splitlines()) < 120


def test_its_drawing_shows_what_one_has() -> None:
    [drawing] = re.findall(r"```text\n(.*?)```", README, re.DOTALL)
    assert all(word in drawing for word in ("my_service", "bus: Redis", "Helm chart", "Kubernetes cluster"))
    assert drawing.isascii()
    assert max(map(len, drawing.splitlines())) <= 80


def test_its_make_targets_exist() -> None:
    makefile = (REPOSITORY / "Makefile").read_text() + (REPOSITORY / "template" / "Makefile.jinja").read_text()
    wanted = set(re.findall(r"(?:^|`)make ([a-z-]+)", README, re.MULTILINE))
    assert {"demo", "test", "run", "check"} <= wanted
    assert wanted <= set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", "SECURITY.md", "helm/daebus/README.md"])
def test_the_targets_of_its_links_exist(page: str) -> None:
    text = (REPOSITORY / page).read_text()
    links = re.findall(r"\]\((?!https?:)([^)#]+)", text)
    folders = [name for name in re.findall(r"`([\w./-]+/[\w./-]*)`", text) if not name.startswith(("src", "/"))]
    for name in links + folders:
        assert (REPOSITORY / name).exists(), f"{page} names {name}"


@pytest.fixture
def program() -> Iterator[types.ModuleType]:
    """The program in the README, as a module."""
    [source] = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    module = types.ModuleType("greenhouse")
    sys.modules["greenhouse"] = module
    exec(compile(source, "README.md", "exec"), module.__dict__)
    yield module
    del sys.modules["greenhouse"]


def test_its_program_does_what_it_says(program: types.ModuleType) -> None:
    from daebus_runtime.testing import TestApp

    with TestApp(program.app) as service:
        assert service.call("water", {"plant": "basil"}) == {"moisture": 85}
        assert ("greenhouse.watered", {"plant": "basil"}) in service.broadcasts
        service.broadcast("weather.rain", {"percent": 10})
        assert service.http("GET", "/plants").json == {"basil": 95}
        service.clock.advance(20)
        assert service.http("GET", "/plants").json == {"basil": 93}
