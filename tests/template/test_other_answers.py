"""All answers except the name, one by one, and the promise that the template never needs `--trust`."""

from __future__ import annotations

import ast
import importlib.metadata
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

REGISTRIES = {
    "ghcr.io/org": True,
    "docker.io/team": True,
    "localhost": True,
    "localhost:5000": True,
    "registry.local:5000/team/garden_tools": True,
    "10.0.0.7:5000": True,
    "a-b.example.org/c.d/e-f": True,
    "team": False,
    "ghcr": False,
    "GHCR.io/org": False,
    "ghcr.io/Org": False,
    "ghcr.io/": False,
    "/org": False,
    "ghcr.io//org": False,
    "ghcr.io:/org": False,
    "ghcr.io:0/org": False,
    "ghcr.io:65536/org": False,
    "ghcr.io/org:latest": False,
    "ghcr.io/org@sha256": False,
    "-ghcr.io": False,
    "ghcr-.io": False,
    "ghcr..io": False,
    "ghcr.io/-org": False,
    "https://ghcr.io/org": False,
    "oci://ghcr.io/org": False,
    "ghcr.io/org ": False,
    "ghcr.io/org\n": False,
    "[::1]:5000": False,
    "ghcr.io/" + "a" * 113: False,
}
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
    assert not re.search(r"(?<!\\)[_&]", paragraph)  # unescaped, Markdown would take them for emphasis or entities


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


@pytest.mark.parametrize("licence", ["MIT", "Apache-2.0", "BSD-3-Clause"])
def test_a_licence_is_there_with_its_whole_text(plain: Path, tmp_path: Path, licence: str) -> None:
    target = copy_project(plain, tmp_path / "target", licence=licence, author="Ada O'Neil")
    project = tomllib.loads((target / "pyproject.toml").read_text())["project"]
    assert (project["license"], project["license-files"]) == (licence, ["LICENSE"])
    text = (target / "LICENSE").read_text()
    assert len(re.findall(r"^ *Copyright (\(c\) )?Ada O'Neil$", text, re.MULTILINE)) == 1
    assert not re.search(r"\b20\d\d\b(?<!2004)", text)  # no year, which an update would have to change
    assert published(licence) in words(text)


def test_without_a_licence_no_index_takes_the_package(plain: Path, tmp_path: Path) -> None:
    target = copy_project(plain, tmp_path / "target", licence="none", author="Ada")
    project = tomllib.loads((target / "pyproject.toml").read_text())["project"]
    assert not (target / "LICENSE").exists()
    assert project["classifiers"] == ["Private :: Do Not Upload"]
    assert not {"license", "license-files"} & set(project)


def test_the_authors_are_named_after_the_service(plain: Path, tmp_path: Path) -> None:
    target = copy_project(plain, tmp_path / "target", service_name="cold-store")
    assert "Copyright (c) The cold-store authors\n" in (target / "LICENSE").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("registry", [name for name, good in REGISTRIES.items() if not good])
def test_a_bad_registry_is_refused(plain: Path, tmp_path: Path, registry: str) -> None:
    with pytest.raises(ValueError, match=r"cannot be the image registry: "):
        copy_project(plain, tmp_path / "target", image_registry=registry)
    assert not (tmp_path / "target").exists()


@pytest.mark.slow
@pytest.mark.parametrize("registry", [name for name, good in REGISTRIES.items() if good])
def test_the_registry_stands_before_the_images_name(plain: Path, tmp_path: Path, registry: str) -> None:
    target = copy_project(plain, tmp_path / "target", service_name="cold_store", image_registry=registry)
    values = yaml.safe_load((target / "helm/cold-store/values.yaml").read_text())
    assert values["image"]["repository"] == f"{registry}/cold-store"
    assert f"docker push {registry}/cold-store:0.1.0" in (target / "README.md").read_text()


def test_a_word_without_a_domain_may_be_meant_for_docker_hub(plain: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"would be taken for a user of Docker Hub; say docker\.io/team if it is one"):
        copy_project(plain, tmp_path / "target", image_registry="team")


@pytest.mark.parametrize("mode", ["sidecar", "shared"])
def test_the_bus_mode_is_the_charts(plain: Path, tmp_path: Path, mode: str) -> None:
    target = copy_project(plain, tmp_path / "target", service_name="svc", bus_mode=mode)
    assert yaml.safe_load((target / "helm/svc/values.yaml").read_text())["bus"]["mode"] == mode


@pytest.mark.parametrize("mode", ["replica", "external", "Sidecar", "none", ""])
def test_no_other_bus_mode_is_known(plain: Path, tmp_path: Path, mode: str) -> None:
    with pytest.raises(ValueError, match=r"Invalid choice for 'bus_mode': .* is not in \['sidecar', 'shared'\]$"):
        copy_project(plain, tmp_path / "target", bus_mode=mode)
    assert not (tmp_path / "target").exists()


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


def test_an_answer_that_this_template_checks_against_is_one_of_its_questions() -> None:
    asked = [name for name, details in questions().items() if details.get("when") is not False]
    validator = str(questions()["service_name"]["validator"])
    assert f"asked = '{', '.join(asked)}'" in validator
    derived = [details for details in questions().values() if details.get("when") is False]
    assert all("cannot be given" in str(details["validator"]) for details in derived)


def published(licence: str) -> str:
    """The licence's text from an installed package: what follows the copyright line, or all of it for Apache's."""
    name, file, begins = {
        "MIT": ("pytest", "LICENSE", "Permission is"),
        "BSD-3-Clause": ("jinja2", "LICENSE.txt", "Redistribution and"),
        "Apache-2.0": ("packaging", "LICENSE.APACHE", "Apache License"),
    }[licence]
    found = [path for path in importlib.metadata.files(name) or [] if path.name == file]
    text = words(found[0].read_text())
    return text[text.index(begins) :].split(" APPENDIX: ")[0]


def words(text: str) -> str:
    return " ".join(text.split())
