"""The lists on the pages are complete and correct: settings, modules, commands, names of metrics, public names."""

from __future__ import annotations

import re

import click
from daebus_runtime.cli import main as command_line

from scripts import settings_table
from tests.docs.pages import DOCS, REPOSITORY
from tests.repository.test_import_order import ROOMS

PACKAGE = REPOSITORY / "runtime" / "daebus_runtime"
ARCHITECTURE = (DOCS / "architecture.md").read_text()


def test_the_table_of_settings_is_that_of_the_dataclass() -> None:
    page = settings_table.PAGE.read_text()
    assert page == settings_table.filled(page), "run: python -m scripts.settings_table --write"


def test_a_file_that_the_architecture_names_is_there() -> None:
    for name in re.findall(r"`((?:[a-z_]+/)*[a-z_]+\.py)`", ARCHITECTURE):
        assert (PACKAGE / name).is_file() or (REPOSITORY / name).is_file(), name


def test_every_module_has_its_room_in_the_drawing() -> None:
    drawing = ARCHITECTURE.partition("## The rooms")[2].partition("```text")[2].partition("```")[0]
    drawn = [set(re.findall(r"[a-z_]+", room)) for room in re.split(r"^[ \d]\d  ", drawing, flags=re.MULTILINE)[1:]]
    assert len(drawn) == len(ROOMS)
    for words, room in zip(drawn, ROOMS, strict=True):
        assert room - {"__main__"} <= words
        for folder in [name for name in room if (PACKAGE / name).is_dir() and name != "cli"]:
            assert {path.stem for path in (PACKAGE / folder).glob("*.py")} - {"__init__"} <= words, folder


def test_every_command_is_on_its_page() -> None:
    page = (DOCS / "commands.md").read_text()
    assert isinstance(command_line, click.Group)
    for name, command in command_line.commands.items():
        row = re.search(rf"`daebus {name}[^`]*`", page)
        assert row, name
        for parameter in command.params:
            if isinstance(parameter, click.Option) and parameter.name not in ("redis_url", "help"):
                assert f"--{parameter.name.rstrip('s').replace('_', '-')}" in row[0], f"daebus {name}: {parameter.opts}"
