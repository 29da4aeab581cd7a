"""Programs that import libraries before Daebus: they work, they stay cooperative, they get at most one warning."""

from __future__ import annotations

import os
import ssl
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import trustme

pytestmark = pytest.mark.slow  # they start programs of their own

SLOW_SECONDS = 0.6


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> tuple[trustme.CA, Path]:
    made = trustme.CA()
    path = tmp_path_factory.mktemp("authority") / "ca.pem"
    made.cert_pem.write_to_path(str(path))
    return made, path


class Slow(BaseHTTPRequestHandler):
    """Answers late enough to see whether other greenlets run meanwhile."""

    def do_GET(self) -> None:
        threading.Event().wait(SLOW_SECONDS)
        body = b'{"answer": 42}'
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def https_url(authority: tuple[trustme.CA, Path]) -> Iterator[str]:
    """A local HTTPS server; its certificate is for localhost."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority[0].issue_cert("localhost").configure_cert(context)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Slow)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield f"https://localhost:{server.server_address[1]}/"
    server.shutdown()
    server.server_close()
    thread.join()


def run(program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a program in a Python process of its own with every warning shown."""
    command = [sys.executable, "-W", "always", "-c", textwrap.dedent(program), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done


SERVICE = """
from daebus_runtime.testing import TestApp
import gevent, sys, time

url, ca = sys.argv[1:]
app = Daebus("garden")

@app.action("fetch")
def fetch():
    return get(url, ca)

ticks = []

def tick():
    while True:
        ticks.append(time.monotonic())
        gevent.sleep(0.01)

with TestApp(app) as test:
    ticking = gevent.spawn(tick)
    print("answer", test.call("fetch")["answer"])
    longest = max(b - a for a, b in zip(ticks, ticks[1:]))
    print("cooperative", len(ticks) > 10 and longest < 0.4, len(ticks), longest)
    ticking.kill()
"""
WITH_REQUESTS = """
def get(url, ca):
    return requests.get(url, verify=ca, timeout=20).json()
"""
WITH_URLLIB = """
def get(url, ca):
    with urllib.request.urlopen(url, context=ssl.create_default_context(cafile=ca), timeout=20) as answer:
        return json.loads(answer.read())
"""
WITH_AN_OLD_CONTEXT = """
context = ssl.create_default_context()

def get(url, ca):
    context.load_verify_locations(ca)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.verify_mode = ssl.CERT_REQUIRED
    with urllib.request.urlopen(url, context=context, timeout=20) as answer:
        return json.loads(answer.read())
"""
WITH_A_SESSION = """
session = requests.Session()

def get(url, ca):
    return session.get(url, verify=ca, timeout=20).json()
"""


def get_in_a_handler(https_url: str, authority: tuple[trustme.CA, Path], program: str) -> str:
    """Run the program's `get` in a handler: it must work and be cooperative. Returns the text on standard error."""
    done = run(program + SERVICE, https_url, str(authority[1]))
    assert "answer 42" in done.stdout
    assert "cooperative True" in done.stdout, done.stdout
    return done.stderr


@pytest.mark.parametrize(
    "program",
    [
        "import requests\nfrom daebus import Daebus, request" + WITH_REQUESTS,
        "import requests\nfrom daebus import Daebus" + WITH_A_SESSION,
        "from daebus import Daebus\nimport requests" + WITH_REQUESTS,
        "import ssl, json, urllib.request\nfrom daebus import Daebus" + WITH_URLLIB,
        "import ssl, json, urllib.request\nfrom ssl import SSLContext\n"
        + WITH_AN_OLD_CONTEXT
        + "\nfrom daebus import Daebus",
        "from daebus import Daebus\nimport ssl, json, urllib.request" + WITH_URLLIB,
    ],
    ids=["requests first", "a session from before", "daebus first", "ssl first", "a context from before", "ssl later"],
)
def test_https_inside_a_handler_works_and_blocks_no_other(
    https_url: str, authority: tuple[trustme.CA, Path], program: str
) -> None:
    said = get_in_a_handler(https_url, authority, program)
    assert said.count("Warning") <= 1, said


def test_there_is_one_warning_that_names_the_module_and_the_cure() -> None:
    done = run("""
        import ssl, sys, types
        stubborn = types.ModuleType("stubborn")
        exec("import ssl\\nclass Context(ssl.SSLContext): pass", stubborn.__dict__)
        sys.modules["stubborn"] = stubborn
        from daebus import Daebus
        import daebus
        from daebus_runtime import Blueprint
    """)
    assert done.stderr.count("Warning") == 1, done.stderr
    assert "stubborn" in done.stderr
    assert "import daebus first" in done.stderr
    assert "<string>:6: RuntimeWarning" in done.stderr, "the warning points at the program's own import"


def test_importing_daebus_makes_the_standard_library_cooperative() -> None:
    done = run("""
        import daebus
        from gevent import monkey
        print(monkey.is_module_patched("socket"))
        from daebus import Daebus
        print(*map(monkey.is_module_patched, ("socket", "ssl", "threading")))
    """)
    assert done.stdout.split() == ["False", "True", "True", "True"]
    assert done.stderr == ""


@pytest.mark.parametrize("package", ["daebus", "daebus_runtime"])
def test_importing_and_using_a_caller_alone_patches_nothing(package: str, shared_redis: Any) -> None:
    done = run(
        f"""
        import socket, ssl, threading, time
        before = [socket.socket, ssl.SSLContext, threading.Lock, time.sleep]
        from {package} import DaebusCaller
        import sys
        caller = DaebusCaller("nobody", redis_url=sys.argv[1])
        caller.send_message("weather", {{"rain": True}})
        caller.close()
        print(before == [socket.socket, ssl.SSLContext, threading.Lock, time.sleep])
        from gevent import monkey
        print(any(map(monkey.is_module_patched, ("socket", "ssl", "threading", "time", "os"))))
        """,
        shared_redis.url,
    )
    assert done.stdout.split() == ["True", "False"]
    assert done.stderr == ""


def test_a_program_that_patched_itself_is_left_as_it_is() -> None:
    done = run("""
        from gevent import monkey
        monkey.patch_all()
        import socket
        before = socket.socket
        from daebus import Daebus
        print(socket.socket is before)
    """)
    assert done.stdout.split() == ["True"]
    assert done.stderr == ""


def test_logging_from_many_os_threads_does_not_hang() -> None:
    done = run("""
        import io, logging, time
        from daebus import Daebus
        from gevent.threadpool import ThreadPool
        logging.basicConfig(stream=io.StringIO())   # a handler of the program's own

        class Slow(logging.Formatter):
            def format(self, record):
                sum(range(3000))
                return "x"

        logging.getLogger().handlers[0].setFormatter(Slow())

        def write(number):
            for _ in range(200):
                logging.warning("hello")

        pool = ThreadPool(8)
        pool.map(write, range(8))
        print("done")
    """)
    assert done.stdout.split() == ["done"]


def test_the_plugins_of_gevent_are_looked_for_once_and_all_called(tmp_path: Path) -> None:
    (tmp_path / "plugin.py").write_text("calls = []\ndef called(event): calls.append(type(event).__name__)\n")
    information = tmp_path / "plugin-1.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: plugin\nVersion: 1\n")
    groups = ("will_patch_all", "will_patch_module", "did_patch_builtins", "did_patch_all")
    lines = "".join(f"[gevent.plugins.monkey.{group}]\nplugin = plugin:called\n" for group in groups)
    (information / "entry_points.txt").write_text(lines)
    program = """
        import importlib.metadata, plugin
        scan, scans = importlib.metadata.entry_points, []
        importlib.metadata.entry_points = count = lambda **given: scans.append(given) or scan(**given)
        import daebus_runtime.app
        assert scans == [{}], scans
        assert importlib.metadata.entry_points is count
        assert plugin.calls[0] == "GeventWillPatchAllEvent", plugin.calls
        assert plugin.calls[-1] == "GeventDidPatchAllEvent", plugin.calls
        assert plugin.calls.count("GeventWillPatchModuleEvent") > 5, plugin.calls
    """
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    subprocess.run([sys.executable, "-c", textwrap.dedent(program)], env=environment, check=True)


def test_a_handler_that_removes_many_folders_does_not_run_out_of_descriptors() -> None:
    program = """
        from daebus import Daebus
        import gevent, os, resource, shutil, tempfile
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))

        def handler():
            folder = tempfile.mkdtemp()
            for number in range(200):
                os.makedirs(f"{folder}/{number}/deeper")
            shutil.rmtree(folder)
            for number in range(200):
                os.close(os.open("/", os.O_RDONLY))
            return os.path.exists(folder), len(os.listdir("/proc/self/fd")) < 32

        print(gevent.spawn(handler).get())
        try:
            os.close(4000)
        except OSError as error:
            print(type(error).__name__, error.errno)
        """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, timeout=30, check=False
    )
    assert (done.stdout, done.stderr) == ("(False, True)\nOSError 9\n", "")
