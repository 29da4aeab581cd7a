"""Renders the template's answers for addresses that cannot be reached from here, for the tests beside this file."""

from __future__ import annotations

import functools
from typing import Any

import yaml
from jinja2 import Environment, StrictUndefined

from tests.template.rendering import REPOSITORY

DERIVED = ("template_source", "template_url", "template_place", "template_page", "base_registry", "template_by_token")
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@functools.cache
def questions() -> dict[str, Any]:
    asked: dict[str, Any] = yaml.safe_load((REPOSITORY / "copier.yml").read_text())
    return asked


@functools.cache
def environment() -> Environment:
    """Jinja with the options that Copier uses."""
    return Environment(
        extensions=["jinja2_ansible_filters.AnsibleCoreFiltersExtension"],
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def answers_from(typed: str) -> dict[str, Any]:
    """The derived answers for the source given to `copier copy`."""
    answers: dict[str, Any] = {"_copier_answers": {"_src_path": typed}, "template_ref": COMMIT}
    for name in DERIVED:
        answers[name] = environment().from_string(questions()[name]["default"]).render(answers)
    return answers


def requirements(typed: str) -> list[str]:
    """The lines of requirements/dev.txt, without comments."""
    file = environment().from_string((REPOSITORY / "template" / "requirements" / "dev.txt.jinja").read_text())
    return [line for line in file.render(answers_from(typed)).splitlines() if line and not line.startswith("#")]
