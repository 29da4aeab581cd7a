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


def job(text: str, name: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(text)["jobs"][name]
    return found


def last(text: str) -> str:
    """The job that pushes the chart. A machine of one's own does all in one."""
    return "release" if "release" in yaml.safe_load(text)["jobs"] else "push"


def scripts(text: str, name: str = "push") -> list[str]:
    return [step["run"] for step in job(text, name)["steps"] if "run" in step]


@each_kind
def test_both_are_built_before_either_is_pushed(texts: dict[str, str], kind: str) -> None:
    said, registry = scripts(texts[kind]), KINDS[kind]
    built = next(number for number, script in enumerate(said) if script.startswith("make image chart"))
    pushed = [number for number, script in enumerate(said) if re.search("docker push|helm push|gh release", script)]
    assert built < min(pushed)
    assert f"{registry.answer}/my-service:${{GITHUB_REF_NAME#v}}" in said[pushed[0]]
    own = KINDS[kind].machine == "self-hosted"
    assert own or job(texts[kind], "release")["needs"] == "push"
    assert registry.charts in scripts(texts[kind], last(texts[kind]))[-1]


@each_kind
def test_what_was_tried_is_what_is_pushed(texts: dict[str, str], tmp_path: Path, kind: str) -> None:
    """The image is not built again, and one that does not get healthy is not pushed."""
    said, image = scripts(texts[kind]), f"{KINDS[kind].answer}/my-service"
    after = said[next(number for number, script in enumerate(said) if script.startswith("make image chart")) + 1 :]
    assert not [script for script in after if re.search("docker (buildx )?build|make (?!chart)", script)]
    settings = {"GITHUB_REF_NAME": "v1.2.3", "GITHUB_RUN_ID": "7", "ARCHITECTURE": "arm64"}
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    docker = stand_in(tmp_path / "docker")
    stand_in(tmp_path / "helm")
    stand_in(tmp_path / "make")
    for script in after:
        subprocess.run(["bash", "-ec", script], env={**os.environ, "PATH": path, **settings}, check=True)
    words = [call for call in calls(docker) if call.split()[0] in ("run", "tag", "push")]
    assert words[0].endswith(f" {image}:1.2.3")
    name = f"{image}:1.2.3" if KINDS[kind].machine == "self-hosted" else f"{image}:1.2.3-arm64"
    assert words[-1] == f"push {name}"
    assert words[1:-1] == ([] if name.endswith(":1.2.3") else [f"tag {image}:1.2.3 {name}"])
    stand_in(tmp_path / "timeout", "30")
    assert subprocess.run(["bash", "-ec", after[0]], env={**os.environ, "PATH": path, **settings}).returncode != 0
    assert calls(docker)[-1] == "rm --force service-7", "nothing stays on a machine of one's own"


@each_kind
def test_both_architectures_are_pushed_with_contents_and_origin(texts: dict[str, str], kind: str) -> None:
    said, joined = "\n".join(scripts(texts[kind])), "\n".join(scripts(texts[kind], last(texts[kind])))
    if KINDS[kind].machine == "self-hosted":  # there is one machine, and an engine that is not ours to set
        assert not re.search("--sbom|sudo|imagetools", said + joined)
        return
    rows = job(texts[kind], "push")["strategy"]["matrix"]["include"]
    assert {row["architecture"]: row["machine"] for row in rows} == {
        "amd64": "ubuntu-24.04",
        "arm64": "ubuntu-24.04-arm",
    }
    assert 'make image chart BUILD="--sbom=true --provenance=mode=max"' in said
    assert said.index("containerd-snapshotter") < said.index("make image chart"), "an engine without it has no place"
    assert 'imagetools create --tag "$image" "$image-amd64" "$image-arm64"' in joined


def test_a_released_base_is_named_by_its_digest(texts: dict[str, str], tmp_path: Path) -> None:
    """A base of one's own commit is built in the same job, and has no digest before."""
    assert "BASE_TAG" not in texts["GitHub"]
    template = plain_template(tmp_path / "template")
    released = (template / "copier.yml").read_text()
    released = re.sub(r"^(base_tag:\n(?:  .*\n)+?  default: )\|-\n(?:    .*\n)+", r"\1v0.1.0\n", released, flags=re.M)
    released = re.sub(
        r"^(base_registry:\n(?:  .*\n)+?  default: )\|-\n(?:    .*\n)+", r"\1ghcr.io/org\n", released, flags=re.M
    )
    (template / "copier.yml").write_text(released)
    project = copy_project(template, tmp_path / "service", service_name="my_service", image_registry="ghcr.io/org")
    said = scripts((project / ".github/workflows/ci.yml").read_text())
    [script] = [script for script in said if "BASE_TAG" in script]
    assert said.index(script) < said.index('make image chart BUILD="--sbom=true --provenance=mode=max"')
    docker = stand_in(tmp_path / "docker")
    docker.write_text(docker.read_text() + "\necho sha256:0123\n")
    settings = {"BASE": "ghcr.io/org/daebus-base", "GITHUB_ENV": str(tmp_path / "env")}
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    subprocess.run(["bash", "-ec", script], env={**os.environ, "PATH": path, **settings}, check=True)
    assert (tmp_path / "env").read_text() == "BASE_TAG=v0.1.0@sha256:0123\n"
    tried = subprocess.run(
        ["make", "--dry-run", "--always-make", "image", "UV=", "DOCKER=true"],
        cwd=project,
        env={**os.environ, "BASE_TAG": "v0.1.0@sha256:0123"},
        capture_output=True,
        text=True,
    )
    assert "--build-arg BASE_TAG=v0.1.0@sha256:0123 " in tried.stdout, tried.stderr


@each_kind
def test_a_registry_is_given_what_it_needs(texts: dict[str, str], kind: str) -> None:
    registry, host = KINDS[kind], KINDS[kind].answer.split("/")[0]
    assert registry.secret.lower() in texts[kind].lower()
    for name in ("push", last(texts[kind])):
        logins = re.findall(rf"(docker|helm registry) login .*{re.escape(host)}", "\n".join(scripts(texts[kind], name)))
        assert logins == (["docker"] if kind == "Docker Hub" else ["docker", "helm registry"])


@each_kind
def test_it_runs_where_the_registry_is_reached_with_the_rights_that_it_needs(texts: dict[str, str], kind: str) -> None:
    push, release = job(texts[kind], "push"), job(texts[kind], last(texts[kind]))
    own = KINDS[kind].machine == "self-hosted"
    assert (push["runs-on"], release["runs-on"]) == (
        "self-hosted" if own else "${{ matrix.machine }}",
        KINDS[kind].machine,
    )
    assert push["if"] == release["if"] == "startsWith(github.ref, 'refs/tags/v')"
    assert set(push["needs"]) == {"check", "image"}
    more = {"GitHub": {"packages": "write"}, "Amazon": {"id-token": "write"}}.get(kind, {})
    assert push["permissions"] == {"contents": "read"} | more
    hub = {"contents": "write"} if kind == "Docker Hub" else {}
    assert release["permissions"] == {"contents": "read"} | more | hub


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
