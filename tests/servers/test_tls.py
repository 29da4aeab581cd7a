"""TLS of the HTTP port: what is spoken, which files stop the start, and files that change while the service runs."""

from __future__ import annotations

import contextlib
import socket
import ssl
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import gevent
import pytest
from cryptography.hazmat.primitives import serialization
from daebus_runtime.errors import ConfigurationError
from daebus_runtime.servers.http import preface
from daebus_runtime.servers.http.tls import check
from daebus_runtime.settings import load

from tests.servers.conftest import Service, started
from tests.servers.raw import SECURED, RawConnection, RawWebSocket, ask, frame
from tests.support.ports import accepts
from tests.support.process import ServiceProcess
from tests.support.tls import Authority, unit_of
from tests.support.waiting import wait_until

HTTPS = False  # its own service speaks nothing else
PROGRAM = """
    import time
    from daebus_runtime import Daebus, DaebusHttp, DaebusWebSocket
    from daebus_runtime.servers.http import clock

    clock.SECONDS.update(new=2.0)
    app = Daebus("secure")
    app.attach(DaebusHttp())
    app.attach(DaebusWebSocket())

    @app.route("/who")
    def who(req):
        return {"secure": req.secure, "address": list(req.remote_address)}

    @app.route("/big")
    def big(req):
        return "x" * 3_000_000

    @app.socket("echo")
    def echo(data, client_id):
        return data

    app.run()
"""


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def service(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with _serving(tmp_path_factory.mktemp("service"), authority) as service:
        yield service
        assert "Traceback" not in service.process.output


@contextlib.contextmanager
def _serving(folder: Path, authority: Authority, **settings: str) -> Iterator[Service]:
    from tests.support.ports import free_port

    port = free_port()
    environment = {"DAEBUS_HTTP_PORT": str(port), "DAEBUS_EMBEDDED": "never", **authority.environment, **settings}
    SECURED[port] = authority.client()
    with ServiceProcess(PROGRAM, directory=folder, env=environment) as process:
        yield started(process, port)
        assert process.terminate() == 0, process.output
    del SECURED[port]


def plain(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=10)


def certificate(service: Service) -> str:
    with RawConnection(service.port) as connection:
        assert isinstance(connection.socket, ssl.SSLSocket)
        return unit_of(connection.socket)


# --- what is spoken ---------------------------------------------------------------------------------------------------
def test_requests_and_websockets_are_secure(service: Service) -> None:
    assert ask(service.port, "GET", "/who").json["secure"] is True
    with RawWebSocket(service.port) as client:
        client.send(frame(1, b'{"type": "echo", "data": 7}'))
        assert client.message()["data"] == 7
    assert service.process.count(r"https://.*wss://|wss://.*https://") or "https://" in service.process.output


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_the_current_versions_are_spoken(service: Service, authority: Authority, version: ssl.TLSVersion) -> None:
    context = authority.client()
    context.minimum_version = context.maximum_version = version
    context.set_alpn_protocols(["h2", "http/1.1"])
    with context.wrap_socket(plain(service.port), server_hostname="localhost") as connection:
        assert (connection.version(), connection.compression()) == (version.name.replace("_", "."), None)
        assert connection.selected_alpn_protocol() == "http/1.1"


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_older_versions_are_refused(service: Service, authority: Authority) -> None:
    context = authority.client()
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    context.maximum_version = ssl.TLSVersion.TLSv1_1
    with plain(service.port) as connection, pytest.raises(ssl.SSLError):
        context.wrap_socket(connection, server_hostname="localhost")


def test_the_end_of_a_connection_is_announced(service: Service, authority: Authority) -> None:
    context = authority.client()
    for request in (b"GET /who HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", b"nonsense\r\n\r\n"):
        with context.wrap_socket(
            plain(service.port), server_hostname="localhost", suppress_ragged_eofs=False
        ) as connection:
            connection.sendall(request)
            while connection.recv(65_536):  # raises if the end could be one that somebody else made
                pass


def test_large_answers_and_bodies_pass(service: Service) -> None:
    with RawConnection(service.port) as connection:
        assert connection.ask("GET", "/big").json == "x" * 3_000_000
        assert connection.ask("POST", "/who", body=b"x" * 1_000_000).status == 405


# --- what is not TLS --------------------------------------------------------------------------------------------------
def test_a_client_that_speaks_plain_http_is_told_and_disconnected(service: Service) -> None:
    with plain(service.port) as connection:
        connection.sendall(b"GET /who HTTP/1.1\r\nHost: a\r\n\r\n")
        answer = b""
        while data := connection.recv(65_536):
            answer += data
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 ")
    assert head.count(b"\r\nX-Request-ID: ") == head.count(b"\r\nContent-Length: 27") == 1
    assert body == b"this port is only for HTTPS"


NONSENSE = (
    b"\x00" * 100,
    b"\x16\x03\x01\x00\x05hello",
    b"\x16" + b"\xff" * 5000,
    b"\x80\x2e\x01\x00\x02",
    bytes(range(256)),
)


@pytest.mark.parametrize("sent", NONSENSE, ids=range(len(NONSENSE)))
def test_nonsense_ends_the_connection_and_nothing_else(service: Service, sent: bytes) -> None:
    with plain(service.port) as connection, contextlib.suppress(OSError):
        connection.sendall(sent)
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(65_536):
            pass
    assert ask(service.port, "GET", "/who").status == 200


@pytest.mark.alone
@pytest.mark.parametrize("sent", [b"", b"\x16", b"\x16\x03\x01\x02\x00\x01"])
def test_a_handshake_has_a_time_limit(service: Service, sent: bytes) -> None:
    with plain(service.port) as connection:
        begun = time.monotonic()
        connection.sendall(sent)
        assert connection.recv(100) == b""
        assert 1.5 < time.monotonic() - begun < 4.5


@pytest.mark.alone
def test_a_thousand_half_handshakes_disturb_nobody_and_the_oldest_are_cut(service: Service) -> None:
    with contextlib.ExitStack() as stack:
        half = [stack.enter_context(plain(service.port)) for _ in range(1000)]
        for connection in half:
            connection.sendall(b"\x16\x03\x01\x02\x00\x01")
        times = []
        for _ in range(20):
            begun = time.monotonic()
            assert ask(service.port, "GET", "/who").status == 200
            times.append(time.monotonic() - begun)
        assert sorted(times)[10] < 0.25
        cut = half[: 1000 - preface.MOST_OPENING - 50]
        assert [connection.recv(100) for connection in cut] == [b""] * len(cut)


# --- files that do not load -------------------------------------------------------------------------------------------
@pytest.fixture
def own(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def spoil(own: Authority, change: str) -> dict[str, str]:
    settings = own.environment
    if change == "no such certificate":
        settings["DAEBUS_TLS_CERT"] += ".none"
    elif change == "no such key":
        own.key.unlink()
    elif change == "certificate is text":
        own.cert.write_text("hello")
    elif change == "certificate is empty":
        own.cert.write_text("")
    elif change == "certificate is cut":
        own.cert.write_bytes(own.cert.read_bytes()[:300])
    elif change == "key is a certificate":
        own.key.write_bytes(own.cert.read_bytes())
    elif change == "key is binary":
        own.key.write_bytes(bytes(range(256)))
    elif change == "another key":
        own.issue("other", cert=own.directory / "other.crt")
    elif change == "key is encrypted":
        encrypt(own, b"secret")
    elif change == "certificate is a folder":
        settings["DAEBUS_TLS_CERT"] = str(own.directory)
    elif change == "client CA is text":
        settings["DAEBUS_TLS_CLIENT_CA"] = str(own.directory / "text")
        (own.directory / "text").write_text("hello")
    elif change == "no such client CA":
        settings["DAEBUS_TLS_CLIENT_CA"] = "/none"
    elif change == "empty password":
        settings["DAEBUS_TLS_KEY_PASSWORD_FILE"] = str(own.directory / "password")
        (own.directory / "password").write_text("\n")
    elif change == "wrong password":
        encrypt(own, b"secret")
        settings["DAEBUS_TLS_KEY_PASSWORD_FILE"] = str(own.directory / "password")
        (own.directory / "password").write_text("other\n")
    elif change == "no key":
        del settings["DAEBUS_TLS_KEY"]
    elif change == "no certificate":
        del settings["DAEBUS_TLS_CERT"]
    elif change == "client CA alone":
        settings = {"DAEBUS_TLS_CLIENT_CA": str(own.ca_file)}
    return settings


def encrypt(own: Authority, password: bytes) -> None:
    key = serialization.load_pem_private_key(own.key.read_bytes(), None)
    form, secret = serialization.PrivateFormat.PKCS8, serialization.BestAvailableEncryption(password)
    own.key.write_bytes(key.private_bytes(serialization.Encoding.PEM, form, secret))


FAULTS = {
    "no such certificate": "DAEBUS_TLS_CERT: .* cannot be read: No such file",
    "no such key": "DAEBUS_TLS_KEY: .* cannot be read: No such file",
    "certificate is text": "DAEBUS_TLS_CERT: .* holds no certificate in PEM form",
    "certificate is empty": "DAEBUS_TLS_CERT: .* holds no certificate in PEM form",
    "certificate is cut": "DAEBUS_TLS_CERT: .* holds no certificate in PEM form",
    "key is a certificate": "DAEBUS_TLS_KEY: .* holds no key in PEM form",
    "key is binary": "DAEBUS_TLS_KEY: .* holds no key in PEM form",
    "another key": "DAEBUS_TLS_KEY: .* is not the key of the certificate in DAEBUS_TLS_CERT",
    "key is encrypted": "DAEBUS_TLS_KEY: .* DAEBUS_TLS_KEY_PASSWORD_FILE has its password",
    "certificate is a folder": "DAEBUS_TLS_CERT: .* cannot be read: Is a directory",
    "client CA is text": "DAEBUS_TLS_CLIENT_CA: .* holds no certificate in PEM form",
    "no such client CA": "DAEBUS_TLS_CLIENT_CA: '/none' cannot be read",
    "empty password": "DAEBUS_TLS_KEY_PASSWORD_FILE: .* holds no password",
    "wrong password": "DAEBUS_TLS_KEY: .* holds no key in PEM form",
    "no key": "DAEBUS_TLS_CERT is set, but not DAEBUS_TLS_KEY",
    "no certificate": "DAEBUS_TLS_KEY is set, but not DAEBUS_TLS_CERT",
    "client CA alone": "DAEBUS_TLS_CLIENT_CA is set, but not DAEBUS_TLS_CERT",
}


@pytest.mark.parametrize("change", FAULTS)
def test_a_file_that_does_not_load_names_its_setting(own: Authority, change: str) -> None:
    settings = load(environ=spoil(own, change)).settings
    with pytest.raises(ConfigurationError, match=FAULTS[change]):
        check(settings)


def test_it_stops_the_start_before_the_port_opens(
    start_process: Callable[..., ServiceProcess], free_port: int, own: Authority
) -> None:
    settings = {**spoil(own, "another key"), "DAEBUS_HTTP_PORT": str(free_port), "DAEBUS_EMBEDDED": "never"}
    process = start_process(PROGRAM, env=settings)
    assert process.wait() == 1
    assert process.count("daebus: cannot start: DAEBUS_TLS_KEY: ") == 1
    assert "Traceback" not in process.output
    assert not accepts(free_port)


def test_a_key_with_a_password(own: Authority, tmp_path: Path) -> None:
    encrypt(own, b"secret")
    (tmp_path / "password").write_text("secret\n")
    with _serving(tmp_path, own, DAEBUS_TLS_KEY_PASSWORD_FILE=str(tmp_path / "password")) as service:
        assert ask(service.port, "GET", "/who").status == 200


def test_clients_need_a_certificate_of_the_client_ca(own: Authority, tmp_path: Path) -> None:
    with _serving(tmp_path, own, DAEBUS_TLS_CLIENT_CA=str(own.ca_file)) as service:
        with pytest.raises((ssl.SSLError, ConnectionError, EOFError)):
            ask(service.port, "GET", "/who")
        (tmp_path / "foreign").mkdir()
        SECURED[service.port] = Authority(tmp_path / "foreign").client(with_certificate=True)
        SECURED[service.port].load_verify_locations(own.ca_file)
        with pytest.raises((ssl.SSLError, ConnectionError, EOFError)):
            ask(service.port, "GET", "/who")
        SECURED[service.port] = own.client(with_certificate=True)
        assert ask(service.port, "GET", "/who").status == 200
        with RawWebSocket(service.port):
            pass


def test_the_proxy_header_comes_before_the_handshake(own: Authority, tmp_path: Path) -> None:
    settings = {"DAEBUS_FORWARDED_ALLOW": "127.0.0.1", "DAEBUS_PROXY_PROTOCOL": "v1"}
    with _serving(tmp_path, own, **settings) as service:
        connection = RawConnection.__new__(RawConnection)
        outer = plain(service.port)
        outer.sendall(b"PROXY TCP4 203.0.113.9 10.0.0.1 4711 443\r\n")
        connection.socket, connection._buffer = own.client().wrap_socket(outer, server_hostname="localhost"), b""
        with connection:
            seen = connection.ask("GET", "/who").json
            assert seen == {"secure": True, "address": ["203.0.113.9", 4711]}


def test_gunicorns_own_certificate_options_work(
    start_process: Callable[..., ServiceProcess], free_port: int, own: Authority, tmp_path: Path
) -> None:
    program = 'from daebus import Daebus, DaebusHttp\napp = Daebus("s")\napp.attach(DaebusHttp())\n'
    (tmp_path / "s.py").write_text(program + 'app.route("/who")(lambda req: req.secure)\n')
    line = [sys.executable, "-m", "gunicorn", "-c", "python:daebus_runtime.gunicorn", "s:app"]
    options = ["--certfile", str(own.cert), "--keyfile", str(own.key)]
    env = {"DAEBUS_HTTP_PORT": str(free_port), "DAEBUS_EMBEDDED": "never"}
    process = start_process([*line, *options], directory=tmp_path, env=env)
    process.wait_line("service s started")
    SECURED[free_port] = own.client()
    assert ask(free_port, "GET", "/who").json is True
    del SECURED[free_port]


# --- files that change ------------------------------------------------------------------------------------------------
def mount(own: Authority, number: int) -> dict[str, str]:
    """The files as a Secret of Kubernetes is mounted: links into a folder, which is itself a link."""
    data = own.directory / f"..{number}"
    data.mkdir()
    own.issue(f"number {number}", data / "tls.crt", data / "tls.key")
    (own.directory / "..new").symlink_to(data.name)
    (own.directory / "..new").rename(own.directory / "..data")
    for name in ("tls.crt", "tls.key"):
        if number == 1:
            (own.directory / name).unlink()
            (own.directory / name).symlink_to(f"..data/{name}")
    return own.environment


def test_a_secret_replaced_under_load_is_served_to_the_next_connection_and_none_is_cut(
    own: Authority, tmp_path: Path
) -> None:
    mount(own, 1)
    with _serving(tmp_path, own) as service:
        served, stop = [0] * 8, list[bool]()

        def client(number: int) -> None:
            with RawConnection(service.port) as connection:
                while not stop:
                    assert connection.ask("GET", "/who").status == 200
                    served[number] += 1

        clients = [gevent.spawn(client, number) for number in range(8)]
        wait_until(lambda: min(served) > 5)
        assert certificate(service) == "number 1"
        mount(own, 2)
        wait_until(lambda: certificate(service) == "number 2", 10)
        before = list(served)
        wait_until(lambda: all(now > then + 5 for now, then in zip(served, before, strict=True)))
        stop.append(True)
        gevent.joinall(clients, raise_error=True, timeout=10)
        assert service.process.count("new TLS files are in use") == 1


def test_half_a_pair_is_not_used_and_said_once(own: Authority, tmp_path: Path) -> None:
    with _serving(tmp_path, own) as service:
        old = own.key.read_bytes()
        own.issue("second", key=own.directory / "second.key")
        service.process.wait_line("the changed TLS files are not used; .*DAEBUS_TLS_KEY")
        for _ in range(3):
            assert certificate(service) == "first"
        assert own.key.read_bytes() == old
        own.key.write_bytes((own.directory / "second.key").read_bytes())
        wait_until(lambda: certificate(service) == "second", 10)
        own.key.unlink()
        service.process.wait_line("DAEBUS_TLS_KEY: .* cannot be read: No such file")
        assert certificate(service) == "second"
        assert service.process.count("the changed TLS files are not used") == 2
        assert "Traceback" not in service.process.output
