"""Runs the `on_start` and `on_stop` hooks one after the other. If one fails, it is logged and the others still run."""

from __future__ import annotations

import time

import gevent

from . import context
from .dispatch.guard import FAULTS
from .logs import runtime_logger
from .registry import Hook, Registry

SPARE_SECONDS = 0.5  # time that a hanging hook must leave to each hook after it


def run_start_hooks(app: context.Service, registry: Registry) -> None:
    """Run the `on_start` hooks in the order of declaration."""
    for hook in _hooks(registry, "on_start"):
        _run(app, hook)


def run_stop_hooks(app: context.Service, registry: Registry, seconds: float) -> None:
    """Run the `on_stop` hooks in the order of declaration, all of them within `seconds`.

    A hook that hangs is cut off and logged, early enough for the hooks after it to run.
    """
    end = time.monotonic() + seconds
    hooks = _hooks(registry, "on_stop")
    for later, hook in zip(range(len(hooks) - 1, -1, -1), hooks, strict=True):
        left = max(0.0, end - time.monotonic())
        share = left - later * min(SPARE_SECONDS, left / (later + 1))
        # In its own greenlet, because a hanging hook may also swallow the exception that should end it.
        running = gevent.spawn(_run, app, hook)
        running.join(share)
        if not running.ready():
            runtime_logger.warning("an on_stop hook did not end in time and is cut off: %s", hook.where)
            running.kill(block=False)


def _hooks(registry: Registry, kind: str) -> list[Hook]:
    return [hook for hook in registry.all(Hook) if hook.event == kind]


def _run(app: context.Service, hook: Hook) -> None:
    try:
        context.call_in_context(context.Context(app), hook.function)
    except FAULTS:
        runtime_logger.exception("a hook failed: %s at %s", hook.event, hook.where)
