"""The first question: which names a service may have, and how Copier refuses the others."""

from __future__ import annotations

import importlib.metadata
import re
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.template.rendering import REPOSITORY, copier, copy_project

BAD_NAMES = {
    "capital letters": "MyService",
    "a space": "my service",
    "a dot": "my.service",
    "a slash": "my/service",
    "a parent folder": "../service",
    "a leading digit": "1service",
    "a leading dash": "-service",
    "a leading underscore": "_service",
    "a trailing dash": "service-",
    "a trailing underscore": "service_",
    "only digits": "123",
    "empty": "",
    "a blank": " ",
    "41 characters": "a" * 41,
    "64 characters": "a" * 64,
    "a line break": "my\nservice",
    "a trailing line break": "service\n",
    "a zero byte": "my\0service",
    "Latin letters with marks": "naïve",
    "Cyrillic look-alikes": "s\u0435rvice",
    "Greek": "υπηρεσία",
    "Chinese": "服务",
    "full-width letters": "\uff53\uff45\uff52vice",
    "Arabic-Indic digits": "service٣",
    "emoji": "service🌱",
    "a zero-width space": "my\u200bservice",
    "a right-to-left mark": "\u202eecivres",
    "a single quote": "my'service",
    "a double quote": 'my"service',
    "a backslash": "my\\service",
    "Jinja": "{{ 7 * 7 }}",
    "a Jinja block": "{% raw %}",
    "a shell command": "$(id)",
    "a backtick": "`id`",
    "a semicolon": "a;id",
    "a YAML mapping": "a: b",
    "a YAML comment": "a#b",
    "a YAML anchor": "&a",
    "a wildcard": "serv*",
    "a keyword": "class",
    "another keyword": "async",
    "a YAML word": "null",
    "another YAML word": "yes",
    "a Windows device": "con",
    "another Windows device": "lpt1",
    "our package": "daebus",
    "our runtime": "daebus_runtime",
    "our distribution": "daebus-runtime",
    "our client": "redis",
    "our router": "falcon",
    "our server": "gunicorn",
    "our loop": "gevent",
    "our sockets": "geventwebsocket",
    "our scheduler": "apscheduler",
    "the tests' folder": "tests",
    "the source folder": "src",
    "a standard module": "json",
    "another standard module": "http",
    "a third standard module": "sys",
}

GOOD_NAMES = ["a", "x1", "my_service", "my-service", "cold-store-2", "a" * 40, "a__b", "match", "service", "jsonx"]

# A target folder, and the name that is proposed for it.
FOLDERS = {
    "my_service": "my_service",
    "cold-store": "cold-store",
    "My Service": "my-service",
    "my.service": "my-service",
    "123svc": "svc",
    "42": "my_service",
    "服务": "my_service",
    "_private_": "private",
    "---": "my_service",
    "class": "class-service",
    "redis": "redis-service",
    "json": "json-service",
    "daebus-runtime": "daebus-runtime-service",
    "CON": "con-service",
    "a" * 64: "a" * 40,
    "b" * 39 + "-x": "b" * 39,
    "tab\tbed": "tab-bed",
    "it's": "it-s",
    "{{ x }}": "x",
    "$HOME": "home",
}


@pytest.mark.slow
@pytest.mark.parametrize("name", BAD_NAMES.values(), ids=BAD_NAMES.keys())
def test_a_bad_name_is_refused_and_nothing_is_written(plain: Path, tmp_path: Path, name: str) -> None:
    target = tmp_path / "target"
    with pytest.raises(ValueError, match="cannot be the service name: ") as refusal:
        copy_project(plain, target, service_name=name)
    last_line = str(refusal.value).splitlines()[-1]
    assert "Validation error for question 'service_name': \"" in last_line
    assert last_line.endswith((".", "would do."))
    assert not target.exists()


@pytest.mark.slow
@pytest.mark.parametrize("name", GOOD_NAMES)
def test_a_valid_name_names_everything(plain: Path, tmp_path: Path, name: str) -> None:
    target = copy_project(plain, tmp_path / "target", service_name=name)
    assert (target / "src" / name.replace("-", "_") / "app.py").is_file()
    assert f'Daebus("{name}")' in (target / "src" / name.replace("-", "_") / "app.py").read_text()
    assert answers_of(target)["service_name"] == name


@pytest.mark.slow
@pytest.mark.parametrize(("folder", "name"), FOLDERS.items())
def test_the_folder_proposes_a_name_that_is_allowed(plain: Path, tmp_path: Path, folder: str, name: str) -> None:
    target = copy_project(plain, tmp_path / folder)
    assert answers_of(target)["service_name"] == name


def test_the_current_folder_proposes_its_name(plain: Path, tmp_path: Path) -> None:
    here = tmp_path / "greenhouse"
    here.mkdir()
    done = copier("copy", "--defaults", "--quiet", plain, ".", at=here)
    assert done.returncode == 0, done.stdout
    assert answers_of(here)["service_name"] == "greenhouse"


def test_the_last_line_of_a_refusal_is_understood_alone(plain: Path, tmp_path: Path) -> None:
    done = copier("copy", "--defaults", "-d", "service_name=My.Service", plain, "target", at=tmp_path)
    assert done.returncode != 0
    assert done.stdout.splitlines()[-1] == (
        "ValueError: Validation error for question 'service_name': \"My.Service\" cannot be the service name: "
        'use lower-case letters a-z, digits, "-" and "_", a letter first, a letter or digit last, '
        'for example "my_service".'
    )
    assert list(tmp_path.iterdir()) == []


def test_no_standard_module_can_be_shadowed() -> None:
    public = {name for name in sys.stdlib_module_names if re.fullmatch(r"[a-z][a-z0-9_]*", name)}
    assert public - reserved_names() == set()


def test_no_package_of_the_image_can_be_shadowed() -> None:
    lock = (REPOSITORY / "runtime" / "daebus_runtime" / "constraints.txt").read_text()
    locked = re.findall(r"^([a-z0-9-]+)==", lock, re.MULTILINE)
    assert "redis" in locked
    taken = set()
    for name in locked:
        try:
            files = importlib.metadata.distribution(name).files or []
        except importlib.metadata.PackageNotFoundError:
            continue  # locked only for another platform or Python
        taken |= {file.parts[0] for file in files if len(file.parts) > 1 and file.suffix == ".py"}
        taken |= {file.stem for file in files if len(file.parts) == 1 and file.suffix == ".py"}
    importable = {name for name in taken if re.fullmatch(r"[a-z][a-z0-9_]*", name)}
    assert "gevent" in importable
    assert importable - reserved_names() == set()


def reserved_names() -> set[str]:
    questions = yaml.safe_load((REPOSITORY / "copier.yml").read_text())
    return set(questions["reserved_names"]["default"].split())


def answers_of(project: Path) -> dict[str, Any]:
    answers: dict[str, Any] = yaml.safe_load((project / ".copier-answers.yml").read_text())
    return answers
