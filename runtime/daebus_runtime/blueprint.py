"""A part of a service, declared apart and registered on the application. Knows nothing of how it is run."""

from __future__ import annotations

from . import logs
from .errors import RegistrationError
from .registry import Declarations


class Blueprint(Declarations):
    """Handlers under one name; `url_prefix` stands before the paths of its routes.

    The decorators are those of the application. What is declared after
    `register_blueprint` and before the service starts counts too.
    """

    def __init__(self, name: str, url_prefix: str = "") -> None:
        super().__init__()
        if url_prefix and not url_prefix.startswith("/"):
            raise RegistrationError(f"the url_prefix of blueprint {name!r} starts with '/': {url_prefix!r}")
        self.name = name
        self.logger = logs.logger
        self.url_prefix = url_prefix.rstrip("/")
