"""Every text as every answer: it is refused in one line that stands alone, or it is the same text in every file."""

from __future__ import annotations

import ast
import json
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.template.rendering import copier, copy_project

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("template_read_once")]

ANSWERS = ("service_name", "description", "author", "licence", "features", "port", "bus_mode", "image_registry")
FREE = frozenset({"description", "author"})
NAME = frozenset({"service_name"})
REGISTRY = frozenset({"image_registry"})
NOWHERE: frozenset[str] = frozenset()

# The name of the text, the text itself, and the questions that accept it.
TEXTS: dict[str, tuple[str, frozenset[str]]] = {
    # invisible characters
    "empty": ("", REGISTRY),
    "blanks": ("  ", NOWHERE),
    "a tab": ("a\tb", NOWHERE),
    "a line break": ("two\nlines", NOWHERE),
    "a trailing line break": ("word\n", NOWHERE),
    "a carriage return": ("two\rlines", NOWHERE),
    "a zero byte": ("a\0b", NOWHERE),
    "an escape sequence": ("a\x1b[31mb", NOWHERE),
    "a delete character": ("a\x7fb", NOWHERE),
    "a next-line character": ("a\x85b", NOWHERE),
    "a line separator": ("a\u2028b", NOWHERE),
    "half of a surrogate pair": ("a\ud83cb", NOWHERE),
    "a soft hyphen": ("a\u00adb", NOWHERE),
    "a zero-width space": ("a\u200bb", NOWHERE),
    "a zero-width joiner": ("a\u200db", NOWHERE),
    "a right-to-left override": ("a\u202eb", NOWHERE),
    "an Arabic letter mark": ("a\u061cb", NOWHERE),
    "a byte-order mark": ("\ufeffa", NOWHERE),
    "a tag character": ("a\U000e0041", NOWHERE),
    "a no-break space inside": ("a\u00a0b", FREE),
    "a no-break space at the end": ("a\u00a0", NOWHERE),
    "an ideographic space in front": ("\u3000a", NOWHERE),
    # characters that look like others
    "a Cyrillic look-alike": ("s\u0435rvice", FREE),
    "Greek": ("υπηρεσία", FREE),
    "Chinese": ("服务", FREE),
    "full-width letters": ("\uff53\uff45\uff52vice", FREE),
    "Arabic-Indic digits": ("٨٠٨٠", FREE),
    "a superscript digit": ("com¹", FREE),
    "a dotless i": ("serv\u0131ce", FREE),
    "a Kelvin sign": ("\u212aelvin", FREE),
    "a letter and its accent": ("cafe\u0301", FREE),
    "a letter with its accent": ("caf\u00e9", FREE),
    "emoji": ("🌱 and 🌧", FREE),
    # names of files, hosts and people
    "a space": ("my service", FREE),
    "a leading space": (" word", NOWHERE),
    "a trailing space": ("word ", NOWHERE),
    "a dot": ("my.service", FREE | REGISTRY),
    "a parent folder": ("../service", NOWHERE),
    "a slash": ("my/service", FREE),
    "an absolute path": ("/etc", NOWHERE),
    "a backslash": ("my\\service", NOWHERE),
    "a Windows device": ("con", FREE),
    "a Windows device with an ending": ("LPT1.txt", FREE),
    "a Windows drive": ("C:", FREE),
    "a registry": ("ghcr.io/org", FREE | REGISTRY),
    "a registry with a slash too many": ("ghcr.io/org/", FREE),
    "a registry with a port": ("registry.local:5000", FREE | REGISTRY),
    "a registry with no such port": ("registry.local:70000", FREE),
    "a registry without a domain": ("registry", FREE | NAME),
    "an address": ("https://ghcr.io/org", FREE),
    "a mail address": ("ada@example.org", frozenset({"description"})),
    "several people": ("Ada, Grace", frozenset({"description"})),
    # text with a meaning in some language
    "a single quote": ("it's", FREE),
    "a double quote": ('say "hi"', NOWHERE),
    "three double quotes": ('a"""', NOWHERE),
    "a trailing backslash": ("word\\", NOWHERE),
    "Jinja": ("{{ 7 * 7 }}", NOWHERE),
    "a Jinja block": ("{% raw %}", NOWHERE),
    "a Jinja comment": ("{# x #}", NOWHERE),
    "a GitHub expression": ("a ${{ github.token }}", NOWHERE),
    "a shell variable": ("a $HOME", NOWHERE),
    "a shell command": ("a $(id)", NOWHERE),
    "a backtick": ("a `id`", NOWHERE),
    "a semicolon": ("a;id", frozenset({"description"})),
    "a pipe": ("a | id", NOWHERE),
    "an ampersand": ("a & b &amp; c", frozenset({"description"})),
    "a redirection": ("a > b", NOWHERE),
    "a wildcard": ("serv*", NOWHERE),
    "an exclamation mark": ("a!b", FREE),
    "a percent sign": ("a %s 100%", FREE),
    "a YAML mapping": ("a: b", FREE),
    "a YAML comment": ("a #b", NOWHERE),
    "a YAML anchor": ("&a", NOWHERE),
    "a YAML tag": ("!!python/object:os.system", NOWHERE),
    "a YAML list": ("- a", NOWHERE),
    "a YAML document": ("---", NOWHERE),
    "a YAML null": ("null", FREE),
    "a YAML boolean": ("yes", FREE),
    "a TOML table": ("[tool.x]", NOWHERE),
    "an assignment": ("a = b", NOWHERE),
    "HTML": ("a <b>x</b>", NOWHERE),
    "Markdown emphasis": ("my_own_service and _more_", FREE),
    "a Markdown link": ("a [x](y)", NOWHERE),
    "an option": ("--trust", NOWHERE),
    # reserved words
    "a keyword": ("class", FREE),
    "a Python constant": ("None", FREE),
    "our runtime": ("daebus-runtime", FREE),
    "our base image": ("daebus-base", FREE),
    "our bus": ("daebus-bus", FREE),
    "a standard module": ("json", FREE),
    "a folder of the repository": ("helm", FREE),
    "capital letters": ("SERVICE", FREE),
    # numbers and lists
    "a port": ("8123", frozenset({"port"})),
    "a reserved port": ("80", NOWHERE),
    "the management port": ("9000", NOWHERE),
    "a number with an exponent": ("1e4", NOWHERE),
    "a list of features": ("[http, tasks]", frozenset({"features"})),
    "an empty list": ("[]", frozenset({"features"})),
    "a list of something else": ("[http, grpc]", NOWHERE),
    "a list that is not closed": ("[http", NOWHERE),
    "a mapping": ("{http: true}", NOWHERE),
    # lengths
    "one letter": ("a", FREE | NAME),
    "40 letters": ("a" * 40, FREE | NAME),
    "41 letters": ("a" * 41, FREE),
    "64 letters": ("a" * 64, FREE),
    "81 letters": ("a" * 81, NOWHERE),
    "10,000 letters": ("a" * 10_000, NOWHERE),
    "5,000 labels": ("a." * 5_000 + "a", NOWHERE),
    # valid texts
    "two words": ("cold-store", FREE | NAME),
}

