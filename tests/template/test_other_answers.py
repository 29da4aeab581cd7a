"""Description, port and features; and the promise that no question ever needs `--trust`."""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path

import pytest
import yaml

from tests.template.rendering import REPOSITORY, copier, copy_project

BAD_DESCRIPTIONS = {
    "empty": "",
    "too long": "x" * 81,
    "a double quote": 'Says "hi"',
    "a backslash": "a\\b",
    "a trailing backslash": "a\\",
    "a backtick": "Runs `id`",
    "a line break": "two\nlines",
    "a carriage return": "two\rlines",
    "a line separator": "two\u2028lines",
    "a zero byte": "a\0b",
    "an escape": "a\x1b[31mb",
    "Jinja": "{{ 7 * 7 }}",
    "HTML": "<script>",
    "a link": "[x](y)",
    "emphasis": "*loud*",
    "a table": "a | b",
    "a shell variable": "$HOME",
    "a heading": "# big",
    "a list": "- item",
    "a numbered list": "1. item",
    "a leading space": " x",
    "a trailing space": "x ",
    "a right-to-left override": "a\u202eb",
    "a lone surrogate": "a\ud83cb",
}

GOOD_DESCRIPTIONS = [
    "Counts visitors",
    "It's 50% off: salt & pepper, (mostly) &amp; free!",
    "Wärmt das Gewächshaus",
    "温室を見守る",
    "Waters plants 🌱",
    "🌱 waters plants",
    "my_service talks to _other_ services",
    "x" * 80,
    "C++ / C@home; a+b?",
]

BAD_PORTS = [
    "0",
    "80",
    "1023",
    "65536",
    "99999",
    "9000",
    "-8080",
    "8080.5",
    "08080",
    "8e3",
    "0x1F90",
    "٨٠٨٠",
    "http",
    "",
    "8080\n",
]


@pytest.mark.slow
@pytest.mark.parametrize("text", BAD_DESCRIPTIONS.values(), ids=BAD_DESCRIPTIONS.keys())
def test_a_description_that_would_render_wrong_is_refused(plain: Path, tmp_path: Path, text: str) -> None:
    with pytest.raises(ValueError, match=r"cannot be the description: .*\.\Z"):
        copy_project(plain, tmp_path / "target", description=text)
    assert not (tmp_path / "target").exists()


@pytest.mark.slow
@pytest.mark.parametrize("text", GOOD_DESCRIPTIONS)
def test_a_description_is_the_same_text_everywhere(plain: Path, tmp_path: Path, text: str) -> None:
    target = copy_project(plain, tmp_path / "target", service_name="svc", description=text)
    assert tomllib.loads((target / "pyproject.toml").read_text())["project"]["description"] == text
    assert ast.get_docstring(ast.parse((target / "src/svc/__init__.py").read_text())) == text
    assert yaml.safe_load((target / ".copier-answers.yml").read_text())["description"] == text
    paragraph = (target / "README.md").read_text().splitlines()[2]
    assert re.sub(r"\\([_&])", r"\1", paragraph) == text
    assert not re.search(r"(?<!\\)[_&]", paragraph)  # Markdown would take them for emphasis and entities


@pytest.mark.slow
@pytest.mark.parametrize("port", BAD_PORTS)
def test_a_bad_port_is_refused(plain: Path, tmp_path: Path, port: str) -> None:
    with pytest.raises(ValueError, match=r"cannot be the port: .*\.\Z"):
        copy_project(plain, tmp_path / "target", port=port)
    assert not (tmp_path / "target").exists()


@pytest.mark.parametrize("port", ["1024", "8080", "65535"])
def test_the_port_is_where_the_service_listens(plain: Path, tmp_path: Path, port: str) -> None:
    target = copy_project(plain, tmp_path / "target", service_name="svc", port=port)
    assert f"DaebusHttp(port={port})" in (target / "src/svc/app.py").read_text()


def test_without_http_the_websocket_has_the_port(plain: Path, tmp_path: Path) -> None:
    target = copy_project(plain, tmp_path / "target", service_name="svc", features=["websocket"], port="8123")
    assert "DaebusWebSocket(port=8123)" in (target / "src/svc/live.py").read_text()


def test_with_neither_there_is_no_port(plain: Path, tmp_path: Path) -> None:
    target = copy_project(plain, tmp_path / "target", features=["tasks"])
    assert "port" not in yaml.safe_load((target / ".copier-answers.yml").read_text())


@pytest.mark.slow
@pytest.mark.parametrize("features", ["[htp]", "[http, 'x']", "http", "{}", "7"])
def test_an_unknown_feature_is_refused(plain: Path, tmp_path: Path, features: str) -> None:
    done = copier("copy", "--defaults", "-d", f"features={features}", plain, "target", at=tmp_path)
    assert done.returncode != 0
    assert not (tmp_path / "target").exists()


def test_every_question_has_help_and_a_default() -> None:
    for name, question in questions().items():
        assert "default" in question, name
        assert question.get("when") is False or question["help"], name


def test_nothing_ever_needs_trust() -> None:
    settings = yaml.safe_load((REPOSITORY / "copier.yml").read_text())
    assert not {"_tasks", "_migrations", "_jinja_extensions", "_external_data"} & set(settings)
    assert settings["_envops"]["undefined"] == "jinja2.StrictUndefined"
    assert settings["_min_copier_version"] == "9.15.0"


def questions() -> dict[str, dict[str, object]]:
    settings = yaml.safe_load((REPOSITORY / "copier.yml").read_text())
    return {name: details for name, details in settings.items() if not name.startswith("_")}
