"""What the workflow of a generated repository does for the registry that was answered: logs in, builds, then pushes."""

from __future__ import annotations

import os
import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from tests.template.hosts import calls, stand_in
from tests.template.rendering import copy_project, plain_template

ECR = "123456789012.dkr.ecr.eu-west-1.amazonaws.com"


class Registry(NamedTuple):
    answer: str
    secret: str  # what it is logged into with
    charts: str  # where its charts go
    machine: str = "ubuntu-24.04"


KINDS = {
    "GitHub": Registry("ghcr.io/org", "${{ github.token }}", "oci://ghcr.io/org/charts"),
    "Harbor": Registry("harbor.acme.org/team", "${{ secrets.REGISTRY_PASSWORD }}", "oci://harbor.acme.org/team/charts"),
    "Google": Registry(
        "europe-docker.pkg.dev/acme/team", "_json_key_base64", "oci://europe-docker.pkg.dev/acme/team/charts"
    ),
    "GitLab": Registry("registry.gitlab.com/acme/team", "A deploy token", "oci://registry.gitlab.com/acme/team/charts"),
    "Amazon": Registry(f"{ECR}/team", "${{ vars.AWS_ROLE_ARN }}", f"oci://{ECR}/team/charts"),
    "Docker Hub": Registry("docker.io/acme", "an access token", "gh release create"),
    "a local one": Registry(
        "registry.local:5000/team", "secrets.REGISTRY_USERNAME", "oci://registry.local:5000/team/charts", "self-hosted"
    ),
    "a private address": Registry("10.0.0.7/team", "secrets.REGISTRY_USERNAME", "oci://10.0.0.7/team", "self-hosted"),
    "this machine": Registry(
        "localhost:5000", "secrets.REGISTRY_USERNAME", "oci://localhost:5000/charts --plain-http", "self-hosted"
    ),
}
each_kind = pytest.mark.parametrize("kind", KINDS)
REFUSED = {
    "docker.io": "on Docker Hub an image lies below a user and nowhere deeper",
    "docker.io/acme/team": "on Docker Hub an image lies below a user and nowhere deeper",
    "registry-1.docker.io/acme": "Docker Hub is called docker.io",
    "europe-docker.pkg.dev/acme": "wants the project and the repository too",
    "registry.gitlab.com/acme": "wants the group and the project too",
    "ghcr.io": "wants the owner too",
}


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("registries")
    template = plain_template(folder / "template")
    projects = {
        kind: copy_project(template, folder / f"{number}", service_name="my_service", image_registry=registry.answer)
        for number, (kind, registry) in enumerate(KINDS.items())
    }
    return {kind: (project / ".github/workflows/ci.yml").read_text() for kind, project in projects.items()}


def push(text: str) -> dict[str, Any]:
    job: dict[str, Any] = yaml.safe_load(text)["jobs"]["push"]
    return job


def scripts(text: str) -> list[str]:
    return [step["run"] for step in push(text)["steps"] if "run" in step]


@each_kind
def test_both_are_built_before_either_is_pushed(texts: dict[str, str], kind: str) -> None:
    said, registry = scripts(texts[kind]), KINDS[kind]
    built = said.index("make image chart")
    pushed = [number for number, script in enumerate(said) if re.search("docker push|helm push|gh release", script)]
    assert built < min(pushed)
    assert f'docker push "{registry.answer}/my-service:${{GITHUB_REF_NAME#v}}"' in said
    assert registry.charts in said[-1]


@each_kind
def test_a_registry_is_given_what_it_needs(texts: dict[str, str], kind: str) -> None:
    registry, host = KINDS[kind], KINDS[kind].answer.split("/")[0]
    assert registry.secret.lower() in texts[kind].lower()
    logins = re.findall(rf"(docker|helm registry) login .*{re.escape(host)}", "\n".join(scripts(texts[kind])))
    assert logins == (["docker"] if kind == "Docker Hub" else ["docker", "helm registry"])


@each_kind
def test_it_runs_where_the_registry_is_reached_with_the_rights_that_it_needs(texts: dict[str, str], kind: str) -> None:
    job = push(texts[kind])
    assert job["runs-on"] == KINDS[kind].machine
    assert (job["if"], set(job["needs"])) == ("startsWith(github.ref, 'refs/tags/v')", {"check", "image"})
    more = {"GitHub": {"packages": "write"}, "Amazon": {"id-token": "write"}, "Docker Hub": {"contents": "write"}}
    assert job["permissions"] == {"contents": "read"} | more.get(kind, {})


@each_kind
def test_a_tag_that_is_not_the_version_is_refused(texts: dict[str, str], tmp_path: Path, kind: str) -> None:
    [script] = [script for script in scripts(texts[kind]) if script.startswith("grep")]
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "x"\nversion = "0.1.0"\n')
    assert tomllib.loads((tmp_path / "pyproject.toml").read_text())["project"]["version"] == "0.1.0"
    for tag, code in {"v0.1.0": 0, "v0.1.0-rc1": 1, "v0.1.0.1": 1, "v10.1.0": 1, "v0": 1, "v": 1, "v0x1x0": 1}.items():
        done = subprocess.run(
            ["bash", "-e", "-c", script], cwd=tmp_path, env={**os.environ, "GITHUB_REF_NAME": tag}, capture_output=True
        )
        assert done.returncode == code, tag


@pytest.mark.parametrize("there", [True, False])
def test_amazons_repositories_are_made_where_they_are_missing(
    texts: dict[str, str], tmp_path: Path, there: bool
) -> None:
    [script] = [script for script in scripts(texts["Amazon"]) if "aws " in script]
    for name in ("curl", "jq", "docker", "helm"):
        stand_in(tmp_path / name)
    aws = stand_in(tmp_path / "aws", *([] if there else ["ecr describe-repositories"]))
    settings = {"ACTIONS_ID_TOKEN_REQUEST_TOKEN": "t", "ACTIONS_ID_TOKEN_REQUEST_URL": "u"}
    settings |= {"AWS_WEB_IDENTITY_TOKEN_FILE": str(tmp_path / "identity")}
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(["bash", "-e", "-c", script], env={**os.environ, "PATH": path, **settings})
    assert done.returncode == 0
    made = [call.split()[-1] for call in calls(aws) if "create-repository" in call]
    assert made == ([] if there else ["team/my-service", "team/charts/my-service"])
    assert calls(tmp_path / "docker") == [f"login --username AWS --password-stdin {ECR}"]


@pytest.mark.parametrize("answer", REFUSED)
def test_a_registry_that_could_not_be_pushed_to_is_refused(tmp_path: Path, answer: str) -> None:
    template = plain_template(tmp_path / "template")
    with pytest.raises(ValueError, match=REFUSED[answer]):
        copy_project(template, tmp_path / "service", image_registry=answer)
    assert not (tmp_path / "service").exists()
