"""What a service settles or logs at its start: address families, the limit of open files, a file that runs twice."""

from __future__ import annotations

import resource
import socket
import sys
from pathlib import Path
from typing import Any

import pytest
from daebus_runtime import descriptors, health
from daebus_runtime.servers.ports import open_listener

from tests.support.process import ServiceProcess

TWICE = """
from daebus import Daebus
app = Daebus("garden")
if __name__ == "__main__":
    import {}
    app.on_start()(app.stop)
    app.run()
"""


def reaches(host: str, port: int) -> bool:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as client:
        client.settimeout(2)
        return client.connect_ex((host, port)) == 0


@pytest.mark.parametrize(("host", "reached"), [("::", ["127.0.0.1", "::1"]), ("[::1]", ["::1"])])
def test_the_ipv6_wildcard_address_accepts_ipv4_too(host: str, reached: list[str]) -> None:
    if not socket.has_ipv6:
        pytest.skip("this Python has no IPv6")
    with open_listener(host, 0, "TEST") as listener:
        port = listener.getsockname()[1]
        assert [address for address in ("127.0.0.1", "::1") if reaches(address, port)] == reached


def test_without_ipv6_it_listens_on_ipv4(monkeypatch: pytest.MonkeyPatch) -> None:
    real = socket.socket

    def without(family: int = socket.AF_INET, *args: Any, **options: Any) -> Any:
        if family == socket.AF_INET6:
            raise OSError(97, "Address family not supported by protocol")
        return real(family, *args, **options)

    monkeypatch.setattr(socket, "socket", without)
    with open_listener("::", 0, "TEST") as listener:
        assert listener.getsockname()[0] == "0.0.0.0"


def test_the_limit_of_open_files_is_raised_and_one_too_low_is_logged() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 512), hard))
        assert descriptors.raise_limit(10) is None
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == hard
        if hard != resource.RLIM_INFINITY:
            said = descriptors.raise_limit(hard)
            assert said is not None
            assert f"may open {hard} files, too few for DAEBUS_CONNECTION_LIMIT={hard}" in said
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_file_that_runs_under_two_names_is_logged_with_the_cure(tmp_path: Path, free_port: int) -> None:
    (tmp_path / "handlers.py").write_text("from app import app\napp.action('lost')(lambda: 1)\n")
    program = """
        from daebus import Daebus
        app = Daebus("garden")
        if __name__ == "__main__":
            import handlers
            app.on_start()(app.stop)
            app.run()
    """
    env = {"DAEBUS_REDIS_URL": f"redis://127.0.0.1:{free_port}"}
    with ServiceProcess(program, directory=tmp_path, name="app.py", env=env) as process:
        process.wait_line("app.py was run twice, as module '__main__' and as module 'app'.*daebus run app.py")
        assert process.wait(10) == 0


@pytest.mark.parametrize("way", ["package", "link"])
def test_a_file_that_runs_twice_is_logged_once_however_it_was_started(way: str, tmp_path: Path, free_port: int) -> None:
    package, elsewhere = tmp_path / "garden", tmp_path / "elsewhere"
    package.mkdir()
    elsewhere.symlink_to(package)
    (package / "__init__.py").touch()
    (package / "app.py").write_text(TWICE.format("garden.handlers" if way == "package" else "elsewhere.handlers"))
    name = "garden.app" if way == "package" else "elsewhere.app"
    (package / "handlers.py").write_text(f"from {name} import app\napp.action('lost')(lambda: 1)\n")
    line = [sys.executable, *(["-m", "garden.app"] if way == "package" else ["garden/app.py"])]
    env = {"DAEBUS_REDIS_URL": f"redis://127.0.0.1:{free_port}", "PYTHONPATH": str(tmp_path)}
    with ServiceProcess(line, directory=tmp_path, env=env) as process:
        assert process.wait(10) == 0, process.output
    assert process.output.count(f"app.py was run twice, as module '__main__' and as module '{name}'") == 1


def test_a_probe_reaches_the_service_on_either_address_family() -> None:
    for listening in ("::1", "127.0.0.1"):
        with open_listener(listening, 0, "TEST") as listener:
            port = listener.getsockname()[1]
            environ = {"DAEBUS_MANAGEMENT_HOST": "::", "DAEBUS_MANAGEMENT_PORT": str(port)}
            address = health.management_address(environ)
            assert address is not None
            said = health.ask(*address, "/readyz", seconds=0.3)[1]
            assert "refused" not in said


@pytest.mark.parametrize("serving", ["", "app.attach(DaebusHttp())"])
def test_the_collector_never_looks_through_what_the_start_has_made(
    serving: str, tmp_path: Path, free_port: int
) -> None:
    """With all modules it would hold the loop for 12 ms each time."""
    program = f"""
        import gc
        from daebus import Daebus, DaebusHttp
        app = Daebus("garden")
        {serving}
        @app.thread("look")
        def look(running):
            print("objects:", len(gc.get_objects()), flush=True)
            app.stop()
        app.run()
    """
    with ServiceProcess(program, directory=tmp_path, env={"DAEBUS_HTTP_PORT": str(free_port)}) as process:
        found = process.wait_line(r"objects: (\d+)")
        assert process.wait(10) == 0
    assert int(found[1]) < 10_000
