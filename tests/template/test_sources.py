"""A service installs, clones and pulls from the place that its template came from, also at the next update."""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path
from shutil import ignore_patterns
from typing import NamedTuple
from urllib.parse import urlsplit

import pytest
import yaml
from packaging.version import Version

from scripts.snapshot import git
from tests.template.addresses import answers_from, questions, requirements
from tests.template.hosts import Hosts, calls, make_hosts, stand_in
from tests.template.rendering import REPOSITORY, copy_project, files_of, plain_template
from tests.template.updating import append, commit_all

pytestmark = pytest.mark.slow

COPIER = (sys.executable, "-m", "copier")


class Fork(NamedTuple):
    """A fork of the template: the address that is typed, and the answers that follow from it."""

    typed: str
    remembered: str
    url: str
    registry: str
    page: str


FORKS = {
    "GitHub": Fork(
        "gh:Acme/Daebus-Template",
        "https://github.com/Acme/Daebus-Template.git",
        "https://github.com/Acme/Daebus-Template.git",
        "ghcr.io/acme",
        "https://github.com/Acme/Daebus-Template",
    ),
    "GitLab": Fork(
        "gl:acme/Platform/daebus-template",
        "https://gitlab.com/acme/Platform/daebus-template.git",
        "https://gitlab.com/acme/Platform/daebus-template.git",
        "registry.gitlab.com/acme/platform/daebus-template",
        "https://gitlab.com/acme/Platform/daebus-template",
    ),
    "a host of one's own": Fork(
        "git+https://git.corp:8443/platform/daebus-template",
        "https://git.corp:8443/platform/daebus-template.git",
        "https://git.corp:8443/platform/daebus-template.git",
        "localhost",
        "https://git.corp:8443/platform/daebus-template",
    ),
    "ssh": Fork(
        "deploy@git.corp:platform/daebus-template.git",
        "deploy@git.corp:platform/daebus-template.git",
        "ssh://deploy@git.corp/platform/daebus-template.git",
        "localhost",
        "",
    ),
    "an alias of ssh": Fork(
        "github-work:acme/daebus-template.git",
        "github-work:acme/daebus-template.git",
        "ssh://github-work/acme/daebus-template.git",
        "localhost",
        "",
    ),
}
EVERYWHERE = sorted(
    {address for fork in FORKS.values() for address in (fork.typed.removeprefix("git+"), fork.remembered, fork.url)},
    key=len,
)
each_fork = pytest.mark.parametrize("name", FORKS)

# the address as typed, as stored, and for pip and git
ADDRESSES = [
    ("gh:/acme/x.git", "https://github.com/acme/x.git", "https://github.com/acme/x.git"),
    ("https://github.com/acme/x/", "https://github.com/acme/x.git", "https://github.com/acme/x.git"),
    ("git+https://git.corp/acme/x.git", "https://git.corp/acme/x.git", "https://git.corp/acme/x.git"),
    ("git+HTTPS://git.corp/acme/x", "HTTPS://git.corp/acme/x.git", "HTTPS://git.corp/acme/x.git"),
    # These hosts accept no address that ends with .git, and Copier none without it.
    (same := "git+https://dev.azure.com/acme/p/_git/x", same, "https://dev.azure.com/acme/p/_git/x"),
    (same := "git+https://acme.visualstudio.com/p/_git/x", same, "https://acme.visualstudio.com/p/_git/x"),
    (same := "git+https://git-codecommit.eu-west-1.amazonaws.com/v1/repos/x", same, same.removeprefix("git+")),
    (same := "git@github.com:acme/x.git", same, "ssh://git@github.com/acme/x.git"),
    (same := "git@git.corp:~/x.git", same, "ssh://git@git.corp/~/x.git"),
    (same := "git@git.corp:~ada/my x.git", same, "ssh://git@git.corp/~ada/my%20x.git"),
    (same := "git@git.corp:/srv/git/x.git", same, "ssh://git@git.corp/srv/git/x.git"),
    (same := "git.corp:x.git", same, "ssh://git.corp/x.git"),
    (same := "git+github-work:acme/x", same, "ssh://github-work/acme/x"),
    (same := "[git@git.corp:2222]:acme/x.git", same, "ssh://git@git.corp:2222/acme/x.git"),
    (same := "git@[fe80::1]:acme/x.git", same, "ssh://git@[fe80::1]/acme/x.git"),
    (same := "ssh://git@git.corp:2222/acme/x.git", same, same),
    ("git+ssh://git@git.corp:2222/acme/x.git", "ssh://git@git.corp:2222/acme/x.git", same),
    ("git+ssh://git@github.com/acme/x", "ssh://git@github.com/acme/x.git", "ssh://git@github.com/acme/x.git"),
    (same := "git+ssh://git@git.corp/~/x", same, "ssh://git@git.corp/~/x"),
    (same := "git@ssh.dev.azure.com:v3/acme/p/x", same, "ssh://git@ssh.dev.azure.com/v3/acme/p/x"),
    (same := "/srv/git/x.git", same, "file:///srv/git/x.git"),
    (same := "git+file:///srv/git/x", same, "file:///srv/git/x"),
]

