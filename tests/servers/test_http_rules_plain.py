"""The rules of test_http_rules.py, without the extra `fast`."""

from __future__ import annotations

import textwrap

from tests.servers.rules import service as rules
from tests.servers.test_http_rules import (
    test_a_request_gets_its_answers_and_the_connection_ends_or_goes_on,
    test_half_a_request_is_400_and_the_end,
)

PROGRAM = 'import sys\n\nsys.modules["orjson"] = None\n' + textwrap.dedent(rules.PROGRAM)
ENVIRONMENT = rules.ENVIRONMENT
HTTPS = False

__all__ = [
    "test_a_request_gets_its_answers_and_the_connection_ends_or_goes_on",
    "test_half_a_request_is_400_and_the_end",
]
