"""Every rule of RFC 9110 and 9112 for a server, on the wire, also over HTTPS: see rules/."""

from __future__ import annotations

import pytest

from tests.servers.conftest import Service
from tests.servers.raw import RawConnection
from tests.servers.rules import INCOMPLETE, RULES, Rule, names
from tests.servers.rules.service import ENVIRONMENT, PROGRAM, ends, obeys  # noqa: F401

HTTPS = True
CASES, HALVES = names(RULES), names(INCOMPLETE)


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