REGISTRIES = {
    "https://GitHub.com/Acme_Corp/x.git": "ghcr.io/acme_corp",
    "org-1234@github.com:Acme/x.git": "ghcr.io/acme",
    "ssh://git@ssh.github.com:443/acme/x.git": "ghcr.io/acme",
    "git@gitlab.com:acme/a/b/X.git": "registry.gitlab.com/acme/a/b/x",
    "https://github.com.evil.example/acme/x.git": "localhost",
    "https://evil.example/github.com/acme/x.git": "localhost",
    "https://notgithub.com/acme/x.git": "localhost",
    "https://acme.ghe.com/acme/x.git": "localhost",
    "https://github.com/a%2Fb/x.git": "localhost",
    "github.com-work:acme/x.git": "localhost",
    "../daebus-template": "localhost",
    "~/github.com/acme/x": "localhost",
}

SECRETS = [
    "https://ghp_s3cret@github.com/acme/x.git",
    "https://ada:s3cret@git.corp/x.git",
    "HTTPS://ada:s3cret@git.corp/x.git",
    "git+https://oauth2:s3cret@gitlab.com/acme/x",
    "git+ssh://git:s3cret@git.corp:2222/x",
    "ssh://git:s3cret@git.corp/x.git",
    "ada:s3cret@git.corp:x.git",
    "git://s3cret@git.corp/x.git",
    "https://git.corp/x.git?private_token=s3cret.git",
    "git+https://git.corp/x#s3cret",
    "gh:acme/x?token=s3cret",
]


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fork with a release, reduced to the files that are copied and built."""
    fork = plain_template(tmp_path_factory.mktemp("fork") / "daebus-template")
    shutil.copy(REPOSITORY / "Dockerfile.base", fork)
    commit_all(fork, "the template")
    git("tag", "v0.1.0", at=fork)
    return fork


@pytest.fixture(scope="module")
def hosts(released: Path, tmp_path_factory: pytest.TempPathFactory) -> Hosts:
    return make_hosts(released, tmp_path_factory.mktemp("hosts") / "hosts", EVERYWHERE)


@pytest.fixture(scope="module")
def newer(released: Path, tmp_path_factory: pytest.TempPathFactory) -> Hosts:
    """The same hosts, after the next release."""
    fork = tmp_path_factory.mktemp("newer") / "daebus-template"
    git("clone", "--quiet", released, fork, at=released)
    append(fork / "template" / "README.md.jinja", "\nNewer.\n")
    commit_all(fork, "newer")
    git("tag", "v0.2.0", at=fork)
    return make_hosts(fork, tmp_path_factory.mktemp("hosts") / "hosts", EVERYWHERE)


@pytest.fixture(scope="module")
def projects(hosts: Hosts, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("forks")
    return {
        name: hosts.copy(fork.typed, folder / f"service-{number}", service_name="cold_store", bus_mode="shared")
        for number, (name, fork) in enumerate(FORKS.items())
    }


@each_fork
def test_everything_comes_from_the_fork(projects: dict[str, Path], hosts: Hosts, name: str) -> None:
    fork, project = FORKS[name], projects[name]
    commit = git("rev-parse", "HEAD", at=hosts.repository)
    files = files_of(project)
    assert f"daebus-runtime[dev] @ git+{fork.url}@{commit}#subdirectory=runtime\n" in files["requirements/dev.txt"]
    assert f"ARG BASE_REGISTRY={fork.registry}\n" in files["Dockerfile"]
    assert (f"[Daebus]({fork.page})" if fork.page else "A Daebus service") in files["README.md"]
    assert (f"oci://{fork.registry}/charts/daebus-bus" in files["README.md"]) == (fork.registry != "localhost")
    text = "\n".join(files.values())
    assert not re.search(r"github[.]com/org/|ghcr[.]io/org", text), "somebody else's"
    addresses = set(re.findall(r"(?:https|ssh)://[^\s'\"`)]+?(?=@[0-9a-f]{40}|[\s'\"`)])", text))
    foreign = {address for address in addresses if "daebus-template" in address} - {fork.url, fork.page}
    assert foreign <= {fork.remembered}


@each_fork
def test_its_base_is_pulled_from_the_owners_registry_or_built(
    projects: dict[str, Path], hosts: Hosts, tmp_path: Path, name: str
) -> None:
    fork, docker = FORKS[name], stand_in(tmp_path / "docker", "image inspect")
    done = hosts.run("make", "base", f"DOCKER={docker}", at=projects[name])
    assert done.returncode == 0, done.stdout
    base = f"{fork.registry}/daebus-base:v0.1.0"
    if fork.registry == "localhost":
        assert not [call for call in calls(docker) if call.startswith("pull")]
        assert f"--tag {base} " in calls(docker)[-1]
        assert git("config", "remote.origin.url", at=projects[name] / "build" / "template") == fork.url
    else:
        assert calls(docker)[-1].endswith(f"pull --quiet {base}")


def test_from_a_local_folder_the_base_is_built(released: Path, tmp_path: Path) -> None:
    project = copy_project(released, tmp_path / "service")
    assert "ARG BASE_REGISTRY=localhost\n" in (project / "Dockerfile").read_text()
    assert not [name for name, text in files_of(project).items() if "ghcr.io" in text]
    docker = stand_in(tmp_path / "docker", "image inspect")
    done = Hosts(released, {}).run("make", "base", f"DOCKER={docker}", at=project)
    assert done.returncode == 0, done.stdout
    words = [call.split()[0] for call in calls(docker)]
    assert [word for word in words if word not in ("context", "buildx")] == ["--version", "image", "build"]


@pytest.mark.parametrize(("typed", "remembered", "url"), ADDRESSES)
def test_an_address_in_the_forms_of_copier_and_pip(typed: str, remembered: str, url: str) -> None:
    answers = answers_from(typed)
    assert (answers["template_source"], answers["template_url"]) == (remembered, url)
    assert answers_from(remembered) == {**answers, "_copier_answers": {"_src_path": remembered}}
    assert any(f"git+{url}@" in line for line in requirements(typed))


@pytest.mark.parametrize("typed", REGISTRIES)
def test_the_registry_is_always_that_of_the_templates_owner(typed: str) -> None:
    assert answers_from(typed)["base_registry"] == REGISTRIES[typed]


@pytest.mark.parametrize("typed", SECRETS)
def test_an_address_with_a_secret_is_recognized(typed: str) -> None:
    pattern = questions()["holds_a_secret"]["default"]
    assert re.search(pattern, typed, re.IGNORECASE)


def test_no_other_address_is_taken_for_one_with_a_secret() -> None:
    pattern = questions()["holds_a_secret"]["default"]
    for typed in [*(fork.typed for fork in FORKS.values()), *(typed for typed, *_ in ADDRESSES), *REGISTRIES]:
        assert not re.search(pattern, typed, re.IGNORECASE), typed


@pytest.mark.parametrize("typed", ["git+https://oauth2:s3cret@git.corp/x", "ssh://git:s3cret@git.corp/x.git"])
def test_an_address_with_a_secret_is_refused_and_not_repeated(released: Path, tmp_path: Path, typed: str) -> None:
    hosts = make_hosts(released, tmp_path / "hosts", [typed.removeprefix("git+")])
    with pytest.raises(ValueError, match=r"Nothing was written: the template's address holds .*\.\Z") as refused:
        hosts.copy(typed, tmp_path / "service")
    assert "s3cret" not in str(refused.value)
    assert not (tmp_path / "service").exists()


@each_fork
def test_the_stored_address_is_one_that_git_can_list(projects: dict[str, Path], hosts: Hosts, name: str) -> None:
    remembered = yaml.safe_load((projects[name] / ".copier-answers.yml").read_text())
    assert remembered["_src_path"] == FORKS[name].remembered
    assert fits_renovate(remembered) or name == "an alias of ssh", "which is known on one machine only"
    listed = hosts.run("git", "ls-remote", "--tags", remembered["_src_path"], at=projects[name])
    assert listed.stdout.endswith("refs/tags/v0.1.0\n")


@pytest.mark.parametrize("written", ["what was typed", "what is remembered"])
@pytest.mark.parametrize("name", ["GitHub", "a host of one's own"])
def test_an_update_finds_the_template_again(
    hosts: Hosts, newer: Hosts, projects: dict[str, Path], tmp_path: Path, name: str, written: str
) -> None:
    """Earlier templates stored the address as it was typed; the next update corrects this."""
    fork = FORKS[name]
    project = shutil.copytree(projects[name], tmp_path / "service", ignore=ignore_patterns("build"))
    answers = project / ".copier-answers.yml"
    if written == "what was typed":
        answers.write_text(answers.read_text().replace(fork.remembered, fork.typed))
    commit_all(project, "from the template")
    assert newer.run(*COPIER, "check-update", "--quiet", at=project).returncode == 2, "there is an update"
    done = newer.run(*COPIER, "update", "--defaults", "--skip-answered", "--vcs-ref", "v0.2.0", at=project)
    assert done.returncode == 0, done.stdout
    updated = yaml.safe_load(answers.read_text())
    assert (updated["_src_path"], updated["_commit"]) == (fork.remembered, "v0.2.0")
    assert "Newer." in (project / "README.md").read_text()


def fits_renovate(answers: dict[str, str]) -> bool:
    """Renovate accepts the address by the two rules of its `copier` manager."""
    url = urlsplit(answers["_src_path"])
    Version(answers["_commit"])
    return bool(re.match(r"[\w.-]+@[\w.-]+:", answers["_src_path"]) or (url.scheme in ("https", "ssh") and url.netloc))
