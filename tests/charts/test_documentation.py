"""The commands and values in the guides: the values exist, and the charts accept them."""

from __future__ import annotations

import itertools
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.charts.charts import BUS, REPOSITORY, containers_of, render

PAGES = ["docs/kubernetes.md", "helm/daebus/README.md", "helm/daebus-bus/README.md"]
COMMAND = re.compile(r"helm (?:install|upgrade) [^\n]*(?:\\\n[^\n]*)*")


def commands() -> list[Any]:
    texts = {page: (REPOSITORY / page).read_text() for page in PAGES}
    found = [(page, command) for page, text in texts.items() for command in COMMAND.findall(blocks(text))]
    return [pytest.param(command, id=f"{page}: {command}") for page, command in found]


def blocks(text: str, language: str = "console") -> str:
    """The fenced blocks of a page, one after the other."""
    return "\n".join(re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL))


@pytest.mark.parametrize("command", commands())
def test_a_command_in_the_guides_renders(service_chart: Path, command: str) -> None:
    words = shlex.split(command.replace("\\\n", " "), comments=True)
    chart = BUS if "daebus-bus" in words[3] else service_chart
    values: dict[str, Any] = {}
    for flag, setting in itertools.pairwise(words):
        if flag == "--set":
            values = merged(values, parsed(setting))
    assert render(chart, values)


def parsed(setting: str) -> dict[str, Any]:
    """The value that `--set a.b=c` gives."""
    path, _, text = setting.partition("=")
    value = yaml.safe_load(text)
    for name in reversed(path.split(".")):
        value = {name: value}
    return dict(value)


def merged(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    both = {
        name: merged(below[name], above[name]) for name in below.keys() & above.keys() if isinstance(below[name], dict)
    }
    return {**below, **above, **both}


def test_the_values_in_the_guide_are_accepted(service_chart: Path) -> None:
    text = (REPOSITORY / "docs" / "kubernetes.md").read_text()
    assert render(service_chart, yaml.safe_load(blocks(text, "yaml")))


def test_the_guide_states_the_resources_of_a_pod(service_chart: Path) -> None:
    rows = re.findall(r"^\| ([^|]+) \| (\w+) CPU, (\w+) \| (\w+) \|", (REPOSITORY / PAGES[0]).read_text(), re.MULTILINE)
    told = {name: (cpu, memory, limit) for name, cpu, memory, limit in rows}
    pods = [
        item["spec"]["template"]["spec"]
        for item in [*render(service_chart), *render(BUS)]
        if "template" in item.get("spec", {})
    ]
    names = {"service": "service", "bus": "bus in the pod", "server": "`daebus-bus`"}
    asked = {}
    for container in [container for pod in pods for container in containers_of(pod)]:
        amounts = container["resources"]
        asked[names[container["name"]]] = (*amounts["requests"].values(), amounts["limits"]["memory"])
    assert told == asked


def test_the_values_on_the_page_for_platforms_are_taken(service_chart: Path) -> None:
    """In both charts, but for those of the bus inside the pod."""
    written = re.findall(r"```yaml\n(.*?)```", (REPOSITORY / "docs" / "platforms.md").read_text(), re.DOTALL)
    values = [yaml.safe_load(block) for block in written if "kind:" not in block]
    assert len(values) == 4
    for value in values:
        assert render(service_chart, value)
        if "bus" not in value:
            assert render(BUS, value)


def test_no_guide_imports_images_that_the_kubelet_may_delete() -> None:
    pages = [*(REPOSITORY / "docs").glob("*.md"), REPOSITORY / "template" / "README.md.jinja"]
    assert not [page for page in pages if re.search(r"^[^`]*ctr images import", page.read_text(), re.MULTILINE)]
