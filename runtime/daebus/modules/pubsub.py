"""A message on the bus and its answers, where the original has them."""

from __future__ import annotations

from daebus_runtime import PubSubRequest, PubSubResponse

__all__ = ["PubSubRequest", "PubSubResponse"]
