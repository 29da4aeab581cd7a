"""What is said after copying: what CI will not be able to read, and the cure; and the cure in the workflows."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from scripts.snapshot import git
from tests.template.addresses import answers_from, environment, questions
from tests.template.rendering import copier, copy_project, plain_template
from tests.template.updating import commit_all

COPIED = {
    "a folder": ("/srv/daebus-template", "so nobody else, and no CI, can install the runtime"),
    "an alias": ("github-work:acme/x.git", "a name that ssh knows on this machine only"),
    "ssh": ("git@git.corp:acme/x.git", "CI has no key for it: give it a token"),
    "https": ("gh:acme/x", "If https://github.com/acme/x is private, CI needs a token that may read it"),
}


@pytest.mark.parametrize("name", COPIED)
def test_what_ci_cannot_read_is_said(name: str) -> None:
    typed, said = COPIED[name]
    text = message(typed, "v0.1.0")
    assert said in " ".join(text.split())
    assert "that is no release" not in text
    assert "that is no release" in message(typed, "v0.1.0-3-g0123456")
    assert "that is no release" in message(typed, "0123456")


def message(typed: str, commit: str) -> str:
    answers = answers_from(typed) | {"service_name": "x", "_copier_conf": {"dst_path": "x"}}
    answers["_copier_answers"] |= {"_commit": commit}
    return environment().from_string(questions()["_message_after_copy"]).render(answers)


@pytest.mark.slow
def test_a_service_follows_a_template_that_moved(tmp_path: Path) -> None:
    """As the page on updates says: its new address is written down, and recopy brings it everywhere."""
    template = plain_template(tmp_path / "template")
    commit_all(template, "the template")
    project = copy_project(template, tmp_path / "service")
    pushed = shutil.copytree(template, tmp_path / "pushed", symlinks=True)
    answers = project / ".copier-answers.yml"
    answers.write_text(answers.read_text().replace(str(template), f"git+file://{pushed}"))
    commit_all(project, "its address")
    done = copier("recopy", "--defaults", "--overwrite", "--vcs-ref", "HEAD", at=project)
    assert done.returncode == 0, done.stdout
    assert f"git+file://{pushed}@" in (project / "requirements" / "dev.txt").read_text()
    changed = set(git("diff", "--name-only", at=project).split())
    assert changed == {"requirements/dev.txt", "Makefile"}


@pytest.mark.parametrize(
    ("typed", "read_as"),
    [
        ("gh:acme/x", "https://x-access-token:t0ken@github.com/acme/x.git"),
        ("git+https://git.corp:8443/a/x", "https://x-access-token:t0ken@git.corp:8443/a/x.git"),
        ("git@github.com:acme/x.git", "https://x-access-token:t0ken@github.com/acme/x.git"),
        ("ssh://git@git.corp:2222/a/x.git", "https://x-access-token:t0ken@git.corp/a/x.git"),
        ("github-work:acme/x.git", None),
        ("/srv/x", None),
    ],
)
def test_a_token_lets_ci_read_a_private_template(typed: str, read_as: str | None, tmp_path: Path) -> None:
    """GitHub's expressions are filled in; git then says which address it would ask. No other one is given the token."""
    answers = answers_from(typed)
    if not (path := answers["template_by_token"]):
        assert read_as is None
        return
    settings = {
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": f"url.https://x-access-token:t0ken@{path}.insteadOf",
        "GIT_CONFIG_VALUE_0": answers["template_url"],
    }
    assert asked(answers["template_url"], settings, tmp_path) == read_as
    other = "https://github.com/acme/service"
    assert asked(other, settings, tmp_path) == other


def asked(address: str, settings: dict[str, str], folder: Path) -> str:
    done = subprocess.run(
        ["git", "ls-remote", "--get-url", address],
        cwd=folder,
        env={**os.environ, **settings},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


def test_the_workflows_have_that_cure() -> None:
    """Rendered from an address that cannot be copied from here."""
    folder = Path(__file__).resolve().parents[2] / "template" / ".github" / "workflows"
    for typed, there in (("gh:acme/x", True), ("/srv/x", False), ("github-work:acme/x.git", False)):
        answers = answers_from(typed) | {
            "image_registry": "",
            "image_name": "x",
            "chart_name": "x",
            "base_tag": "v1.0.0",
            **{name: question["default"] for name, question in questions().items() if name.startswith("pin_")},
        }
        for name in ("ci.yml.jinja", "update.yml.jinja"):
            text = environment().from_string((folder / name).read_text()).render(answers)
            steps = [step for job in yaml.safe_load(text)["jobs"].values() for step in job["steps"]]
            read = [step for step in steps if "GIT_CONFIG_VALUE_0" in step.get("env", {})]
            assert bool(read) == there, (typed, name)
            for step in read:
                assert step["env"]["GIT_CONFIG_VALUE_0"] == answers["template_url"]
                assert step["env"]["GIT_CONFIG_KEY_0"].endswith("@github.com/acme/x.git.insteadOf")
