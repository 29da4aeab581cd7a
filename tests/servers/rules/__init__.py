"""The rules of HTTP/1.1 for a server, in tables. Importing this package fills RULES and INCOMPLETE."""

from . import connections, contents, first_lines, header_fields  # noqa: F401
from .rule import BODY_LIMIT, FOLLOWING, INCOMPLETE, RULES, Rule, names

__all__ = ["BODY_LIMIT", "FOLLOWING", "INCOMPLETE", "RULES", "Rule", "names"]
