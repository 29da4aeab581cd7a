"""What servers need to know of their service, fixed when the service starts. Values only, no logic."""

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
    """service: for new contexts. blocking: runs `blocking=True` handlers. draining: whether the service is stopping.
    http, websocket: the attached DaebusHttp and DaebusWebSocket, or None."""

    service: Service
    registry: Registry
    settings: Settings
    metrics: Metrics
    blocking: BlockingPool
    http: Any = None
    websocket: Any = None
    draining: Callable[[], bool] = bool
