"""What stands before the HTTP and WebSocket ports of a service, from its settings and from gunicorn's command line."""

from __future__ import annotations

from typing import Any

from gunicorn.sock import ssl_context

from ...errors import ConfigurationError
from ...settings import Settings
from . import proxyprotocol
from .connection import HttpConnection
from .preface import Preface
from .secure import SecureConnection
from .tls import Files, Fixed, Tls
from .trust import Trust


class Front:
    """cfg: gunicorn's configuration. Proxies that its command line names count as well as those of the settings; TLS
    and PROXY protocol of the command line replace them. ConfigurationError."""

    def __init__(self, settings: Settings, cfg: Any) -> None:
        entries = (*cfg.forwarded_allow_ips, *(settings.forwarded_allow or ()))
        self.trust = Trust(entries) if entries else None
        self.tls = _tls(settings, cfg)
        proxy_protocol = cfg.proxy_protocol if cfg.proxy_protocol != proxyprotocol.OFF else settings.proxy_protocol
        if proxy_protocol != proxyprotocol.OFF and self.trust is None:
            raise ConfigurationError(
                "DAEBUS_PROXY_PROTOCOL is on, but no proxy may send its header: name them in DAEBUS_FORWARDED_ALLOW"
            )
        self.connection = HttpConnection if self.tls is None else SecureConnection
        needed = self.tls is not None or proxy_protocol != proxyprotocol.OFF
        self.preface = Preface(self.trust, proxy_protocol, self.tls) if needed else None

    def look(self) -> None:
        """Called every second: read TLS files again if they have changed."""
        if self.tls is not None:
            self.tls.look()


def _tls(settings: Settings, cfg: Any) -> Tls | None:
    if cfg.is_ssl:
        return Fixed(ssl_context(cfg))
    files = Files.of(settings)
    return Tls(files) if files is not None else None
