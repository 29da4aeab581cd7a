"""`daebus doctor` says what is wrong, why, and how to repair it: six planted faults, and a healthy environment."""

from __future__ import annotations

import re
import socket
import subprocess
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.process import ServiceProcess
from tests.support.redis_server import RedisServer
from tests.support.waiting import wait_until

from .conftest import COMMAND, GARDEN, Garden, Run

pytestmark = pytest.mark.slow  # each test starts several programs

WITH_HTTP = """
from daebus import Daebus, DaebusHttp

app = Daebus("shop")
app.attach(DaebusHttp(port={port}))

@app.action("sell")
def sell():
    return {{}}

@app.route("/")
def index(req):
    return {{}}
"""


@pytest.fixture
def healthy(shared_redis: RedisServer) -> dict[str, str]:
    return {"DAEBUS_REDIS_URL": shared_redis.url}


@pytest.fixture
def taken_port() -> Iterator[int]:
    """A port that another program listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


def finding(done: subprocess.CompletedProcess[str], level: str, about: str) -> str:
    """The only finding of that level about that subject, with its cure."""
    found = re.findall(rf"^{level} +{about} +(.*(?:\n +cure: .*)?)", done.stdout, re.MULTILINE)
    assert len(found) == 1, done.stdout + done.stderr
    return str(found[0])


def only_failure(done: subprocess.CompletedProcess[str], about: str) -> str:
    """The failed finding. There must be only one, it must have a cure, and the exit code must be that of a failure."""
    assert done.returncode == 1, done.stdout
    assert len(re.findall(r"^fail ", done.stdout, re.MULTILINE)) == 1, done.stdout
    text = finding(done, "fail", about)
    assert "cure: " in text
    return text


def test_a_healthy_environment_is_ok_and_exit_code_0(daebus: Run, garden: Garden) -> None:
    done = daebus("doctor", "--service", "garden", env=garden.env)
    assert (done.returncode, done.stderr) == (0, "")
    assert "fail" not in done.stdout
    assert "(DAEBUS_REDIS_URL): " in finding(done, "ok", "bus")
    assert re.search(r"(Redis|Valkey) \d+\.\d+\.\d+, answers in \d", finding(done, "ok", "bus"))
    assert finding(done, "ok", "service") == "'garden' answers: 1 replica"


# --- six planted faults -----------------------------------------------------------------------------------------------


def test_no_redis(daebus: Run, free_port: int) -> None:
    done = daebus("doctor", env={"DAEBUS_REDIS_URL": f"redis://127.0.0.1:{free_port}"})
    text = only_failure(done, "bus")
    assert f"nothing listens at redis://127.0.0.1:{free_port} (DAEBUS_REDIS_URL)" in text
    assert "start a Redis there" in text


def test_a_wrong_password(daebus: Run) -> None:
    with RedisServer(password="right") as server:
        wrong = daebus("doctor", env={"DAEBUS_REDIS_URL": f"redis://:wr0ng@127.0.0.1:{server.port}"})
        missing = daebus("doctor", env={"DAEBUS_REDIS_URL": f"redis://127.0.0.1:{server.port}"})
    text = only_failure(wrong, "bus")
    assert "refuses the user or the password" in text
    assert "correct them in DAEBUS_REDIS_URL" in text
    assert "wr0ng" not in wrong.stdout
    text = only_failure(missing, "bus")
    assert "asks for a password and none is given" in text
    assert "redis://:password@host:port" in text


def test_a_malformed_url(daebus: Run) -> None:
    done = daebus("doctor", env={"DAEBUS_REDIS_URL": "redis://:s3cret@host:port"})
    text = only_failure(done, "settings")
    assert "DAEBUS_REDIS_URL: its value (not shown, it may hold a password) is not redis://" in text
    assert "set DAEBUS_REDIS_URL to redis://[user:password@]host[:port][/db]" in text
    assert "s3cret" not in done.stdout
    assert "not checked" in finding(done, "warn", "bus")


def test_a_port_taken(daebus: Run, healthy: dict[str, str], taken_port: int, tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(WITH_HTTP.format(port=taken_port))
    done = daebus("doctor", "shop.py", env=healthy)
    text = only_failure(done, "http")
    assert f"port {taken_port} is taken by " in text
    assert f"DAEBUS_HTTP_PORT={taken_port + 1}" in text
    for kind in ("HTTP", "WEBSOCKET", "MANAGEMENT"):
        done = daebus("doctor", env={**healthy, f"DAEBUS_{kind}_PORT": str(taken_port)})
        assert f"port {taken_port} is taken by " in only_failure(done, kind.lower())


def test_a_port_that_the_running_service_itself_holds_is_ok(
    daebus: Run, healthy: dict[str, str], start_process: Callable[..., ServiceProcess], free_port: int, tmp_path: Path
) -> None:
    (tmp_path / "shop.py").write_text(WITH_HTTP.format(port=free_port))
    start_process([*COMMAND, "run", "shop.py"], env=healthy).wait_line("is connected")
    done = daebus("doctor", "shop.py", env=healthy)
    assert done.returncode == 0, done.stdout
    assert finding(done, "ok", "http").endswith("the service runs")


@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="the kernel does not tell who holds a port")
def test_the_program_that_holds_the_port_is_named(
    daebus: Run, healthy: dict[str, str], start_process: Callable[..., ServiceProcess], free_port: int
) -> None:
    holder = start_process(["python3", "-u", "-m", "http.server", "--bind", "127.0.0.1", str(free_port)])
    holder.wait_line("Serving")
    done = daebus("doctor", env={**healthy, "DAEBUS_HTTP_PORT": str(free_port)})
    assert f"(pid {holder.pid})" in only_failure(done, "http")


def test_a_bad_setting(daebus: Run, healthy: dict[str, str]) -> None:
    done = daebus("doctor", env={**healthy, "DAEBUS_HTTP_PORT": "eighty", "DAEBUS_REDIS_ULR": "x"})
    text = only_failure(done, "settings")
    assert "DAEBUS_HTTP_PORT: 'eighty' is not a port number, 0 to 65535" in text
    assert "or unset it (then it is 8080)" in text
    assert "DAEBUS_REDIS_ULR is not a setting; did you mean DAEBUS_REDIS_URL?" in finding(done, "warn", "settings")


def test_nobody_answers(daebus: Run, garden: Garden) -> None:
    done = daebus("doctor", "--service", "gardn", "--service", "garden", env=garden.env)
    text = only_failure(done, "service")
    assert "nobody answers for service 'gardn'" in text
    assert "did you mean garden?" in text
    assert "start it" in text


# --- more that can be wrong with a bus --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "cause"),
    [
        ("redis://no-such-host.invalid:6379", "the host name 'no-such-host.invalid' in "),
        ("unix:///no/such/redis.sock", "No such file or directory"),
        ("redis://127.0.0.1:{port}/99", "DB index is out of range"),
        ("redis://127.0.0.1:{port}/0?socket_timeout=soon", "cannot be used"),
    ],
)
def test_why_a_bus_cannot_be_reached(daebus: Run, shared_redis: RedisServer, url: str, cause: str) -> None:
    done = daebus("doctor", "--redis-url", url.format(port=shared_redis.port))
    assert cause in only_failure(done, "bus")


def test_a_server_that_is_not_redis_is_named_as_such(
    daebus: Run, start_process: Callable[..., ServiceProcess], free_port: int
) -> None:
    start_process(["python3", "-u", "-m", "http.server", "--bind", "127.0.0.1", str(free_port)]).wait_line("Serving")
    done = daebus("doctor", "--redis-url", f"redis://127.0.0.1:{free_port}")
    assert "is no Redis" in only_failure(done, "bus")


def test_a_paused_redis_does_not_answer(daebus: Run, redis_server: RedisServer) -> None:
    redis_server.pause()
    done = daebus("doctor", "--redis-url", redis_server.url)
    redis_server.resume()
    assert "no answer from " in only_failure(done, "bus")


def test_tls_with_an_unknown_authority(daebus: Run) -> None:
    with RedisServer(tls=True) as server:
        assert daebus("doctor", "--redis-url", server.url).returncode == 0
        done = daebus("doctor", "--redis-url", f"rediss://127.0.0.1:{server.port}")
    text = only_failure(done, "bus")
    assert "no TLS connection" in text
    assert "ssl_ca_certs" in text


def test_no_bus_is_named_and_none_may_be_started(daebus: Run) -> None:
    done = daebus("doctor", env={"DAEBUS_EMBEDDED": "never"})
    text = only_failure(done, "bus")
    assert "DAEBUS_EMBEDDED=never forbids" in text
    assert "set DAEBUS_REDIS_URL" in text


def test_an_embedded_bus_is_reported(daebus: Run) -> None:
    done = daebus("doctor", env={"DAEBUS_EMBEDDED": "always"})
    assert done.returncode == 0
    assert "a service starts " in finding(done, "warn", "bus")


# --- a target ---------------------------------------------------------------------------------------------------------


def test_a_target_is_described_and_its_service_looked_for(
    daebus: Run, garden: Garden, tmp_path: Path, healthy: dict[str, str]
) -> None:
    (tmp_path / "garden.py").write_text("\n".join(line[4:] for line in GARDEN.splitlines()))
    running = daebus("doctor", "garden.py", env=garden.env)
    assert running.returncode == 0
    assert finding(running, "ok", "target") == "garden.py: service 'garden', 3 actions, 1 listener"
    assert finding(running, "ok", "service") == "'garden' answers: 1 replica"
    stopped = daebus("doctor", "garden.py", env=healthy)
    assert stopped.returncode == 0
    assert finding(stopped, "warn", "service").splitlines()[1].strip() == "cure: daebus run garden.py"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("import no_such_thing", "No module named 'no_such_thing'"),
        ("from daebus import Daebus\napp = Daebus('__main__')", "the service has no name"),
        ("from daebus import Daebus\napp = Daebus('a')\n@app.action('x')\nasync def f(): pass", "async function"),
        ("x = 1", "holds no Daebus"),
    ],
)
def test_a_target_that_cannot_run_is_a_failure_with_the_reason(
    daebus: Run, healthy: dict[str, str], tmp_path: Path, text: str, said: str
) -> None:
    (tmp_path / "service.py").write_text(text)
    assert said in only_failure(daebus("doctor", "service.py", env=healthy), "target")


def test_without_a_target_it_is_the_application_that_pyproject_names(
    daebus: Run, healthy: dict[str, str], start_process: Callable[..., ServiceProcess], free_port: int, tmp_path: Path
) -> None:
    (tmp_path / "shop.py").write_text(WITH_HTTP.format(port=free_port))
    (tmp_path / "pyproject.toml").write_text('[tool.daebus]\napp = "shop:app"\n')
    stopped = daebus("doctor", env=healthy)
    assert stopped.returncode == 0, stopped.stdout
    assert finding(stopped, "warn", "service") == f"'shop' does not run\n{'':<18}cure: daebus run shop:app"
    start_process([*COMMAND, "run", "shop:app"], env=healthy).wait_line("is connected")
    running = daebus("doctor", env=healthy)
    assert running.returncode == 0, running.stdout
    assert finding(running, "ok", "target").startswith("shop:app (pyproject.toml): service 'shop', 1 action, 1 route")
    assert finding(running, "ok", "service") == "'shop' answers: 1 replica"
    assert finding(running, "ok", "http").endswith("the service runs")


def test_without_a_target_and_a_bus_it_says_how_to_start_both(daebus: Run, tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text("from daebus import Daebus\napp = Daebus('shop')\n")
    (tmp_path / "pyproject.toml").write_text('[tool.daebus]\napp = "shop:app"\n')
    assert "cure: daebus run shop:app" in finding(daebus("doctor", env={"DAEBUS_EMBEDDED": "always"}), "warn", "bus")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[tool.daebus\n", "pyproject.toml cannot be read"),
        ("[tool.daebus]\napp = 1\n", 'is not text such as "my_service.app:app"'),
    ],
)
def test_a_pyproject_that_cannot_be_used_is_a_failure(
    daebus: Run, healthy: dict[str, str], tmp_path: Path, text: str, said: str
) -> None:
    (tmp_path / "pyproject.toml").write_text(text)
    assert said in only_failure(daebus("doctor", env=healthy), "target")


def test_everybody_who_listens_is_named(
    daebus: Run, redis_server: RedisServer, start_process: Callable[..., ServiceProcess], tmp_path: Path
) -> None:
    """Services and events with listeners; what only the service itself listens on is left out."""
    env = {"DAEBUS_REDIS_URL": redis_server.url}
    (tmp_path / "garden.py").write_text(textwrap.dedent(GARDEN))
    assert finding(daebus("doctor", env=env), "ok", "others") == "nobody listens on this bus"
    for _ in range(2):
        start_process([*COMMAND, "run", "garden.py"], env=env).wait_line("is connected")
    with redis_server.client() as client, client.pubsub() as other:
        other.subscribe("caller:0123", "shop")
        wait_until(lambda: [count for _, count in client.pubsub_numsub("shop", "garden")] == [1, 2])
        told = finding(daebus("doctor", "--service", "garden", env=env), "ok", "others")
        assert told == "services and events with listeners: shop (1), weather (2)"
        other.subscribe("weather")
        told = finding(daebus("doctor", "garden.py", env=env), "ok", "others")
        assert told == "services and events with listeners: shop (1), weather (3)"
        other.unsubscribe("weather", "shop")


def test_the_management_port_is_asked(
    daebus: Run, healthy: dict[str, str], start_process: Callable[..., ServiceProcess], free_port: int
) -> None:
    env = {**healthy, "DAEBUS_MANAGEMENT_PORT": str(free_port)}
    assert "is free" in finding(daebus("doctor", env=env), "ok", "management")
    start_process(GARDEN, name="garden.py", env=env).wait_line("is connected")
    assert "200" in finding(daebus("doctor", "--service", "garden", env=env), "ok", "management")
