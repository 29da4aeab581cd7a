"""A copy of the template that lost its links or its line ends on the way: stopped with a word, or made right by git."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from scripts.snapshot import git
from tests.template.hosts import make_hosts
from tests.template.rendering import REPOSITORY, copy_project, plain_template
from tests.template.updating import commit_all

LINKS = ("template/helm/{{ chart_name }}/charts/daebus", "template/helm/{{ chart_name }}/values.schema.json")


def test_a_template_without_links_is_refused(tmp_path: Path) -> None:
    """As git writes it where there are no symbolic links, and as an archive may hold it."""
    template = plain_template(tmp_path / "template [1]")
    for link in LINKS:
        target = (template / link).readlink()
        (template / link).unlink()
        (template / link).write_text(str(target))
    with pytest.raises(ValueError, match=r"Nothing was written: this copy of the template has no symbolic links"):
        copy_project(template, tmp_path / "service")
    assert not (tmp_path / "service").exists()


def test_git_itself_may_leave_the_links_out(tmp_path: Path) -> None:
    template = plain_template(tmp_path / "template")
    commit_all(template, "the template")
    hosts = make_hosts(template, tmp_path / "hosts", ["https://git.corp/x.git"])
    git("config", "--file", hosts.env["GIT_CONFIG_GLOBAL"], "core.symlinks", "false", at=tmp_path)
    with pytest.raises(ValueError, match=r"say \"git config --global core.symlinks true\" and clone it again"):
        hosts.copy("https://git.corp/x.git", tmp_path / "service")


@pytest.mark.parametrize("root", [REPOSITORY, REPOSITORY / "template"], ids=["this repository", "a service"])
def test_git_gives_every_text_lf(root: Path, tmp_path: Path) -> None:
    (tmp_path / ".gitattributes").write_text((root / ".gitattributes").read_text())
    (tmp_path / "Makefile").write_text("all:\n\ttrue\n")
    commit_all(tmp_path, "LF")
    clone = tmp_path / "clone"
    subprocess.run(["git", "-c", "core.autocrlf=true", "clone", "--quiet", tmp_path, clone], check=True)
    assert b"\r" not in (clone / "Makefile").read_bytes()


@pytest.mark.parametrize("readme", ["README.md", "template/README.md.jinja"])
def test_both_readmes_say_on_which_systems_it_works(readme: str) -> None:
    text = (REPOSITORY / readme).read_text()
    assert all(system in text for system in ("Linux", "macOS", "WSL"))
