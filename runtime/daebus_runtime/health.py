"""`python -m daebus_runtime.health`: checks the health of a service on this machine. For images without curl.

    python -m daebus_runtime.health              /readyz: is it ready for work?
    python -m daebus_runtime.health --live       /livez: does its loop turn?
    python -m daebus_runtime.health --url URL    another address, for example a route of the service
    python -m daebus_runtime.health --post --url URL    with POST, for a route that does something, as `helm test` does
    python -m daebus_runtime.health --insecure --url URL    with https:// and whatever certificate

Prints one line. Exit code: 0 healthy, 1 not healthy or no answer within 2 s, 2 no management port is set. It runs every
few seconds beside a service, so it uses only the standard library, without gevent.
"""

from __future__ import annotations

import argparse
import http.client
import os
import sys
import urllib.parse
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from . import printable
from .errors import ConfigurationError
from .settings import parse

if TYPE_CHECKING:
    import ssl

SECONDS = 2.0
HEALTHY, UNHEALTHY, NOT_CONFIGURED = 0, 1, 2
PORTS = {"http": 80, "https": 443}
EVERYWHERE = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}


def management_address(environ: Mapping[str, str] | None = None) -> tuple[str, int] | None:
    """The address of the management port on this machine; None if it is off. ConfigurationError for a bad value."""
    environ = os.environ if environ is None else environ
    text = environ.get("DAEBUS_MANAGEMENT_PORT")
    if not text:
        return None
    host = environ.get("DAEBUS_MANAGEMENT_HOST", "")
    host = parse("management_host", host, "DAEBUS_MANAGEMENT_HOST") if host else host
    return EVERYWHERE.get(host, host), parse("management_port", text, "DAEBUS_MANAGEMENT_PORT")


def ask(
    host: str, port: int, path: str, method: str = "GET", seconds: float = SECONDS, tls: ssl.SSLContext | None = None
) -> tuple[bool, str]:
    """Returns whether `path` is answered with a 2xx status, and the first line of the answer or the error."""
    connection = http.client.HTTPConnection(host, port, timeout=seconds)
    if tls is not None:
        connection = http.client.HTTPSConnection(host, port, timeout=seconds, context=tls)
    try:
        try:
            connection.connect()
        except OSError:
            if host != EVERYWHERE["::"]:
                raise
            # On a machine without IPv6 the service listens on IPv4 only.
            connection = http.client.HTTPConnection(EVERYWHERE["0.0.0.0"], port, timeout=seconds)
        connection.request(method, path, headers={"Connection": "close"})
        answer = connection.getresponse()
        text = answer.read(4096).decode("utf-8", "replace").strip()
    except TimeoutError:
        return False, f"no answer within {seconds:g} s"
    except (OSError, http.client.HTTPException) as error:
        return False, getattr(error, "strerror", None) or str(error) or type(error).__name__
    finally:
        connection.close()
    return 200 <= answer.status < 300, f"{answer.status} {text.splitlines()[0] if text else answer.reason}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    parser = argparse.ArgumentParser(prog="python -m daebus_runtime.health", description="How is the service here?")
    parser.add_argument(
        "--live", action="store_true", help="ask /livez (is it alive) instead of /readyz (can it take work)"
    )
    parser.add_argument("--url", help="where to ask; default http://127.0.0.1:$DAEBUS_MANAGEMENT_PORT")
    parser.add_argument("--insecure", action="store_true", help="do not check the certificate of an https:// URL")
    parser.add_argument("--post", action="store_true", help="send POST instead of GET; needs --url")
    options = parser.parse_args(arguments)
    if options.post and not options.url:
        return _say(NOT_CONFIGURED, "--post: the management port accepts no POST; name a route that does with --url")
    path = "/livez" if options.live else "/readyz"
    try:
        address = _address_of(options.url) if options.url else management_address()
    except ConfigurationError as error:
        return _say(NOT_CONFIGURED, str(error))
    if address is None:
        return _say(
            NOT_CONFIGURED, "no management port: set DAEBUS_MANAGEMENT_PORT for the service and for this command"
        )
    if options.url:
        path = urllib.parse.urlsplit(options.url).path.rstrip("/") or path
    tls = _tls(options.insecure) if (options.url or "").lower().startswith("https:") else None
    healthy, text = ask(*address, path, "POST" if options.post else "GET", tls=tls)
    return _say(HEALTHY if healthy else UNHEALTHY, f"{path}: {text}")


def _address_of(url: str) -> tuple[str, int]:
    parts = urllib.parse.urlsplit(url)
    try:
        if parts.scheme in PORTS and parts.hostname:
            return parts.hostname, parts.port or PORTS[parts.scheme]
    except ValueError:
        pass
    raise ConfigurationError(f"--url: {url!r} is not http://host:port[/path]")


def _tls(insecure: bool) -> ssl.SSLContext:
    import ssl  # a probe of the management port needs none

    context = ssl.create_default_context()
    if insecure:
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def _say(code: int, text: str) -> int:
    sys.stdout.write(printable.text(text, sys.stdout.encoding) + "\n")
    return code


if __name__ == "__main__":
    sys.exit(main())
