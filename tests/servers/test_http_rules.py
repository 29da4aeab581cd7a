"""Every rule of RFC 9110 and 9112 for a server, on the wire: with the extra `fast`, without, over HTTPS. See rules/."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator

import pytest
from daebus_runtime import codec

from tests.servers.conftest import Service, running
from tests.servers.raw import RawConnection
from tests.servers.rules import INCOMPLETE, RULES, Rule, names
from tests.servers.rules.service import ENVIRONMENT, PROGRAM, ends, obeys

HTTPS = False  # the fixture below has its own kinds of service
PLAIN = """\
import sys

sys.modules["orjson"] = None
"""
CASES, HALVES = names(RULES), names(INCOMPLETE)


@pytest.fixture(scope="module", params=["with fast", "without fast", "https"])
def service(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    if request.param == "with fast" and codec.fast is None:
        pytest.skip("orjson, the extra `fast`, is not installed")
    program = (PLAIN if request.param == "without fast" else "") + textwrap.dedent(PROGRAM)
    folder = tmp_path_factory.mktemp("rules")
    with running(program, folder, ENVIRONMENT, https=request.param == "https") as one:
        yield one


def test_there_are_enough_of_them() -> None:
    assert len({request for _, _, request in CASES}) >= 250


@pytest.mark.parametrize(("rule", "request_"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_a_request_gets_its_answers_and_the_connection_ends_or_goes_on(
    service: Service, rule: Rule, request_: bytes
) -> None:
    with RawConnection(service.port) as connection:
        obeys(connection, rule, request_)


@pytest.mark.parametrize(("rule", "request_"), [case[1:] for case in HALVES], ids=[case[0] for case in HALVES])
def test_half_a_request_is_400_and_the_end(service: Service, rule: Rule, request_: bytes) -> None:
    with RawConnection(service.port) as connection:
        ends(connection, rule, request_)


def test_the_only_faults_are_those_of_the_handler_that_fails(service: Service) -> None:
    with RawConnection(service.port) as connection:
        assert connection.ask("GET", "/fails").status == 500
    assert service.process.count("Traceback") == service.process.count("ValueError: the secret of the house")
