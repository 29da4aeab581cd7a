"""What a server is told of the service it serves, once, when the service starts. Holds values, decides nothing."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from .context import Service
from .dispatch.blocking import BlockingPool
from .metrics import Metrics
from .registry import Registry
from .settings import Settings


@dataclasses.dataclass(frozen=True, kw_only=True)
class Running:
    """service: what contexts are made for. blocking: where `blocking=True` handlers run. draining: whether the service
    is stopping by now. http, websocket: the attached DaebusHttp and DaebusWebSocket, each None without one."""

    service: Service
    registry: Registry
    settings: Settings
    metrics: Metrics
    blocking: BlockingPool
    http: Any = None
    websocket: Any = None
    draining: Callable[[], bool] = bool
