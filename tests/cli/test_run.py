"""`daebus run`: which application it takes, that it serves, and the errors when it cannot."""

from __future__ import annotations

import signal
import subprocess
import textwrap
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from tests.support.process import ServiceProcess
from tests.support.redis_server import RedisServer
from tests.support.waiting import wait_until

from .conftest import COMMAND, Run

pytestmark = pytest.mark.slow  # each test starts several programs

ONE = """
    from daebus import Daebus
    app = Daebus(__name__)

    @app.action("hello")
    def hello():
        return {"from": __name__}
"""
TWO = """
    from daebus import Daebus
    first, second = Daebus("first"), Daebus("second")

    @second.action("hello")
    def hello():
        return {"from": "second"}
"""
Serve = Callable[..., ServiceProcess]


@pytest.fixture
def serve(start_process: Callable[..., ServiceProcess], shared_redis: RedisServer) -> Serve:
    """`serve(*arguments)` starts `daebus run` and returns once it has logged that it started."""

    def start(*arguments: str, env: Mapping[str, str] | None = None) -> ServiceProcess:
        process = start_process(
            [*COMMAND, "run", *arguments], env={"DAEBUS_REDIS_URL": shared_redis.url, **(env or {})}
        )
        process.wait_line("started")
        return process

    return start


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(textwrap.dedent(text))


def hello(daebus: Run, url: str, service: str) -> str:
    """Waits until the service answers; its answer."""
    return wait_until(lambda: daebus("call", service, "hello", "--redis-url", url).stdout.strip(), 20)


@pytest.mark.parametrize("target", ["garden.py", "garden.py:app", "garden:app", "garden", "./garden.py"])
def test_the_ways_to_name_an_application(
    serve: Serve, daebus: Run, shared_redis: RedisServer, tmp_path: Path, target: str
) -> None:
    write(tmp_path / "garden.py", ONE)
    process = serve(target)
    assert hello(daebus, shared_redis.url, "garden") == '{"from":"garden"}'
    assert process.terminate() == 0


def test_a_name_chooses_between_several(serve: Serve, daebus: Run, shared_redis: RedisServer, tmp_path: Path) -> None:
    write(tmp_path / "both.py", TWO)
    serve("both.py:second")
    assert hello(daebus, shared_redis.url, "second") == '{"from":"second"}'


def test_a_file_in_a_package_may_import_its_neighbours(
    serve: Serve, daebus: Run, shared_redis: RedisServer, tmp_path: Path
) -> None:
    write(tmp_path / "src" / "shop" / "__init__.py", "")
    write(tmp_path / "src" / "shop" / "words.py", "WORD = 'good day'")
    write(
        tmp_path / "src" / "shop" / "app.py",
        """
        from daebus import Daebus
        from .words import WORD
        app = Daebus(__name__)

        @app.action("hello")
        def hello():
            return WORD
        """,
    )
    serve("src/shop/app.py")
    assert hello(daebus, shared_redis.url, "shop") == '"good day"'


def test_a_file_that_runs_itself_runs_once(serve: Serve, tmp_path: Path) -> None:
    write(tmp_path / "garden.py", ONE + "\n    app.run(service='garden')\n")
    process = serve("garden.py")
    assert process.terminate() == 0
    assert process.count("service garden started") == 1


def test_the_targets_imports_are_cooperative(serve: Serve, tmp_path: Path) -> None:
    write(
        tmp_path / "garden.py",
        "from ssl import SSLContext\nprint('context', SSLContext.__module__)" + ONE.replace("\n    ", "\n"),
    )
    serve("garden.py").wait_line("context gevent.ssl")


def test_ctrl_c_ends_it_with_exit_code_0(serve: Serve, tmp_path: Path) -> None:
    write(tmp_path / "garden.py", ONE)
    process = serve("garden.py")
    process.signal(signal.SIGINT)
    assert process.wait() == 0
    assert "Traceback" not in process.output


@pytest.mark.parametrize(
    ("file", "text", "target", "code", "said"),
    [
        ("a.py", ONE, "b.py", 2, "there is no file b.py"),
        ("a.py", ONE, "b", 2, "there is no module b"),
        ("a.py", ONE, "a:web", 2, "a has no 'web'"),
        ("a.py", "app = 1", "a.py:app", 2, "'app' in a.py is no Daebus application"),
        ("a.py", "x = 1", "a.py", 2, "a.py holds no Daebus(...) application"),
        ("a.py", TWO, "a.py", 2, "a.py holds several applications; say which: a.py:first"),
        ("a.py", ONE, "", 2, "is module:app, file.py or file.py:app"),
        ("parts/json.py", ONE, "parts/json.py", 2, "parts/json.py has the name of another module, json; rename it"),
        ("a.py", "import no_such_thing", "a.py", 1, "ModuleNotFoundError: No module named 'no_such_thing', at "),
        (
            "a.py",
            "x = 1\nx.y()",
            "a.py",
            1,
            "a.py cannot be imported: AttributeError: 'int' object has no attribute 'y', at ",
        ),
        ("a.py", "x = (", "a.py", 1, "a.py cannot be imported: SyntaxError: '(' was never closed, at "),
        ("a.py", TWO + "\n    second.action('hello')(hello)", "a.py:second", 1, "action 'hello' is declared twice"),
        ("a.py", "from daebus import Daebus\napp = Daebus('__main__')", "a.py", 1, "the service has no name"),
    ],
)
def test_a_target_that_cannot_run_is_an_error_of_one_line(
    daebus: Run, tmp_path: Path, file: str, text: str, target: str, code: int, said: str
) -> None:
    write(tmp_path / file, text)
    done = daebus("run", target)
    assert done.returncode == code, done.stderr
    assert said in done.stderr.splitlines()[-1]
    assert done.stdout == ""


def test_an_error_in_the_target_is_named_with_its_line_and_debug_shows_the_traceback(tmp_path: Path) -> None:
    write(tmp_path / "helper.py", "\n\nraise KeyError('lost')\n")
    write(tmp_path / "a.py", "import helper\n")
    command = [*COMMAND, "run", "a.py"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=tmp_path, check=False)
    assert f"KeyError: 'lost', at {tmp_path / 'helper.py'}:3 (DAEBUS_DEBUG=true shows the traceback)" in done.stderr
    shown = subprocess.run(
        ["env", "DAEBUS_DEBUG=true", *command], capture_output=True, text=True, timeout=60, cwd=tmp_path, check=False
    )
    assert "Traceback" in shown.stderr
    assert f'File "{tmp_path / "a.py"}", line 1' in shown.stderr


def test_a_setting_that_does_not_parse_stops_the_start(daebus: Run, tmp_path: Path) -> None:
    write(tmp_path / "garden.py", ONE)
    done = daebus("run", "garden.py", env={"DAEBUS_QUEUE_LIMIT": "many"})
    assert done.returncode == 1
    assert "DAEBUS_QUEUE_LIMIT: 'many' is not a number, 1 to 1,000,000" in done.stderr


def test_without_a_bus_it_serves_on_one_of_its_own_and_says_that_it_is_private(
    serve: Serve, daebus: Run, tmp_path: Path
) -> None:
    write(tmp_path / "garden.py", ONE)
    process = serve("garden.py", env={"DAEBUS_REDIS_URL": "", "DAEBUS_EMBEDDED": "always"})
    own = r"(redis://127\.0\.0\.1:\d+) \(embedded .*\), private: other machines cannot reach it"
    url = process.wait_line(own).group(1)
    assert hello(daebus, url, "garden") == '{"from":"garden"}'
    assert process.terminate() == 0
