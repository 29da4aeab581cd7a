"""`Dockerfile.base` builds, and what stands on it runs: a generated service, restricted as in a cluster."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import urllib.request
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.waiting import wait_until
from tests.template.rendering import copy_project, plain_template

pytestmark = [pytest.mark.slow, pytest.mark.docker]

REPOSITORY = Path(__file__).resolve().parents[2]
# Debian's client understands BuildKit; another one on the PATH may not.
DOCKER = next((path for path in ("/usr/bin/docker", shutil.which("docker")) if path and Path(path).exists()), "docker")
REQUIRED = bool(os.environ.get("DAEBUS_REQUIRE_DOCKER"))  # the tests themselves see no `DAEBUS_*` variable
SERVICE_IMAGE = """\
ARG BASE
FROM ${BASE}
COPY src /srv/src
CMD ["daebus", "run", "cold_store.app:app"]
"""


def docker(*words: str | Path) -> str:
    """Runs the Docker client and returns what it printed; its errors are in the failure's text."""
    command = [DOCKER, *map(str, words)]
    done = subprocess.run(command, env={**os.environ, "DOCKER_BUILDKIT": "1"}, capture_output=True, text=True)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stdout}{done.stderr}"
    return done.stdout.strip()


def no_engine() -> str | None:
    """Why images cannot be built here; None when they can."""
    try:
        done = subprocess.run([DOCKER, "info"], capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"no Docker client: {error}"
    return f"no Docker engine: {done.stderr.strip().splitlines()[-1:]}" if done.returncode else None


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """An image with a generated service in it, on a base image that was just built."""
    reason = no_engine()
    if reason and not REQUIRED:
        pytest.skip(reason)
    assert reason is None, f"DAEBUS_REQUIRE_DOCKER is set, but there is {reason}"
    tag = uuid.uuid4().hex[:12]
    base, image = f"daebus-base:test-{tag}", f"cold-store:test-{tag}"
    folder = tmp_path_factory.mktemp("image")
    project = copy_project(plain_template(folder / "template"), folder / "service", service_name="cold_store")
    (project / "Dockerfile").write_text(SERVICE_IMAGE)
    docker("build", "--quiet", "--file", REPOSITORY / "Dockerfile.base", "--tag", base, REPOSITORY)
    docker("build", "--quiet", "--build-arg", f"BASE={base}", "--tag", image, project)
    yield image
    docker("rmi", "--force", image, base)


@pytest.fixture
def container(image: str) -> Iterator[str]:
    """The service with nothing else around, and with no more rights than a cluster gives it."""
    rights = ("--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges")
    name = docker("run", "--detach", *rights, "--publish", "127.0.0.1::8080", image)
    yield name
    docker("rm", "--force", "--volumes", name)


def test_the_image_says_what_a_cluster_wants_to_know(image: str) -> None:
    settings = json.loads(docker("image", "inspect", image))[0]["Config"]
    assert settings["User"] == "65532:65532"
    assert settings["Healthcheck"]["Test"] == ["CMD", "python", "-m", "daebus_runtime.health"]
    assert "DAEBUS_MANAGEMENT_PORT=9000" in settings["Env"]
    assert {"8080/tcp", "9000/tcp"} <= settings["ExposedPorts"].keys()


def test_a_service_answers_gets_healthy_and_ends_in_order(container: str) -> None:
    wait_until(lambda: settled(container), 60, lambda: logs(container))
    assert settled(container) == "healthy", logs(container)
    address = docker("port", container, "8080/tcp").splitlines()[0]
    with urllib.request.urlopen(f"http://{address}/plants", timeout=10) as answer:
        assert json.load(answer)["plants"]["basil"] == 60
    called = docker("exec", container, "daebus", "call", "cold_store", "water", '{"plant": "basil"}')
    assert json.loads(called) == {"plant": "basil", "moisture": 85}
    assert docker("exec", container, "python", "-c", "import os; print(os.getuid())") == "65532"
    docker("stop", "--time", "30", container)
    assert state(container)["ExitCode"] == 0, logs(container)


def state(container: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(docker("inspect", container))[0]["State"]
    return found


def settled(container: str) -> str | None:
    """How it came out: "healthy", or "ended" when the service is gone; None while that is open."""
    now = state(container)
    if not now["Running"]:
        return "ended"
    return "healthy" if now["Health"]["Status"] == "healthy" else None


def logs(container: str) -> str:
    done = subprocess.run([DOCKER, "logs", container], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    return f"{state(container)}\n{done.stdout}"
