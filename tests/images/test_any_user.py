"""The images run as any user: as 65532, or as one that the cluster chooses, as OpenShift does, with group 0."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.support.docker import RESTRICTED, Container, Generated, docker

pytestmark = [pytest.mark.slow, pytest.mark.docker]
TRIES = 3
OWN, CHOSEN = "65532:65532", "1000680000:0"
HOME = """
import getpass, os, pathlib, tempfile
cache = pathlib.Path.home() / ".cache" / "a-library"
cache.mkdir(parents=True)
(cache / "file").write_text("kept")
print(os.getuid(), os.getgid(), getpass.getuser(), (cache / "file").read_text(), tempfile.gettempdir())
"""


@pytest.fixture
def run_as() -> Iterator[Callable[[str, str], Container]]:
    """A function that starts an image as a user, with a read-only root and the rights that a cluster gives."""
    started: list[Container] = []

    def run_as(user: str, image: str) -> Container:
        started.append(Container(image, options=(*RESTRICTED, "--user", user)))
        return started[-1]

    yield run_as
    for container in started:
        container.close()


@pytest.mark.parametrize("user", [OWN, CHOSEN])
def test_it_has_a_name_and_a_home_that_can_be_written(service: Generated, user: str) -> None:
    for image in (service.base, f"{service.image}:0.1.0"):
        said = docker("run", "--rm", *RESTRICTED, "--user", user, image, "python", "-c", HOME)
        assert said == f"{user.replace(':', ' ')} daebus kept /dev/shm"


def test_its_own_user_is_in_the_list_of_users(service: Generated) -> None:
    """For programs that look it up by number, as ssh and psycopg do."""
    look = "import os, pwd, grp; print(pwd.getpwuid(os.getuid()).pw_name, grp.getgrgid(os.getgid()).gr_name)"
    assert docker("run", "--rm", service.base, "python", "-c", look) == "daebus daebus"


@pytest.mark.alone
@pytest.mark.parametrize("user", [OWN, CHOSEN])
def test_a_service_is_ready_soon(
    service: Generated, run_as: Callable[[str, str], Container], user: str, measured: Callable[[str], None]
) -> None:
    """From the start of `docker run` until the health check passes, as measured from outside; the best of three."""
    ready = []
    for _ in range(TRIES):
        container = run_as(user, f"{service.image}:0.1.0")
        ready.append(container.wait_ready())
        container.close()
    measured(f"a service's image as {user}: ready {min(ready):.2f} s after docker run (best of {TRIES})")
    assert min(ready) < 3, ready
