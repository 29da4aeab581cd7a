"""A part of a service, declared separately and registered on the application. Knows nothing of how it runs."""

from __future__ import annotations

from . import logs
from .errors import RegistrationError
from .registry import Declarations


class Blueprint(Declarations):
    """A group of handlers with a name; `url_prefix` is put before the paths of its routes.

    It has the same decorators as the application. Declarations after `register_blueprint` count too, until the service
    starts.
    """

    def __init__(self, name: str, url_prefix: str = "") -> None:
        super().__init__()
        if url_prefix and not url_prefix.startswith("/"):
            raise RegistrationError(f"the url_prefix of blueprint {name!r} starts with '/': {url_prefix!r}")
        self.name = name
        self.logger = logs.logger
        self.url_prefix = url_prefix.rstrip("/")