TAKEN = [case for case, (_text, takers) in TEXTS.items() if takers]


@pytest.mark.parametrize("case", TEXTS)
def test_it_is_refused_in_one_line_and_nothing_is_written(plain: Path, tmp_path: Path, case: str) -> None:
    text, takers = TEXTS[case]
    for answer in ANSWERS:
        if answer not in takers:
            with pytest.raises(ValueError, match=re.escape(answer.removeprefix("image_")[:4])) as refusal:
                copy_project(plain, tmp_path / "svc", **{answer: text})
            assert_stands_alone(f"ValueError: {refusal.value}", answer)
            assert list(tmp_path.iterdir()) == [], answer


@pytest.fixture(scope="module")
def projects(template_read_once: None, plain: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The project generated from each text, given to all questions that accept it at once: quicker and harder."""
    folder = tmp_path_factory.mktemp("taken")
    return {
        case: copy_project(plain, folder / str(number) / "svc", **dict.fromkeys(sorted(TEXTS[case][1]), TEXTS[case][0]))
        for number, case in enumerate(TAKEN)
    }


@pytest.mark.parametrize("case", TAKEN)
def test_it_is_the_same_text_everywhere(projects: dict[str, Path], case: str) -> None:
    text, takers = TEXTS[case]
    project = projects[case]
    given: dict[str, Any] = dict.fromkeys(takers, text)
    if "features" in given:
        given["features"] = yaml.safe_load(text)
    answers = yaml.safe_load((project / ".copier-answers.yml").read_text())
    assert answers == {**answers, **given}
    assert_everything_parses(project)
    assert_described(project, answers)
    assert_named(project, answers)


def test_formatter_and_linter_find_nothing(projects: dict[str, Path]) -> None:
    folder = projects[TAKEN[0]].parents[1]
    for words in (["format", "--check"], ["check"]):
        ruff = [sys.executable, "-m", "ruff", *words, "--no-cache", "--quiet", "."]
        done = subprocess.run(ruff, cwd=folder, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("answer", ANSWERS)
def test_the_command_line_ends_with_that_line(plain: Path, tmp_path: Path, answer: str) -> None:
    done = copier("copy", "--defaults", "-d", f'{answer}=a "b" \u202e $(c)', plain, "svc", at=tmp_path)
    assert done.returncode != 0
    assert_stands_alone(done.stdout.splitlines()[-1], answer)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("answer", ["package_name", "image_name", "template_url", "base_tag", "has_http", "feature"])
def test_a_question_that_is_not_asked_cannot_be_answered(plain: Path, tmp_path: Path, answer: str) -> None:
    asked = ", ".join((*ANSWERS, "bots"))
    with pytest.raises(ValueError, match=f'this template does not ask for "{answer}", only for {asked}.$'):
        copy_project(plain, tmp_path / "svc", **{answer: "x"})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("features", [None, {}, 7, True, {"http": True}, ["http", None], [["http"]]])
def test_features_are_a_list_of_words(plain: Path, tmp_path: Path, features: Any) -> None:
    """They may come from a file of answers, so from YAML."""
    with pytest.raises((ValueError, TypeError), match=r"cannot be the features|Invalid answer|Invalid choice"):
        copy_project(plain, tmp_path / "svc", features=features)
    assert list(tmp_path.iterdir()) == []


def assert_stands_alone(line: str, answer: str) -> None:
    """One line that names the answer, its fault and what would be accepted, and no control characters."""
    assert line.splitlines() == [line]
    assert line.isprintable(), line
    word = answer.removeprefix("image_").replace("_", " ")
    ours = rf"ValueError: Validation error for question '\w+': .* cannot be the (image )?{word}: .+"
    # For a question with choices Copier checks before our validator does.
    copiers = rf"ValueError: Invalid choice for '{answer}': .* is not in \[.+\]"
    assert re.fullmatch(f"{ours}|{copiers}", line), line


def assert_everything_parses(target: Path) -> None:
    for path in target.rglob("*.py"):
        ast.parse(path.read_text())
    for path in target.rglob("*.y*ml"):
        if "templates" not in path.parts:
            assert isinstance(yaml.safe_load(path.read_text()), dict), path
    for path in target.rglob("*.json"):
        json.loads(path.read_text())


def assert_described(target: Path, answers: dict[str, Any]) -> None:
    description, author = answers["description"], answers["author"]
    project = tomllib.loads((target / "pyproject.toml").read_text())["project"]
    assert (project["description"], project["authors"]) == (description, [{"name": author}])
    package = target / "src" / answers["service_name"].replace("-", "_")
    assert ast.get_docstring(ast.parse((package / "__init__.py").read_text())) == description
    chart = target / "helm" / answers["service_name"].replace("_", "-")
    assert yaml.safe_load((chart / "Chart.yaml").read_text())["description"] == description
    labels = labels_of(target / "Dockerfile")
    assert labels["org.opencontainers.image.description"] == description
    assert labels["org.opencontainers.image.authors"] == author
    assert f"Copyright (c) {author}\n" in (target / "LICENSE").read_text()
    readme = (target / "README.md").read_text().splitlines()
    assert (plain_text(readme[2]), plain_text(readme[-1])) == (description, f"{author}, MIT.")


def assert_named(target: Path, answers: dict[str, Any]) -> None:
    name, registry = answers["service_name"], answers["image_registry"]
    assert tomllib.loads((target / "pyproject.toml").read_text())["project"]["name"] == name
    values = yaml.safe_load((target / "helm" / name.replace("_", "-") / "values.yaml").read_text())
    image = f"{registry}/{name}" if registry else name
    assert (values["service"], values["image"]["repository"]) == (name, image.replace("_", "-"))
    has_port = {"http", "websocket"} & set(answers["features"])
    assert values["port"] == (int(answers["port"]) if has_port else 0)


def labels_of(dockerfile: Path) -> dict[str, str]:
    """The labels as Docker reads them, which takes quotes as a shell does."""
    instruction = dockerfile.read_text().replace("\\\n", " ").split("\nLABEL ")[1].splitlines()[0]
    return dict(label.split("=", 1) for label in shlex.split(instruction))


def plain_text(markdown: str) -> str:
    """The text of a paragraph; characters that Markdown would take for emphasis or an entity must be escaped."""
    assert not re.search(r"(?<!\\)[_&]", markdown)
    return re.sub(r"\\([_&])", r"\1", markdown)
